//! Runs slow cryptography outside the worker threads: a few threads and a bounded queue. If the queue is full, the work
//! is refused.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Semaphore;

/// Signatures and password hashes have one each, and nothing else uses them: neither a slow name server nor many wrong
/// passwords must delay signing.
#[derive(Clone, Debug)]
pub(crate) struct Offload {
    handle: Handle,
    slots: Arc<Semaphore>,
}

/// The queue is full. The caller should retry later.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many signatures or password hashes are waiting")]
pub(crate) struct Busy;

/// The number of signatures that may wait or run: about 300 ms of RSA on one core. A refused client retries, which
/// costs more than waiting.
pub(crate) const SIGNATURES: usize = 1024;
/// The number of password hashes that may wait or run: about one second on two threads, and 19 MiB for each that runs.
pub(crate) const PASSWORDS: usize = 64;
const IDLE_THREADS_LIVE: Duration = Duration::from_secs(60);

impl Offload {
    pub(crate) fn new(handle: Handle, slots: usize) -> Self {
        Self { handle, slots: Arc::new(Semaphore::new(slots)) }
    }

    /// The runtime whose blocking threads do the work. Nothing has to drive it.
    pub(crate) fn runtime(threads: usize) -> std::io::Result<Runtime> {
        builder(threads).build()
    }

    /// As [`Self::runtime`], on threads with a low priority: unauthenticated clients determine the amount of work.
    pub(crate) fn low_priority_runtime(threads: usize) -> std::io::Result<Runtime> {
        builder(threads).on_thread_start(lower_priority).build()
    }

    /// Runs `work` on another thread. If the future is dropped, the work still runs and keeps its slot: a client that
    /// disconnects does not free it.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Busy> {
        let slot = Arc::clone(&self.slots).try_acquire_owned().map_err(|_| Busy)?;
        let work = move || {
            let done = work();
            drop(slot);
            done
        };
        // This fails only if the work panics or the process ends.
        self.handle.spawn_blocking(work).await.map_err(|_| Busy)
    }
}

fn builder(threads: usize) -> Builder {
    let mut builder = Builder::new_current_thread();
    builder.max_blocking_threads(threads).thread_keep_alive(IDLE_THREADS_LIVE).thread_name("offload");
    builder
}

/// About a tenth of the scheduler weight of the threads that serve requests.
#[cfg(target_os = "linux")]
const NICE_INCREMENT: i32 = 10;
#[cfg(target_os = "linux")]
const MAX_NICE: i32 = 19;

/// Only on Linux is the priority that of the thread; elsewhere it is that of the process.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{getpriority_process, setpriority_process};
        let lowered =
            getpriority_process(None).and_then(|own| setpriority_process(None, (own + NICE_INCREMENT).min(MAX_NICE)));
        if let Err(error) = lowered {
            tracing::warn!(%error, "cannot lower the priority of the threads for password hashes: they compete with requests for the processor");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_queue_says_no_at_once() {
        let runtime = Offload::runtime(1).unwrap();
        let offload = Offload::new(runtime.handle().clone(), 4);
        let slots: Vec<_> = (0..4).map(|_| offload.slots.try_acquire().unwrap()).collect();
        assert_eq!(offload.run(|| ()).await, Err(Busy));
        drop(slots);
        assert_eq!(offload.run(|| 7).await, Ok(7));
        runtime.shutdown_background();
    }

    #[tokio::test]
    async fn a_client_that_disconnects_does_not_free_its_slot() {
        let runtime = Offload::runtime(1).unwrap();
        let offload = Offload::new(runtime.handle().clone(), 1);
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let mut gone = Box::pin(offload.run(move || wait.recv()));
        assert!(poll_once(&mut gone).is_none());
        drop(gone);
        assert_eq!(offload.run(|| ()).await, Err(Busy));
        go.send(()).unwrap();
        runtime.shutdown_background();
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn only_the_threads_of_a_patient_runtime_stand_back() {
        let nice = || rustix::process::getpriority_process(None).unwrap();
        let mine = nice();
        let lower = (mine + NICE_INCREMENT).min(MAX_NICE);
        for (runtime, expected) in [(Offload::runtime(1), mine), (Offload::low_priority_runtime(1), lower)] {
            let runtime = runtime.unwrap();
            assert_eq!(Offload::new(runtime.handle().clone(), 1).run(nice).await, Ok(expected));
            runtime.shutdown_background();
        }
        assert_eq!(nice(), mine);
    }

    fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        use std::task::{Context, Poll, Waker};
        match std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }
}
