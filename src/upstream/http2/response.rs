//! The body of a response over HTTP/2.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Frame, SizeHint};

use super::super::fault::{BoxError, TruncatedResponse};
use crate::http1::fault::WireFault;

/// It is complete only with `END_STREAM`: a reset truncates it, whatever its reason.
#[derive(Debug)]
pub(crate) struct Http2Body {
    stream: RecvStream,
    /// Bytes still to come, if a length was announced.
    remaining: Option<u64>,
    data_has_ended: bool,
    /// Of the trailers.
    max_fields: usize,
}

impl Http2Body {
    pub(super) fn new(stream: RecvStream, length: Option<u64>, max_fields: usize) -> Self {
        Self { stream, remaining: length, data_has_ended: false, max_fields }
    }

    pub(crate) fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(self.poll_stream(context)).transpose();
        let frame = frame.map_err(|error| TruncatedResponse(error.to_string()))?;
        let trailers = frame.as_ref().and_then(Frame::trailers_ref);
        if trailers.is_some_and(|trailers| trailers.len() > self.max_fields) {
            return Poll::Ready(Some(Err(TruncatedResponse(WireFault::TooManyFields.to_string()).into())));
        }
        Poll::Ready(frame.map(Ok))
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        if self.is_end_stream() {
            return SizeHint::with_exact(0);
        }
        self.remaining.map(SizeHint::with_exact).unwrap_or_default()
    }

    fn poll_stream(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
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
