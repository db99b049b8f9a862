//! The body of a response as it arrives, over HTTP/1.1 or HTTP/2.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::super::fault::{BoxError, TruncatedResponse};

#[derive(Debug)]
pub(crate) enum IncomingResponse {
    Http1(Incoming),
    Http2(Http2Body),
}

/// A body over HTTP/2. It is complete only with `END_STREAM`: a reset truncates it, whatever its reason.
#[derive(Debug)]
pub(crate) struct Http2Body {
    stream: RecvStream,
    /// Bytes still to come, if a length was announced.
    remaining: Option<u64>,
    data_has_ended: bool,
}

impl Http2Body {
    pub(crate) fn new(stream: RecvStream, length: Option<u64>) -> Self {
        Self { stream, remaining: length, data_has_ended: false }
    }

    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if !self.data_has_ended {
            match ready!(self.stream.poll_data(context)) {
                Some(Ok(data)) => {
                    // Released at once: the next chunk is polled only after this one was written to the client.
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    self.remaining = self.remaining.map(|remaining| remaining.saturating_sub(data.len() as u64));
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => self.data_has_ended = true,
            }
        }
        let trailers = ready!(self.stream.poll_trailers(context)).transpose();
        Poll::Ready(trailers.map(|trailers| trailers.map(Frame::trailers)))
    }
}

impl Body for IncomingResponse {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Http1(incoming) => Pin::new(incoming).poll_frame(context).map_err(BoxError::from),
            Self::Http2(body) => body.poll_frame(context).map_err(|error| TruncatedResponse(error.to_string()).into()),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(incoming) => incoming.is_end_stream(),
            Self::Http2(body) => body.stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(incoming) => incoming.size_hint(),
            Self::Http2(body) if body.stream.is_end_stream() => SizeHint::with_exact(0),
            Self::Http2(body) => body.remaining.map(SizeHint::with_exact).unwrap_or_default(),
        }
    }
}
