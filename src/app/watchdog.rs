//! The watchdog of the service manager: it restarts a gateway whose workers do not turn.
//!
//! Every worker beats on its own event loop. One task of the control plane looks for the beats of all of them, twice in
//! the time that the service manager waits (`WATCHDOG_USEC`), and reports only if none is missing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{interval, sleep};
use tracing::error;

use super::service_manager::{Notification, ServiceManager};
use crate::server::drain::{Drain, Stage};

/// The time between two reports, if the service manager wants them.
#[derive(Clone, Copy, Debug)]
pub(super) struct WatchdogInterval(Duration);

/// The beats of one worker. Dropped with the worker's background tasks.
#[derive(Debug)]
pub(super) struct Heartbeat {
    beats: Arc<AtomicU64>,
    every: Duration,
}

/// The beats of all workers, as the control plane sees them.
#[derive(Debug)]
pub(super) struct Watchdog {
    interval: WatchdogInterval,
    workers: Vec<BeatCount>,
}

#[derive(Debug)]
struct BeatCount {
    beats: Arc<AtomicU64>,
    seen: u64,
}

/// Beats between two reports.
const BEATS: u32 = 4;
/// A shorter interval would only cost time.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(20);

impl WatchdogInterval {
    /// `None` if the service manager watches nothing.
    pub(super) fn of_process() -> Option<Self> {
        std::env::var_os("NOTIFY_SOCKET")?;
        sd_notify::watchdog_enabled().map(|limit| Self((limit / 2).max(SHORTEST_INTERVAL)))
    }
}

impl Watchdog {
    pub(super) fn new(interval: WatchdogInterval) -> Self {
        Self { interval, workers: Vec::new() }
    }

    /// For one more worker.
    pub(super) fn heartbeat(&mut self) -> Heartbeat {
        let beats = Arc::new(AtomicU64::new(0));
        self.workers.push(BeatCount { beats: Arc::clone(&beats), seen: 0 });
        Heartbeat { beats, every: self.interval.0 / BEATS }
    }

    /// Reports as long as the workers turn. Never ends.
    pub(super) async fn run(mut self, manager: ServiceManager, drain: Drain) {
        let mut ticks = interval(self.interval.0);
        // The first is immediate.
        ticks.tick().await;
        loop {
            ticks.tick().await;
            match self.stalled(drain.stage() >= Stage::Draining) {
                None => manager.notify(Notification::Watchdog),
                Some(number) => error!(
                    worker = number,
                    "the event loop of a worker has not run for {:?}: the service manager gets no WATCHDOG=1",
                    self.interval.0
                ),
            }
        }
    }

    /// The first worker without a beat since the last call. `may_end`: a worker that has ended is not missed.
    fn stalled(&mut self, may_end: bool) -> Option<usize> {
        let mut stalled = None;
        for (number, worker) in self.workers.iter_mut().enumerate() {
            let beats = worker.beats.load(Ordering::Relaxed);
            let has_ended = Arc::strong_count(&worker.beats) == 1;
            if beats == worker.seen && !(has_ended && may_end) {
                stalled.get_or_insert(number);
            }
            worker.seen = beats;
        }
        stalled
    }
}

impl Heartbeat {
    /// Never ends.
    pub(super) async fn run(self) {
        loop {
            self.beats.fetch_add(1, Ordering::Relaxed);
            sleep(self.every).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_worker_that_does_not_turn_is_noticed() {
        let mut watchdog = Watchdog::new(WatchdogInterval(Duration::from_secs(1)));
        let hearts = [watchdog.heartbeat(), watchdog.heartbeat()];
        let beat = |at: usize| hearts[at].beats.fetch_add(1, Ordering::Relaxed);
        assert_eq!(watchdog.stalled(false), Some(0), "none has begun");
        beat(0);
        beat(1);
        assert_eq!(watchdog.stalled(false), None);
        beat(0);
        assert_eq!(watchdog.stalled(false), Some(1));
        beat(0);
        assert_eq!(watchdog.stalled(true), Some(1), "it drains, and has not ended");
        let [first, second] = hearts;
        drop(second);
        first.beats.fetch_add(1, Ordering::Relaxed);
        assert_eq!(watchdog.stalled(true), None, "the other has ended");
        drop(first);
        assert_eq!(watchdog.stalled(false), Some(0), "no worker ends while the gateway serves");
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_beats_several_times_between_two_reports() {
        let mut watchdog = Watchdog::new(WatchdogInterval(Duration::from_secs(1)));
        let beats = watchdog.heartbeat().run();
        let watches = async {
            for _ in 0..3 {
                sleep(Duration::from_secs(1)).await;
                assert_eq!(watchdog.stalled(false), None);
            }
        };
        tokio::select! {
            () = watches => {}
            () = beats => unreachable!(),
        }
        // The last beat may have come after the last look.
        let _ = watchdog.stalled(false);
        assert_eq!(watchdog.stalled(false), Some(0), "it has ended");
    }
}
