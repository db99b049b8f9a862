//! The end of a request, for a response that must not end before it.
//!
//! Over HTTP/2 a request may turn out to be malformed with its last frame. If its response had ended by then, the
//! request would count as accepted, and the error would not be reported (RFC 9113 §8.1.1). The reader of the body
//! reports its end; the response waits for that, for a limited time.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

/// How a request's body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UploadEnd {
    Complete,
    /// The client has ended it early, or it is malformed.
    Broken,
    /// The rest of it is not read.
    Unknown,
}

/// The end of one request, once it is known.
#[derive(Debug, Default)]
pub(crate) struct RequestEnd {
    end: Cell<Option<UploadEnd>>,
    waiting: RefCell<Option<Waker>>,
}

/// Held by the reader of the body. When it is dropped, the rest of the body is not read.
#[derive(Debug)]
pub(crate) struct RequestEndSender(Rc<RequestEnd>);

/// A response's wait for the end of its request.
#[derive(Debug)]
pub(crate) struct ResponseHold {
    end: Rc<RequestEnd>,
    timer: Option<Pin<Box<Sleep>>>,
}

/// An error in a request shows at once. The response to a client that keeps sending until it has one waits no longer
/// than this.
const MAX_HOLD: Duration = Duration::from_secs(1);

impl RequestEnd {
    pub(crate) fn new() -> (Rc<Self>, RequestEndSender) {
        let end = Rc::new(Self::default());
        (Rc::clone(&end), RequestEndSender(end))
    }

    /// `None` if there is nothing to wait for.
    pub(crate) fn hold(self: Rc<Self>) -> Option<ResponseHold> {
        self.is_awaited().then(|| ResponseHold { end: self, timer: None })
    }

    /// The response to a broken request waits too: hyper then resets the stream with the error.
    fn is_awaited(&self) -> bool {
        matches!(self.end.get(), None | Some(UploadEnd::Broken))
    }
}

impl RequestEndSender {
    pub(in crate::upstream) fn notify(&self, end: UploadEnd) {
        if self.0.end.get().is_none() {
            self.0.end.set(Some(end));
        }
        if let Some(waiting) = self.0.waiting.take() {
            waiting.wake();
        }
    }
}

impl Drop for RequestEndSender {
    fn drop(&mut self) {
        self.notify(UploadEnd::Unknown);
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
        self.timer.get_or_insert_with(|| Box::pin(sleep(MAX_HOLD))).as_mut().poll(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::Instant;

    use super::*;

    #[test]
    fn a_response_does_not_wait_for_an_ended_or_unread_request() {
        let (end, watcher) = RequestEnd::new();
        watcher.notify(UploadEnd::Complete);
        assert!(end.hold().is_none());
        let (end, watcher) = RequestEnd::new();
        drop(watcher);
        assert!(end.hold().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_hold_ends_with_its_request() {
        let (end, watcher) = RequestEnd::new();
        let mut hold = end.hold().unwrap();
        let start = Instant::now();
        tokio::join!(poll_fn(|context| hold.poll(context)), async { watcher.notify(UploadEnd::Complete) });
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_hold_has_a_maximum_even_for_a_broken_request() {
        for broken in [false, true] {
            let (end, watcher) = RequestEnd::new();
            if broken {
                watcher.notify(UploadEnd::Broken);
            }
            let mut hold = end.hold().unwrap();
            let start = Instant::now();
            poll_fn(|context| hold.poll(context)).await;
            assert_eq!(start.elapsed(), MAX_HOLD);
            drop(watcher);
        }
    }
}
