//! Bodies of answers, our own and those of upstreams. Each carries the record of its request to its end.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::content::Content;
use super::grpc::{deadline_exceeded, stream_ended};
use super::upstream_reason::{request_body_failed, upstream_failed};
use crate::audit::reason::Reason;
use crate::pipeline::record::open_request::OpenRequest;
use crate::pipeline::request::trailers::strip_answer;
use crate::server::answering::Answering;
use crate::server::exchange_guard::ExchangeGuard;
use crate::server::output_backlog::BacklogMark;
use crate::upstream::body::request_end::ResponseHold;
use crate::upstream::fault::{BodyFault, BoxError, UpstreamFault};
use crate::upstream::response_body::{CallerDeadlinePassed, ResponseStalled};

/// The body of an answer. When it ends, in any way, so does the record of the request.
#[derive(Debug)]
pub(crate) struct AnswerBody {
    content: Content,
    /// Present for a streamed answer. The gateway's own answers are recorded as soon as they are made: a client that
    /// never reads one must occupy nothing but its own connection.
    request: Option<Box<OpenRequest>>,
    answering: Option<Rc<Answering>>,
    /// Delays the end of the answer until the request has ended.
    hold: Option<Box<ResponseHold>>,
    /// Trailers that are delayed with the end of the answer.
    trailers: Option<Box<Frame<Bytes>>>,
    failed: Option<Box<Failed>>,
    exchange: ExchangeGuard,
}

/// The error of a body. Over HTTP/2 it is delayed until everything before it has been written: h2 discards what it has
/// not written yet, the head included, and a client that gets no byte of an answer may send its request again.
#[derive(Debug)]
struct Failed {
    error: BoxError,
    output_mark: Option<BacklogMark>,
}

/// A reloaded configuration, or a change of its client, does not let the stream in any more.
#[derive(Debug, thiserror::Error)]
#[error("this stream is not allowed any more")]
struct EndedStream;

impl AnswerBody {
    pub(crate) fn new(
        content: Content,
        mut request: Box<OpenRequest>,
        exchange: ExchangeGuard,
        hold: Option<ResponseHold>,
    ) -> Self {
        let content = match content {
            Content::Tunnel(mut tunnel) => {
                // A tunnel is recorded when it is opened.
                request.becomes_tunnel();
                let mut is_valid = tunnel.may_continue;
                tunnel.may_continue = Box::new(move || request.may_continue() && is_valid());
                exchange.start_tunnel(tunnel);
                return Self::of(Content::Whole(None), None, exchange, hold);
            }
            other => other,
        };
        let request = match content {
            Content::Streamed(_) => Some(request),
            Content::Whole(_) | Content::Tunnel(_) => {
                request.close();
                None
            }
        };
        Self::of(content, request, exchange, hold)
    }

    fn of(
        content: Content,
        request: Option<Box<OpenRequest>>,
        exchange: ExchangeGuard,
        hold: Option<ResponseHold>,
    ) -> Self {
        let (answering, hold) = (exchange.answer(), hold.map(Box::new));
        Self { content, request, answering, hold, trailers: None, failed: None, exchange }
    }

    fn is_held(&self) -> bool {
        self.hold.as_ref().is_some_and(|hold| !hold.is_over())
    }

    fn poll_content(&mut self, context: &mut Context<'_>) -> Polled {
        if let Some(request) = &mut self.request
            && let Some(stream) = request.stream()
            && let Some(end) = stream.poll_end(context)
        {
            let is_grpc = stream.is_grpc();
            request.stream_ended(&end);
            if is_grpc {
                self.content = Content::Whole(None);
                return Poll::Ready(Some(Ok(Frame::trailers(stream_ended(&end)))));
            }
            return self.fail(Box::new(EndedStream), context);
        }
        let body = match &mut self.content {
            Content::Whole(bytes) => return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Content::Tunnel(_) => return Poll::Ready(None),
            Content::Streamed(body) => body,
        };
        let mut polled = Pin::new(&mut **body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &mut polled
            && let Some(fields) = frame.trailers_mut()
        {
            strip_answer(fields);
        }
        let Poll::Ready(Some(Err(error))) = polled else { return polled };
        if let Some(request) = &mut self.request {
            let late = error.downcast_ref::<CallerDeadlinePassed>();
            let ends_call = late.is_some_and(|late| late.is_call);
            let fault = error.downcast_ref::<UpstreamFault>();
            request.log.rule = fault.and_then(UpstreamFault::rule);
            let reason = match error.downcast_ref::<BodyFault>() {
                Some(fault) => request_body_failed(*fault),
                None if late.is_some_and(|late| late.awaits_caller) => Reason::Timeout,
                None if late.is_some() || error.is::<ResponseStalled>() => Reason::UpstreamTimeout,
                None => fault.map_or(Reason::UpstreamReset, upstream_failed),
            };
            request.broke_off(reason);
            if ends_call {
                self.content = Content::Whole(None);
                return Poll::Ready(Some(Ok(Frame::trailers(deadline_exceeded()))));
            }
        }
        self.fail(error, context)
    }

    /// The upstream is released at once. The error follows the data that was passed on before it.
    fn fail(&mut self, error: BoxError, context: &mut Context<'_>) -> Polled {
        self.content = Content::Whole(None);
        self.failed = Some(Box::new(Failed { error, output_mark: self.exchange.output_mark() }));
        self.poll_failed(context)
    }

    fn poll_failed(&mut self, context: &mut Context<'_>) -> Polled {
        if let Some(mark) = self.failed.as_ref().and_then(|failed| failed.output_mark) {
            ready!(self.exchange.poll_written(mark, context));
        }
        Poll::Ready(self.failed.take().map(|failed| Err(failed.error)))
    }
}

type Polled = Poll<Option<Result<Frame<Bytes>, BoxError>>>;

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if this.failed.is_some() {
            return this.poll_failed(context);
        }
        let mut polled = match this.trailers.take() {
            Some(trailers) => Poll::Ready(Some(Ok(*trailers))),
            None if this.content.is_end_stream() => Poll::Ready(None),
            None => this.poll_content(context),
        };
        if let (Some(hold), true) = (&mut this.hold, ends(&polled)) {
            match hold.poll(context) {
                Poll::Ready(()) => this.hold = None,
                Poll::Pending => {
                    if let Poll::Ready(Some(Ok(trailers))) = std::mem::replace(&mut polled, Poll::Pending) {
                        this.trailers = Some(Box::new(trailers));
                    }
                }
            }
        }
        if let Some(answering) = &this.answering {
            answering.polled(polled.is_ready());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_end_stream() && self.trailers.is_none() && self.failed.is_none() && !self.is_held()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            // Over HTTP/2 hyper would announce length zero for an answer without a length.
            content if content.is_end_stream() => SizeHint::default(),
            Content::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Content::Streamed(body) => body.size_hint(),
            Content::Tunnel(_) => SizeHint::default(),
        }
    }
}

impl Drop for AnswerBody {
    /// A body is dropped once the connection has all of it, or once the client has disconnected.
    fn drop(&mut self) {
        if self.is_end_stream()
            && let Some(request) = &mut self.request
        {
            request.close();
        }
    }
}

/// Nothing comes after this.
fn ends(polled: &Polled) -> bool {
    match polled {
        Poll::Ready(None) => true,
        Poll::Ready(Some(Ok(frame))) => frame.is_trailers(),
        Poll::Ready(Some(Err(_))) | Poll::Pending => false,
    }
}
