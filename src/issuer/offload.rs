//! Slow cryptography off the worker threads: a few threads, a bounded queue, and a clear no when it is full.

use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Semaphore;

/// RSA signatures and password hashes run here, and nothing else: a slow name server must not stand in their way.
#[derive(Debug)]
pub(crate) struct Offload {
    handle: Handle,
    places: Semaphore,
}

/// The queue is full; the caller should come back.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("too much is waiting to be signed or hashed")]
pub(crate) struct Busy;

/// How many may wait or run: about 80 ms of RSA signatures on one core.
const PLACES: usize = 256;
const IDLE_THREADS_LIVE: Duration = Duration::from_secs(60);

impl Offload {
    pub(crate) fn new(handle: Handle) -> Self {
        Self { handle, places: Semaphore::new(PLACES) }
    }

    /// The runtime whose blocking threads do the work; it needs no one to drive it.
    pub(crate) fn runtime(threads: usize) -> std::io::Result<Runtime> {
        Builder::new_current_thread()
            .max_blocking_threads(threads)
            .thread_keep_alive(IDLE_THREADS_LIVE)
            .thread_name("offload")
            .build()
    }

    /// Runs `work` on another thread. Dropping the future leaves the work to end by itself.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Busy> {
        let _place = self.places.try_acquire().map_err(|_| Busy)?;
        // The work can only fail to end where it panics or the process is ending.
        self.handle.spawn_blocking(work).await.map_err(|_| Busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_queue_says_no_at_once() {
        let runtime = Offload::runtime(1).unwrap();
        let offload = Offload::new(runtime.handle().clone());
        let places: Vec<_> = (0..PLACES).map(|_| offload.places.try_acquire().unwrap()).collect();
        assert_eq!(offload.run(|| ()).await, Err(Busy));
        drop(places);
        assert_eq!(offload.run(|| 7).await, Ok(7));
        runtime.shutdown_background();
    }
}
