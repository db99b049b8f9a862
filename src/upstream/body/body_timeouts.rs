//! How long a body may keep us waiting, either way.

use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

/// How long a client may keep its body waiting: between two pieces, and on the whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyTimeouts {
    pub(crate) idle: Option<Duration>,
    /// Bytes in a second.
    pub(crate) min_rate: Option<u64>,
}

/// Keeps the time that a client may still take. Only waiting for the client is counted, not for an upstream that takes its time;
/// what came quickly pays for what comes slowly, up to a point. Costs nothing while pieces are there when asked for.
#[derive(Debug)]
pub(in crate::upstream) struct MinRateTimer {
    patience: BodyTimeouts,
    credit: Duration,
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

/// Before the rate counts.
const GRACE: Duration = Duration::from_secs(5);
/// What a client that was quick may rest.
const MOST_CREDIT: Duration = Duration::from_secs(30);

/// A deadline between two pieces. Costs nothing while pieces are there when asked for.
#[derive(Debug)]
pub(in crate::upstream) struct IdleTimer {
    pub(in crate::upstream) limit: Option<Duration>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl MinRateTimer {
    pub(in crate::upstream) fn new(patience: BodyTimeouts) -> Self {
        Self { patience, credit: GRACE, waiting: None }
    }

    pub(in crate::upstream) fn is_over(&mut self, context: &mut Context<'_>) -> bool {
        let Some(limit) = self.patience.idle.into_iter().chain(self.patience.min_rate.map(|_| self.credit)).min()
        else {
            return false;
        };
        let (_, timer) = self.waiting.get_or_insert_with(|| (Instant::now(), Box::pin(sleep(limit))));
        timer.as_mut().poll(context).is_ready()
    }

    /// Something else is waited for.
    pub(in crate::upstream) fn pause(&mut self) {
        self.waiting = None;
    }

    pub(in crate::upstream) fn came(&mut self, bytes: usize) {
        if let Some((since, _)) = self.waiting.take() {
            self.credit = self.credit.saturating_sub(since.elapsed());
        }
        if let Some(rate) = self.patience.min_rate {
            let earned = (bytes as u64).saturating_mul(1_000_000_000) / rate.max(1);
            self.credit = (self.credit + Duration::from_nanos(earned)).min(MOST_CREDIT);
        }
    }
}

impl IdleTimer {
    pub(in crate::upstream) fn new(limit: Option<Duration>) -> Self {
        Self { limit, timer: None }
    }

    pub(in crate::upstream) fn is_over(&mut self, context: &mut Context<'_>) -> bool {
        let Some(limit) = self.limit else {
            return false;
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(limit)));
        timer.as_mut().poll(context).is_ready()
    }

    pub(in crate::upstream) fn renew(&mut self) {
        self.timer = None;
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use tokio::time::timeout;

    use super::*;

    /// How long a client can go on that sends `bytes` every `pause`; `None` where it can for ten minutes.
    async fn lasts(patience: BodyTimeouts, bytes: usize, pause: Duration) -> Option<Duration> {
        let mut pace = MinRateTimer::new(patience);
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(600) {
            let over = poll_fn(|context| if pace.is_over(context) { Poll::Ready(()) } else { Poll::Pending });
            if timeout(pause, over).await.is_ok() {
                return Some(began.elapsed());
            }
            pace.came(bytes);
        }
        None
    }

    const BOTH: BodyTimeouts = BodyTimeouts { idle: Some(Duration::from_secs(30)), min_rate: Some(240) };

    #[tokio::test(start_paused = true)]
    async fn a_body_comes_at_the_least_rate_after_a_grace() {
        let seconds = Duration::from_secs;
        assert_eq!(lasts(BOTH, 240, seconds(1)).await, None);
        assert_eq!(lasts(BOTH, 2400, seconds(10)).await, Some(seconds(5)));
        assert_eq!(lasts(BOTH, 0, seconds(100)).await, Some(seconds(5)));
        let slow = lasts(BOTH, 10, seconds(1)).await.unwrap();
        assert!((seconds(5)..seconds(6)).contains(&slow), "{slow:?}");
        assert_eq!(lasts(BodyTimeouts { min_rate: None, ..BOTH }, 1, seconds(29)).await, None);
        assert_eq!(lasts(BodyTimeouts { min_rate: None, ..BOTH }, 1, seconds(31)).await, Some(seconds(30)));
        assert_eq!(lasts(BodyTimeouts { idle: None, min_rate: None }, 1, seconds(300)).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_came_quickly_pays_for_a_pause_and_no_more() {
        let mut pace = MinRateTimer::new(BOTH);
        pace.came(1 << 30);
        assert_eq!(pace.credit, MOST_CREDIT);
        sleep(Duration::from_secs(3600)).await;
        pace.came(1);
        assert_eq!(pace.credit, MOST_CREDIT, "nobody waited for the client");
    }
}
