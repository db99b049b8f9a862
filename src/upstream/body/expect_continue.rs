//! `Expect: 100-continue` between a client and its upstream (RFC 9110 §10.1.1): the client is told to send its body when we first
//! ask for it, so nobody asks before the upstream has said so.
//!
//! An upstream that says nothing is waited for only so long: many don't know of the expectation. Once it has answered for good
//! the body is not asked for at all.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::EXPECT;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use hyper::ext::on_informational;
use tokio::sync::watch::{Receiver, Sender, channel};
use tokio::time::timeout;

/// In the hands of who waits for the answer. Dropped, the body is not wanted any more.
#[derive(Debug)]
pub(crate) struct ContinueSender(Sender<ContinueVerdict>);

/// A body's wait for the word.
pub(in crate::upstream) struct ContinueWait(Pin<Box<dyn Future<Output = bool>>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ContinueVerdict {
    Nothing,
    /// The client may send.
    Continue,
    /// There is an answer, which is on its way to the client.
    Answered,
    /// And nobody reads on.
    Over,
}

/// What clients wait for us to say it, too, before they send without (curl).
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// True where the client waits to be told.
pub(crate) fn is_awaited(headers: &HeaderMap) -> bool {
    headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

impl ContinueSender {
    pub(in crate::upstream) fn new() -> (Self, ContinueWait) {
        let (sender, receiver) = channel(ContinueVerdict::Nothing);
        (Self(sender), ContinueWait(Box::pin(told(receiver))))
    }

    /// Has the upstream asked.
    pub(crate) fn ask<B>(&self, request: &mut Request<B>) {
        request.headers_mut().insert(EXPECT, HeaderValue::from_static("100-continue"));
        let sender = self.0.clone();
        on_informational(request, move |answer| {
            if answer.status() == StatusCode::CONTINUE {
                tell(&sender, ContinueVerdict::Continue);
            }
        });
    }

    pub(crate) fn answered(&self) {
        tell(&self.0, ContinueVerdict::Answered);
    }
}

impl Drop for ContinueSender {
    fn drop(&mut self) {
        tell(&self.0, ContinueVerdict::Over);
    }
}

/// Only what was said first counts, and that it is over.
fn tell(sender: &Sender<ContinueVerdict>, said: ContinueVerdict) {
    sender.send_if_modified(|current| {
        let news = match (*current, said) {
            (ContinueVerdict::Nothing, _) | (ContinueVerdict::Answered, ContinueVerdict::Over) => true,
            (ContinueVerdict::Continue | ContinueVerdict::Answered | ContinueVerdict::Over, _) => false,
        };
        if news {
            *current = said;
        }
        news
    });
}

/// Whether to go on. An answer that came instead keeps its connection for as long as it is read.
async fn told(mut receiver: Receiver<ContinueVerdict>) -> bool {
    let first = timeout(LONGEST_WAIT, receiver.wait_for(|said| *said != ContinueVerdict::Nothing)).await;
    let first = first.map(|said| said.map_or(ContinueVerdict::Over, |said| *said));
    match first {
        Err(_) | Ok(ContinueVerdict::Continue) => true,
        Ok(ContinueVerdict::Nothing | ContinueVerdict::Over) => false,
        Ok(ContinueVerdict::Answered) => {
            let _ = receiver.wait_for(|said| *said == ContinueVerdict::Over).await;
            false
        }
    }
}

impl ContinueWait {
    pub(in crate::upstream) fn poll(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        self.0.as_mut().poll(context)
    }
}

impl std::fmt::Debug for ContinueWait {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Waits")
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::{Instant, sleep};

    use super::*;

    async fn word(mut waits: ContinueWait) -> bool {
        poll_fn(|context| waits.poll(context)).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_asked_for_when_the_upstream_says_so_or_says_nothing_for_a_while() {
        let (go_ahead, waits) = ContinueSender::new();
        let begun = Instant::now();
        tell(&go_ahead.0, ContinueVerdict::Continue);
        assert!(word(waits).await && begun.elapsed() == Duration::ZERO);
        let (_go_ahead, waits) = ContinueSender::new();
        assert!(word(waits).await);
        assert_eq!(begun.elapsed(), LONGEST_WAIT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_whose_answer_is_there_is_not_asked_for_and_lasts_as_long_as_the_answer() {
        let (go_ahead, waits) = ContinueSender::new();
        go_ahead.answered();
        let begun = Instant::now();
        let reading = async {
            sleep(Duration::from_secs(60)).await;
            drop(go_ahead);
        };
        let (told, ()) = tokio::join!(word(waits), reading);
        assert_eq!((told, begun.elapsed()), (false, Duration::from_secs(60)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_nobody_waits_for_is_not_asked_for() {
        let (go_ahead, waits) = ContinueSender::new();
        drop(go_ahead);
        assert!(!word(waits).await);
    }
}
