//! A deadline for the exchanges of one connection, most of which end long before it.
//!
//! Setting and cancelling a timer for each request costs more than a comparison of two times. This timer stays set: it
//! fires now and then, and only then compares the time with the present deadline.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep, sleep_until};

#[derive(Debug)]
pub(crate) struct ReusableDeadline(Pin<Box<Sleep>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DeadlinePassed;

impl ReusableDeadline {
    pub(crate) fn new() -> Self {
        Self(Box::pin(sleep_until(Instant::now())))
    }

    /// To be polled while the exchange is pending.
    pub(crate) fn poll(&mut self, deadline: Instant, context: &mut Context<'_>) -> Poll<DeadlinePassed> {
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
    use std::future::{pending, poll_fn};
    use std::time::Duration;

    use tokio::time::sleep;

    use super::*;

    /// The output of `future`, if it is ready by `deadline`.
    async fn run_until<F>(
        timer: &mut ReusableDeadline,
        deadline: Instant,
        mut future: Pin<Box<F>>,
    ) -> Result<F::Output, DeadlinePassed>
    where
        F: Future,
    {
        poll_fn(|context| match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => timer.poll(deadline, context).map(Err),
        })
        .await
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_holds_after_an_earlier_and_after_a_later_one() {
        let mut timer = ReusableDeadline::new();
        for seconds in [30, 1, 60, 60, 2, 0] {
            let began = Instant::now();
            let deadline = began + Duration::from_secs(seconds);
            assert_eq!(run_until(&mut timer, deadline, Box::pin(pending::<()>())).await, Err(DeadlinePassed));
            assert_eq!(began.elapsed().as_secs(), seconds);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn timely_futures_give_their_output_and_deadlines_are_forgotten() {
        let mut timer = ReusableDeadline::new();
        for _ in 0..100 {
            let deadline = Instant::now() + Duration::from_secs(30);
            let work = sleep(Duration::from_secs(29));
            assert_eq!(run_until(&mut timer, deadline, Box::pin(work)).await, Ok(()));
        }
    }
}
