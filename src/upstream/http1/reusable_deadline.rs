//! A deadline that most exchanges never see, kept with the connection that they go over.
//!
//! To set a timer for each request and to take it back costs more than to compare two times. This one stays where it is: it comes
//! round now and then, and only then looks how long there still is.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep, sleep_until};

#[derive(Debug)]
pub(in crate::upstream) struct ReusableDeadline(Pin<Box<Sleep>>);

/// The deadline came first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::upstream) struct DeadlinePassed;

impl ReusableDeadline {
    pub(in crate::upstream) fn new() -> Self {
        Self(Box::pin(sleep_until(Instant::now())))
    }

    /// What `future` gives, if it does by `deadline`.
    pub(in crate::upstream) async fn before<F>(
        &mut self,
        deadline: Instant,
        mut future: F,
    ) -> Result<F::Output, DeadlinePassed>
    where
        F: Future + Unpin,
    {
        poll_fn(|context| match Pin::new(&mut future).poll(context) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => self.poll(deadline, context).map(Err),
        })
        .await
    }

    fn poll(&mut self, deadline: Instant, context: &mut Context<'_>) -> Poll<DeadlinePassed> {
        if self.0.deadline() > deadline {
            self.0.as_mut().reset(deadline);
        }
        loop {
            ready!(self.0.as_mut().poll(context));
            if Instant::now() >= deadline {
                return Poll::Ready(DeadlinePassed);
            }
            self.0.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::time::Duration;

    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn every_deadline_holds_whatever_the_one_before_was() {
        let mut alarm = ReusableDeadline::new();
        for seconds in [30, 1, 60, 60, 2, 0] {
            let began = Instant::now();
            let deadline = began + Duration::from_secs(seconds);
            assert_eq!(alarm.before(deadline, Box::pin(pending::<()>())).await, Err(DeadlinePassed));
            assert_eq!(began.elapsed().as_secs(), seconds);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_in_time_comes_through_and_old_deadlines_are_forgotten() {
        let mut alarm = ReusableDeadline::new();
        for _ in 0..100 {
            let deadline = Instant::now() + Duration::from_secs(30);
            let work = sleep(Duration::from_secs(29));
            assert_eq!(alarm.before(deadline, Box::pin(work)).await, Ok(()));
        }
    }
}
