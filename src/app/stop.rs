//! The signals, and the graceful shutdown: not ready, a delay, the drain, and at last the cut.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{error, info, warn};

use super::service_manager::{Notification, ServiceManager};
use super::start_error::StartError;
use super::workers::Workers;
use crate::server::drain::{Shutdown, Stage};

/// The time for workers to end after the drain timeout.
const WORKER_TIMEOUT: Duration = Duration::from_secs(5);

/// Waits for a stop signal, then shuts down: not ready during the delay, then no new connections during the drain, then
/// the cut. A second signal goes straight to the cut.
pub(super) async fn wait_for_stop_signal(
    mut signals: Signals,
    stage: &watch::Sender<Stage>,
    shutdown: &ArcSwap<Shutdown>,
    reopen_audit: &AtomicBool,
    manager: &ServiceManager,
    workers: Workers,
) -> Result<(), StartError> {
    let ended = async {
        for (thread, ended) in workers {
            let _ = ended.await;
            let _ = thread.join();
        }
    };
    tokio::pin!(ended);
    tokio::select! {
        () = signals.stop(reopen_audit) => {}
        () = &mut ended => return Err(StartError::Workers),
    }
    let shutdown = **shutdown.load();
    info!(delay_s = shutdown.delay.as_secs(), drain_s = shutdown.drain.as_secs(), "shutting down");
    let limit = (shutdown.delay + shutdown.drain).as_secs();
    manager.notify(Notification::Stopping(format!("shutting down: requests in flight have up to {limit} s")));
    let steps = [(Stage::Unready, shutdown.delay), (Stage::Draining, shutdown.drain)];
    for (next, pause) in steps {
        stage.send_replace(next);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = signals.stop(reopen_audit) => break,
            () = &mut ended => return Ok(()),
        }
    }
    warn!("the drain has ended: the remaining requests are cut");
    stage.send_replace(Stage::Cut);
    if timeout(WORKER_TIMEOUT, ended).await.is_err() {
        error!("a worker did not end within 5 s: its last audit lines are lost");
    }
    Ok(())
}

/// The signals that stop the gateway, and the others.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    harmless: Harmless,
}

/// The signals that must never end the process. `SIGPIPE` is ignored by the standard library.
pub(crate) struct Harmless {
    reopen: Signal,
    user2: Signal,
    /// Never read. While this signal is caught, exceeding the file size limit is an error of the write.
    _file_size: Signal,
}

/// SIGXFSZ.
const FILE_SIZE: i32 = 25;

impl Harmless {
    /// Must be called inside a runtime.
    pub(super) fn catch() -> io::Result<Self> {
        Ok(Self {
            reopen: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
            _file_size: signal(SignalKind::from_raw(FILE_SIZE))?,
        })
    }

    /// Never ends.
    async fn answer(&mut self, reopen_audit: &AtomicBool) {
        loop {
            tokio::select! {
                _ = self.reopen.recv() => reopen_audit.store(true, Ordering::Relaxed),
                _ = self.user2.recv() => warn!("SIGUSR2 has no meaning here: it changes nothing"),
            }
        }
    }
}

impl Signals {
    /// Must be called inside a runtime. From here on, a stop signal waits until [`wait_for_stop_signal`] handles it.
    pub(super) fn catch(harmless: Harmless) -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            harmless,
        })
    }

    /// Ends with the next stop signal. Handles the other signals meanwhile.
    async fn stop(&mut self, reopen_audit: &AtomicBool) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.quit.recv() => {}
            () = self.harmless.answer(reopen_audit) => {}
        }
    }
}
