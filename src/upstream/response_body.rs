//! The body of a response, streamed to the client.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderName;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::body::body_timeouts::IdleTimer;
use super::body::expect_continue::ContinueSender;
use super::fault::{BodyFault, BoxError};
use super::lease::Lease;

/// Returns its connection to the pool at its end.
#[derive(Debug)]
pub(crate) struct ResponseBody {
    idle_timer: IdleTimer,
    ended: bool,
    lease: Option<Lease>,
    /// Of a request whose body was not requested from the client. Dropped with the response.
    _continue_sender: Option<ContinueSender>,
    /// For the whole body, and whether the response is one to a gRPC call.
    deadline: Option<(Pin<Box<Sleep>>, bool)>,
    /// Trailers of these names are left out.
    left_out: Vec<HeaderName>,
}

/// The upstream stopped sending before the end of its response.
#[derive(Debug, thiserror::Error)]
#[error("the upstream stopped sending its response")]
pub(crate) struct ResponseStalled;

/// The deadline that the caller has set has passed.
#[derive(Debug, thiserror::Error)]
#[error("the response took longer than the deadline that the caller has set")]
pub(crate) struct CallerDeadlinePassed {
    /// The response is one to a gRPC call, whose status comes last.
    pub(crate) is_call: bool,
    /// The rest of the request was awaited from the caller.
    pub(crate) awaits_caller: bool,
}

impl ResponseBody {
    pub(super) fn new(idle_timeout: Option<Duration>, lease: Lease, continue_sender: Option<ContinueSender>) -> Self {
        // The request's body is no longer needed.
        continue_sender.iter().for_each(ContinueSender::responded);
        Self {
            idle_timer: IdleTimer::new(idle_timeout),
            ended: false,
            lease: Some(lease),
            _continue_sender: continue_sender,
            deadline: None,
            left_out: Vec::new(),
        }
    }

    fn release_at_end(&mut self) {
        if self.is_end_stream()
            && let Some(lease) = self.lease.take()
        {
            // A stream that is reset by this no longer reports its end.
            self.ended = true;
            lease.release();
        }
    }

    /// Which side caused the idle timeout: the upstream may wait for the rest of the request.
    fn idle_fault(&self) -> BoxError {
        let awaits_caller = self
            .lease
            .as_ref()
            .zip(self.idle_timer.limit)
            .is_some_and(|(lease, limit)| lease.progress().awaited_caller_for(limit));
        if awaits_caller { BodyFault::Slow.into() } else { ResponseStalled.into() }
    }

    /// Ends with [`CallerDeadlinePassed`] if it is not complete by `deadline`.
    pub(crate) fn until(&mut self, deadline: Instant, is_call: bool) {
        self.deadline = Some((Box::pin(sleep_until(deadline)), is_call));
    }

    /// Leaves out trailers of these names.
    pub(crate) fn without_trailers(&mut self, names: Vec<HeaderName>) {
        self.left_out = names;
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Some((deadline, is_call)) = &mut this.deadline
            && deadline.as_mut().poll(context).is_ready()
        {
            let is_call = *is_call;
            let awaits_caller = this.lease.as_ref().is_some_and(|lease| lease.progress().awaits_caller().is_some());
            return Poll::Ready(Some(Err(CallerDeadlinePassed { is_call, awaits_caller }.into())));
        }
        let polled = this.lease.as_mut().map_or(Poll::Ready(None), |lease| lease.poll_frame(context));
        match polled {
            Poll::Pending if this.idle_timer.is_over(context) => Poll::Ready(Some(Err(this.idle_fault()))),
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(mut frame))) => {
                this.idle_timer.renew();
                if let Some(trailers) = frame.trailers_mut() {
                    this.left_out.iter().for_each(|name| drop(trailers.remove(name)));
                }
                // Trailers are the last frame.
                this.ended = frame.is_trailers();
                this.release_at_end();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                // A request body that failed has closed the connection: that is the cause.
                let progress = this.lease.as_ref().map(Lease::progress);
                let error = match progress.map(|progress| (progress.fault.get(), progress.has_given_up())) {
                    Some((Some(fault), _)) => fault.into(),
                    Some((None, true)) => ResponseStalled.into(),
                    Some((None, false)) | None => error,
                };
                Poll::Ready(Some(Err(error)))
            }
            Poll::Ready(None) => {
                this.ended = true;
                this.release_at_end();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.lease.as_ref().is_none_or(Lease::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.lease.as_ref().map_or_else(|| SizeHint::with_exact(0), Lease::size_hint)
    }
}

impl Drop for ResponseBody {
    /// A response that was not read to its end closes its connection.
    fn drop(&mut self) {
        self.release_at_end();
    }
}
