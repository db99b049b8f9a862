//! The timeouts of bodies, in both directions.

use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

/// The timeouts of a request body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyTimeouts {
    /// Between two chunks.
    pub(crate) idle: Option<Duration>,
    /// Bytes per second.
    pub(crate) min_rate: Option<u64>,
}

/// Enforces the timeouts of a request body. Only time spent waiting for the client counts, not time spent waiting for
/// the upstream. A client that was fast earns credit for a slow phase, up to a maximum. Sets no timer while chunks are
/// ready when polled.
#[derive(Debug)]
pub(in crate::upstream) struct MinRateTimer {
    timeouts: BodyTimeouts,
    credit: Duration,
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

/// The credit at the start of a body.
const GRACE: Duration = Duration::from_secs(5);
/// The longest pause that a fast client can earn.
const MAX_CREDIT: Duration = Duration::from_secs(30);

/// The timeout between two chunks. Sets no timer while chunks are ready when polled.
#[derive(Debug)]
pub(in crate::upstream) struct IdleTimer {
    pub(in crate::upstream) limit: Option<Duration>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl MinRateTimer {
    pub(in crate::upstream) fn new(timeouts: BodyTimeouts) -> Self {
        Self { timeouts, credit: GRACE, waiting: None }
    }

    pub(in crate::upstream) fn is_over(&mut self, context: &mut Context<'_>) -> bool {
        let Some(limit) = self.timeouts.idle.into_iter().chain(self.timeouts.min_rate.map(|_| self.credit)).min()
        else {
            return false;
        };
        let (_, timer) = self.waiting.get_or_insert_with(|| (Instant::now(), Box::pin(sleep(limit))));
        timer.as_mut().poll(context).is_ready()
    }

    /// The client is not waited for at present.
    pub(in crate::upstream) fn pause(&mut self) {
        self.waiting = None;
    }

    pub(in crate::upstream) fn received(&mut self, bytes: usize) {
        if let Some((since, _)) = self.waiting.take() {
            self.credit = self.credit.saturating_sub(since.elapsed());
        }
        if let Some(rate) = self.timeouts.min_rate {
            let earned = (bytes as u64).saturating_mul(1_000_000_000) / rate.max(1);
            self.credit = (self.credit + Duration::from_nanos(earned)).min(MAX_CREDIT);
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

    /// When a client that sends `bytes` every `pause` times out; `None` if not within ten minutes.
    async fn times_out(timeouts: BodyTimeouts, bytes: usize, pause: Duration) -> Option<Duration> {
        let mut timer = MinRateTimer::new(timeouts);
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(600) {
            let over = poll_fn(|context| if timer.is_over(context) { Poll::Ready(()) } else { Poll::Pending });
            if timeout(pause, over).await.is_ok() {
                return Some(began.elapsed());
            }
            timer.received(bytes);
        }
        None
    }

    const BOTH: BodyTimeouts = BodyTimeouts { idle: Some(Duration::from_secs(30)), min_rate: Some(240) };

    #[tokio::test(start_paused = true)]
    async fn a_body_must_keep_the_minimum_rate_after_a_grace_period() {
        let seconds = Duration::from_secs;
        assert_eq!(times_out(BOTH, 240, seconds(1)).await, None);
        assert_eq!(times_out(BOTH, 2400, seconds(10)).await, Some(seconds(5)));
        assert_eq!(times_out(BOTH, 0, seconds(100)).await, Some(seconds(5)));
        let slow = times_out(BOTH, 10, seconds(1)).await.unwrap();
        assert!((seconds(5)..seconds(6)).contains(&slow), "{slow:?}");
        assert_eq!(times_out(BodyTimeouts { min_rate: None, ..BOTH }, 1, seconds(29)).await, None);
        assert_eq!(times_out(BodyTimeouts { min_rate: None, ..BOTH }, 1, seconds(31)).await, Some(seconds(30)));
        assert_eq!(times_out(BodyTimeouts { idle: None, min_rate: None }, 1, seconds(300)).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_fast_client_earns_credit_for_a_pause_up_to_a_maximum() {
        let mut timer = MinRateTimer::new(BOTH);
        timer.received(1 << 30);
        assert_eq!(timer.credit, MAX_CREDIT);
        sleep(Duration::from_secs(3600)).await;
        timer.received(1);
        assert_eq!(timer.credit, MAX_CREDIT, "the client was not waited for");
    }
}
