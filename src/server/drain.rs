//! The stages of a graceful shutdown, published to all tasks.

use std::time::Duration;

use tokio::sync::watch;

/// The timing of a shutdown: not ready for `delay`, then up to `drain` for requests in flight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shutdown {
    pub(crate) delay: Duration,
    pub(crate) drain: Duration,
}

/// The stage of the shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Serving,
    /// Still serving, but `/readyz` fails, so that load balancers send no new requests.
    Unready,
    /// No new connections. Requests in flight are finished.
    Draining,
    /// The drain timeout has passed: the remaining connections are closed.
    Cut,
}

/// Reads the stage.
#[derive(Clone, Debug)]
pub(crate) struct Drain(watch::Receiver<Stage>);

/// The sender moves the stage on.
pub(crate) fn channel() -> (watch::Sender<Stage>, Drain) {
    let (sender, receiver) = watch::channel(Stage::Serving);
    (sender, Drain(receiver))
}

impl Drain {
    pub(crate) fn stage(&self) -> Stage {
        *self.0.borrow()
    }

    /// Ends once `stage` is reached, or the sender is dropped.
    // A separate function: `wait_for` returns a guard that a `select!` arm would hold.
    pub(crate) async fn reached(&mut self, stage: Stage) {
        let _ = self.0.wait_for(|now| *now >= stage).await;
    }
}
