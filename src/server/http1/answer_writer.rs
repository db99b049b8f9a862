//! The body of an answer into the output of its connection.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};

use super::answer_head::{AnswerFraming, AnswerPromise};
use super::client_wire::ClientWire;
use crate::http1::chunk_writer::{CHUNK_END, write_chunk_size, write_last_chunk};

/// Behind a piece that is the last. The frame of trailers comes only after all pieces have been written.
const CHUNK_END_AND_LAST_CHUNK: &[u8] = b"\r\n0\r\n\r\n";

/// How a body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AnswerEnd {
    /// The output has all of it.
    Complete,
    /// The body failed. The output has what came before, without the mark of its end.
    Broken,
    /// The client has closed the connection.
    ClientGone,
}

pub(super) struct AnswerWriter {
    promise: AnswerPromise,
}

impl AnswerWriter {
    pub(super) fn new(promise: AnswerPromise) -> Self {
        Self { promise }
    }

    /// Ready when the output has the whole body, or when no more of it will come. While the body waits, the output is
    /// written, and while the output waits, the body is not polled.
    pub(super) fn poll<B: Body<Data = Bytes>>(
        &mut self,
        mut body: Pin<&mut B>,
        wire: &Rc<RefCell<ClientWire>>,
        context: &mut Context<'_>,
    ) -> Poll<AnswerEnd> {
        loop {
            while !wire.borrow().output.is_full() {
                let Poll::Ready(frame) = body.as_mut().poll_frame(context) else {
                    return wire.borrow_mut().poll_client_gone(context).map(|()| AnswerEnd::ClientGone);
                };
                let mut wire = wire.borrow_mut();
                match frame {
                    None => return Poll::Ready(self.finish(&mut wire, None)),
                    Some(Err(_)) => return Poll::Ready(AnswerEnd::Broken),
                    Some(Ok(frame)) => {
                        if let Some(end) = self.push(frame, &mut wire) {
                            return Poll::Ready(end);
                        }
                    }
                }
                if body.is_end_stream() {
                    return Poll::Ready(self.finish(&mut wire, None));
                }
            }
            let mut wire = wire.borrow_mut();
            match wire.poll_output(context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(AnswerEnd::ClientGone),
                Poll::Pending => return wire.poll_client_gone(context).map(|()| AnswerEnd::ClientGone),
            }
        }
    }

    /// Adds a frame. `Some` if it is the last.
    fn push(&mut self, frame: Frame<Bytes>, wire: &mut ClientWire) -> Option<AnswerEnd> {
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => return Some(self.finish(wire, frame.into_trailers().ok())),
        };
        if data.is_empty() {
            return None;
        }
        match &mut self.promise.framing {
            AnswerFraming::None => return None,
            AnswerFraming::UntilClose => wire.output.push(data, b""),
            AnswerFraming::Chunked => {
                write_chunk_size(wire.output.buffer(), data.len());
                wire.output.push(data, CHUNK_END);
            }
            AnswerFraming::Exact(remaining) => match remaining.checked_sub(data.len() as u64) {
                Some(less) => {
                    *remaining = less;
                    wire.output.push(data, b"");
                }
                None => return Some(AnswerEnd::Broken),
            },
        }
        None
    }

    /// Marks the end of the body, with the trailers that the head has announced.
    fn finish(&mut self, wire: &mut ClientWire, trailers: Option<HeaderMap>) -> AnswerEnd {
        match self.promise.framing {
            AnswerFraming::Exact(1..) => return AnswerEnd::Broken,
            AnswerFraming::None | AnswerFraming::Exact(0) | AnswerFraming::UntilClose => {}
            AnswerFraming::Chunked => {
                let trailers = trailers.map(|trailers| self.announced(&trailers));
                if !wire.output.end_piece(CHUNK_END_AND_LAST_CHUNK) {
                    write_last_chunk(wire.output.buffer(), trailers.as_ref());
                }
            }
        }
        AnswerEnd::Complete
    }

    fn announced(&self, trailers: &HeaderMap) -> HeaderMap {
        let fields = trailers.iter().filter(|(name, _)| self.promise.trailers.contains(name));
        fields.map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}
