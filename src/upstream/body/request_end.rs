//! Whether a request has come to its end, for an answer that must not end before it.
//!
//! Over HTTP/2 a client may break the rules of its request until the last frame of it. An answer that has ended by then is a
//! request that was accepted, and the error goes by unsaid (RFC 9113 §8.1.1). Whoever reads the body tells; the answer waits,
//! for a while.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

/// How a request's body came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UploadEnd {
    Whole,
    /// The client has broken off, or broken a rule.
    Broken,
    /// Nobody reads on.
    Unseen,
}

/// One request's end, to be seen.
#[derive(Debug, Default)]
pub(crate) struct RequestEnd {
    seen: Cell<Option<UploadEnd>>,
    waiting: RefCell<Option<Waker>>,
}

/// In the hands of who reads the body. Dropped, nobody reads on.
#[derive(Debug)]
pub(crate) struct RequestEndSender(Rc<RequestEnd>);

/// An answer's wait for the end of its request.
#[derive(Debug)]
pub(crate) struct ResponseHold {
    end: Rc<RequestEnd>,
    timer: Option<Pin<Box<Sleep>>>,
}

/// What is wrong with a request shows at once; a client that sends on until it has its answer waits no longer than this.
const LONGEST_HOLD: Duration = Duration::from_secs(1);

impl RequestEnd {
    pub(crate) fn new() -> (Rc<Self>, RequestEndSender) {
        let end = Rc::new(Self::default());
        (Rc::clone(&end), RequestEndSender(end))
    }

    /// `None` where there is nothing to wait for.
    pub(crate) fn hold(self: Rc<Self>) -> Option<ResponseHold> {
        self.is_awaited().then(|| ResponseHold { end: self, timer: None })
    }

    /// A request that is broken keeps its answer: the stream ends in an error, which is not ours to tell.
    fn is_awaited(&self) -> bool {
        matches!(self.seen.get(), None | Some(UploadEnd::Broken))
    }
}

impl RequestEndSender {
    pub(in crate::upstream) fn saw(&self, end: UploadEnd) {
        if self.0.seen.get().is_none() {
            self.0.seen.set(Some(end));
        }
        if let Some(waiting) = self.0.waiting.take() {
            waiting.wake();
        }
    }
}

impl Drop for RequestEndSender {
    fn drop(&mut self) {
        self.saw(UploadEnd::Unseen);
    }
}

impl ResponseHold {
    pub(crate) fn is_over(&self) -> bool {
        !self.end.is_awaited()
    }

    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.is_over() {
            return Poll::Ready(());
        }
        *self.end.waiting.borrow_mut() = Some(context.waker().clone());
        self.timer.get_or_insert_with(|| Box::pin(sleep(LONGEST_HOLD))).as_mut().poll(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::Instant;

    use super::*;

    #[test]
    fn nothing_is_held_for_a_request_that_has_ended_or_that_nobody_reads() {
        let (end, watcher) = RequestEnd::new();
        watcher.saw(UploadEnd::Whole);
        assert!(end.hold().is_none());
        let (end, watcher) = RequestEnd::new();
        drop(watcher);
        assert!(end.hold().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_hold_ends_with_its_request() {
        let (end, watcher) = RequestEnd::new();
        let mut hold = end.hold().unwrap();
        let begun = Instant::now();
        tokio::join!(poll_fn(|context| hold.poll(context)), async { watcher.saw(UploadEnd::Whole) });
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_hold_lasts_no_longer_than_its_bound_even_where_the_request_broke() {
        for broken in [false, true] {
            let (end, watcher) = RequestEnd::new();
            if broken {
                watcher.saw(UploadEnd::Broken);
            }
            let mut hold = end.hold().unwrap();
            let begun = Instant::now();
            poll_fn(|context| hold.poll(context)).await;
            assert_eq!(begun.elapsed(), LONGEST_HOLD);
            drop(watcher);
        }
    }
}
