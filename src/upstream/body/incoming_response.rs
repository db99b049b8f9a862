//! The body of an answer as it comes in, by whichever protocol.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::upstream::fault::{BoxError, Cut};

#[derive(Debug)]
pub(in crate::upstream) enum Answered {
    Http1(Incoming),
    Http2(Streamed),
}

/// A body over HTTP/2. It is whole only where its end was said: a reset is a cut, whatever reason it gives.
#[derive(Debug)]
pub(in crate::upstream) struct Streamed {
    stream: RecvStream,
    /// What is still to come, where that was announced.
    left: Option<u64>,
    data_is_over: bool,
}

impl Streamed {
    pub(in crate::upstream) fn new(stream: RecvStream, length: Option<u64>) -> Self {
        Self { stream, left: length, data_is_over: false }
    }

    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if !self.data_is_over {
            match ready!(self.stream.poll_data(context)) {
                Some(Ok(data)) => {
                    // Taken is passed on: the client's own pace is what holds the next one back.
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => self.data_is_over = true,
            }
        }
        let trailers = ready!(self.stream.poll_trailers(context)).transpose();
        Poll::Ready(trailers.map(|trailers| trailers.map(Frame::trailers)))
    }
}

impl Body for Answered {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Http1(incoming) => Pin::new(incoming).poll_frame(context).map_err(BoxError::from),
            Self::Http2(streamed) => streamed.poll_frame(context).map_err(|error| Cut(error.to_string()).into()),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(incoming) => incoming.is_end_stream(),
            Self::Http2(streamed) => streamed.stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(incoming) => incoming.size_hint(),
            Self::Http2(streamed) if streamed.stream.is_end_stream() => SizeHint::with_exact(0),
            Self::Http2(streamed) => streamed.left.map(SizeHint::with_exact).unwrap_or_default(),
        }
    }
}
