//! Slow cryptography off the worker threads: a few threads, a bounded queue, and a clear no when it is full.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Semaphore;

/// Signatures run in one, password hashes in another, and nothing else in either: neither a slow name server nor a flood of
/// wrong passwords must stand in the way of signing.
#[derive(Debug)]
pub(crate) struct Offload {
    handle: Handle,
    places: Arc<Semaphore>,
}

/// The queue is full; the caller should come back.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("too much is waiting to be signed or hashed")]
pub(crate) struct Busy;

/// How many signatures may wait or run: about 300 ms of RSA on one core. A refused client asks again, which costs more than its place.
pub(crate) const SIGNATURES: usize = 1024;
/// How many passwords may wait or be hashed: about a second on two threads, and 19 MiB for each that runs.
pub(crate) const PASSWORDS: usize = 64;
const IDLE_THREADS_LIVE: Duration = Duration::from_secs(60);

impl Offload {
    pub(crate) fn new(handle: Handle, places: usize) -> Self {
        Self { handle, places: Arc::new(Semaphore::new(places)) }
    }

    /// The runtime whose blocking threads do the work; it needs no one to drive it.
    pub(crate) fn runtime(threads: usize) -> std::io::Result<Runtime> {
        builder(threads).build()
    }

    /// As [`Self::runtime`], on threads that stand back where others want the core: strangers choose how much there is to do.
    pub(crate) fn patient_runtime(threads: usize) -> std::io::Result<Runtime> {
        builder(threads).on_thread_start(stand_back).build()
    }

    /// Runs `work` on another thread. Dropping the future leaves the work to end by itself, in its place: hanging up makes no
    /// room.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Busy> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| Busy)?;
        let work = move || {
            let done = work();
            drop(place);
            done
        };
        // The work can only fail to end where it panics or the process is ending.
        self.handle.spawn_blocking(work).await.map_err(|_| Busy)
    }
}

fn builder(threads: usize) -> Builder {
    let mut builder = Builder::new_current_thread();
    builder.max_blocking_threads(threads).thread_keep_alive(IDLE_THREADS_LIVE).thread_name("offload");
    builder
}

/// Lower than that of the threads that serve requests: about a tenth of their weight.
#[cfg(target_os = "linux")]
const NICER: i32 = 10;
#[cfg(target_os = "linux")]
const NICEST: i32 = 19;

/// On Linux a priority is a thread's own; elsewhere it would be the whole process's.
fn stand_back() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{getpriority_process, setpriority_process};
        let lowered = getpriority_process(None).and_then(|own| setpriority_process(None, (own + NICER).min(NICEST)));
        if let Err(error) = lowered {
            tracing::warn!(%error, "password hashes compete with requests: their threads' priority can't be lowered");
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
        let places: Vec<_> = (0..4).map(|_| offload.places.try_acquire().unwrap()).collect();
        assert_eq!(offload.run(|| ()).await, Err(Busy));
        drop(places);
        assert_eq!(offload.run(|| 7).await, Ok(7));
        runtime.shutdown_background();
    }

    #[tokio::test]
    async fn hanging_up_makes_no_room() {
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
        let lower = (mine + NICER).min(NICEST);
        for (runtime, expected) in [(Offload::runtime(1), mine), (Offload::patient_runtime(1), lower)] {
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
