//! `Expect: 100-continue` between a client and its upstream (RFC 9110 §10.1.1).
//!
//! Polling the client's body makes the server send `100 Continue`, so the body is not polled before the upstream has
//! sent `100 Continue` itself. The wait for an upstream is limited, as many do not know the expectation. After a final
//! response the body is not requested at all.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::HeaderMap;
use http::header::EXPECT;
use tokio::sync::watch::{Receiver, Sender, channel};
use tokio::time::timeout;

/// Held by the code that wait for the response. When it is dropped, the body is no longer needed.
#[derive(Debug)]
pub(crate) struct ContinueSender(Sender<ContinueVerdict>);

/// A body's wait for `100 Continue`.
pub(in crate::upstream) struct ContinueWait(Pin<Box<dyn Future<Output = bool>>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ContinueVerdict {
    Pending,
    /// The client may send its body.
    Continue,
    /// A final response is being sent to the client.
    Responded,
    /// The response has ended.
    Ended,
}

/// As long as common clients wait before they send the body without `100 Continue` (curl).
const MAX_WAIT: Duration = Duration::from_secs(1);

/// True if the client wait for `100 Continue`.
pub(crate) fn is_awaited(headers: &HeaderMap) -> bool {
    headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

impl ContinueSender {
    pub(in crate::upstream) fn new() -> (Self, ContinueWait) {
        let (sender, receiver) = channel(ContinueVerdict::Pending);
        (Self(sender), ContinueWait(Box::pin(may_send(receiver))))
    }

    /// The upstream has sent `100 Continue`.
    pub(in crate::upstream) fn continued(&self) {
        set_verdict(&self.0, ContinueVerdict::Continue);
    }

    pub(in crate::upstream) fn responded(&self) {
        set_verdict(&self.0, ContinueVerdict::Responded);
    }
}

impl Drop for ContinueSender {
    fn drop(&mut self) {
        set_verdict(&self.0, ContinueVerdict::Ended);
    }
}

/// Only the first verdict counts, and the end of a response.
fn set_verdict(sender: &Sender<ContinueVerdict>, verdict: ContinueVerdict) {
    sender.send_if_modified(|current| {
        let changes = match (*current, verdict) {
            (ContinueVerdict::Pending, _) | (ContinueVerdict::Responded, ContinueVerdict::Ended) => true,
            (ContinueVerdict::Continue | ContinueVerdict::Responded | ContinueVerdict::Ended, _) => false,
        };
        if changes {
            *current = verdict;
        }
        changes
    });
}

/// Whether to read the body. After a final response the body stays pending until the response has ended: its failure
/// would close the connection that the response comes by.
async fn may_send(mut receiver: Receiver<ContinueVerdict>) -> bool {
    let first = timeout(MAX_WAIT, receiver.wait_for(|verdict| *verdict != ContinueVerdict::Pending)).await;
    let first = first.map(|verdict| verdict.map_or(ContinueVerdict::Ended, |verdict| *verdict));
    match first {
        Err(_) | Ok(ContinueVerdict::Continue) => true,
        Ok(ContinueVerdict::Pending | ContinueVerdict::Ended) => false,
        Ok(ContinueVerdict::Responded) => {
            let _ = receiver.wait_for(|verdict| *verdict == ContinueVerdict::Ended).await;
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
        formatter.write_str("ContinueWait")
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::{Instant, sleep};

    use super::*;

    async fn verdict(mut wait: ContinueWait) -> bool {
        poll_fn(|context| wait.poll(context)).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_requested_on_100_continue_or_after_a_maximum_wait() {
        let (sender, wait) = ContinueSender::new();
        let begun = Instant::now();
        set_verdict(&sender.0, ContinueVerdict::Continue);
        assert!(verdict(wait).await && begun.elapsed() == Duration::ZERO);
        let (_sender, wait) = ContinueSender::new();
        assert!(verdict(wait).await);
        assert_eq!(begun.elapsed(), MAX_WAIT);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_final_response_the_body_waits_for_the_responses_end() {
        let (sender, wait) = ContinueSender::new();
        sender.responded();
        let begun = Instant::now();
        let reading = async {
            sleep(Duration::from_secs(60)).await;
            drop(sender);
        };
        let (may_send, ()) = tokio::join!(verdict(wait), reading);
        assert_eq!((may_send, begun.elapsed()), (false, Duration::from_secs(60)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_no_longer_needed_is_not_requested() {
        let (sender, wait) = ContinueSender::new();
        drop(sender);
        assert!(!verdict(wait).await);
    }
}
