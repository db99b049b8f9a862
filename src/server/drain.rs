//! The end of serving, in three steps that everything under way can see.

use std::time::Duration;

use tokio::sync::watch;

/// How to stop: readiness off for `delay`, then up to `drain` for what is in flight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shutdown {
    pub(crate) delay: Duration,
    pub(crate) drain: Duration,
}

/// Where the process is on its way from serving to gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Serving,
    /// Still serving, but telling load balancers to go elsewhere.
    Unready,
    /// No new connections; what is in flight ends.
    Draining,
    /// What has not ended by now is cut.
    Cut,
}

/// A view of the stage.
#[derive(Clone, Debug)]
pub(crate) struct Drain(watch::Receiver<Stage>);

/// The hand that moves the stage on.
pub(crate) fn channel() -> (watch::Sender<Stage>, Drain) {
    let (sender, receiver) = watch::channel(Stage::Serving);
    (sender, Drain(receiver))
}

impl Drain {
    pub(crate) fn stage(&self) -> Stage {
        *self.0.borrow()
    }

    /// Ends once `stage` is reached, or nobody is left to move it.
    // A function of its own, because `wait_for` gives a guard that a `select!` arm would keep.
    pub(crate) async fn reached(&mut self, stage: Stage) {
        let _ = self.0.wait_for(|now| *now >= stage).await;
    }
}
