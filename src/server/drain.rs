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

/// Reads the stage of the process, or of a listener that is removed before the process ends.
#[derive(Clone, Debug)]
pub(crate) struct Drain {
    process: watch::Receiver<Stage>,
    listener: Option<watch::Receiver<Stage>>,
}

/// The sender moves the stage on.
pub(crate) fn channel() -> (watch::Sender<Stage>, Drain) {
    let (sender, receiver) = watch::channel(Stage::Serving);
    (sender, Drain { process: receiver, listener: None })
}

impl Drain {
    /// That of a listener, which has reached a stage where either has. The sender moves the listener on.
    pub(crate) fn of_listener(&self) -> (watch::Sender<Stage>, Self) {
        let (sender, receiver) = watch::channel(Stage::Serving);
        (sender, Self { process: self.process.clone(), listener: Some(receiver) })
    }

    /// The stage of the process.
    pub(crate) fn stage(&self) -> Stage {
        *self.process.borrow()
    }

    /// Ends once `stage` is reached, or the sender is dropped.
    pub(crate) async fn reached(&mut self, stage: Stage) {
        match &mut self.listener {
            None => reached(&mut self.process, stage).await,
            Some(listener) => tokio::select! {
                () = reached(&mut self.process, stage) => {}
                () = reached(listener, stage) => {}
            },
        }
    }
}

// A separate function: `wait_for` returns a guard that a `select!` arm would hold.
async fn reached(receiver: &mut watch::Receiver<Stage>, stage: Stage) {
    let _ = receiver.wait_for(|now| *now >= stage).await;
}
