//! A request body on its way into a stream of HTTP/2.
//!
//! A peer may refuse a request unprocessed after the first pieces of its body were sent (RFC 9113 §8.7). They are kept, up to a
//! bound, until the answer has begun: then the request can be sent again over another connection.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http::HeaderMap;
use http_body::{Body as _, Frame};
use tokio::task::AbortHandle;
use tokio::time::{Sleep, sleep};

use crate::upstream::body::request_body::RequestBody;
use crate::upstream::connect::stream::WRITE_STALL;

/// Sends a body, and sends its beginning again.
#[derive(Debug)]
pub(in crate::upstream) struct Outgoing {
    body: RequestBody,
    /// Of all of it.
    length: Option<u64>,
    /// What was taken from it; `None` once that is more than is kept.
    kept: Option<Vec<UploadPiece>>,
    kept_bytes: usize,
    /// How many of the pieces the present stream has.
    sent: usize,
    /// Taken, and waits for room.
    next: Option<UploadPiece>,
    /// Set while the peer takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
}

/// What is left of an upload goes on beside its answer, and no longer: dropped, it ends its stream.
#[derive(Debug)]
pub(in crate::upstream) struct Uploading(AbortHandle);

/// An upload's own task. A stream whose upload is given up is reset: the peer has said all that it will.
struct UploadTask {
    outgoing: Outgoing,
    stream: SendStream<Bytes>,
    is_over: bool,
}

#[derive(Clone, Debug)]
enum UploadPiece {
    Data(Bytes),
    Trailers(HeaderMap),
    End,
}

/// What can be sent again.
const MOST_KEPT: usize = 64 * 1024;

impl Outgoing {
    pub(in crate::upstream) fn new(body: RequestBody) -> Self {
        let length = body.size_hint().exact();
        Self { body, length, kept: Some(Vec::new()), kept_bytes: 0, sent: 0, next: None, stalled: None }
    }

    pub(in crate::upstream) fn is_empty(&self) -> bool {
        self.body.is_end_stream() && self.kept.as_ref().is_some_and(Vec::is_empty)
    }

    pub(in crate::upstream) fn length(&self) -> Option<u64> {
        self.length
    }

    /// Sends from the beginning again, if it is still there.
    pub(in crate::upstream) fn rewind(&mut self) -> bool {
        self.sent = 0;
        self.next = None;
        self.stalled = None;
        self.body.progress().stream.free();
        self.kept.is_some()
    }

    /// The answer is there: nothing will be sent again.
    pub(in crate::upstream) fn forget(&mut self) {
        if self.kept.as_ref().is_none_or(|kept| kept.len() <= self.sent) {
            self.kept = None;
        }
    }

    /// Ready when all is sent, or when the stream takes no more: the answer tells what became of it then. A body that breaks off
    /// resets its stream.
    pub(in crate::upstream) fn poll_send(
        &mut self,
        stream: &mut SendStream<Bytes>,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        loop {
            if stream.poll_reset(context).is_ready() {
                return Poll::Ready(());
            }
            let piece = match self.next.take() {
                Some(piece) => Some(piece),
                None => match self.poll_piece(context) {
                    Poll::Ready(piece) => piece,
                    // Whether the caller is waited for, or a peer that has not taken what was sent before.
                    Poll::Pending => {
                        let was_stalled = self.stalled.is_some();
                        match self.poll_room(stream, context) {
                            Poll::Ready(true) if was_stalled => continue,
                            Poll::Ready(true) | Poll::Pending => return Poll::Pending,
                            Poll::Ready(false) => return Poll::Ready(()),
                        }
                    }
                },
            };
            let Some(piece) = piece else {
                stream.send_reset(Reason::CANCEL);
                return Poll::Ready(());
            };
            // The end takes none: the peer may give no more before it has seen that.
            if piece.takes_room() {
                match self.poll_room(stream, context) {
                    Poll::Ready(true) => {}
                    Poll::Ready(false) => return Poll::Ready(()),
                    Poll::Pending => {
                        self.next = Some(piece);
                        return Poll::Pending;
                    }
                }
            }
            let (sent, is_last) = match piece {
                UploadPiece::Data(data) => {
                    let is_last = self.is_all_sent();
                    (stream.send_data(data, is_last), is_last)
                }
                UploadPiece::Trailers(trailers) => (stream.send_trailers(trailers), true),
                UploadPiece::End => (stream.send_data(Bytes::new(), true), true),
            };
            if is_last || sent.is_err() {
                return Poll::Ready(());
            }
        }
    }

    /// Waits until the peer takes more, but not for ever. False where the stream has ended.
    fn poll_room(&mut self, stream: &mut SendStream<Bytes>, context: &mut Context<'_>) -> Poll<bool> {
        stream.reserve_capacity(1);
        while stream.capacity() == 0 {
            match stream.poll_capacity(context) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(false),
                Poll::Pending => {
                    self.body.progress().stream.block();
                    let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(WRITE_STALL)));
                    ready!(stalled.as_mut().poll(context));
                    self.body.progress().stream.give_up();
                    stream.send_reset(Reason::CANCEL);
                    return Poll::Ready(false);
                }
            }
        }
        if self.stalled.take().is_some() {
            self.body.progress().stream.free();
        }
        Poll::Ready(true)
    }

    /// The next one; `None` where the body broke off.
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<UploadPiece>> {
        if let Some(piece) = self.kept.as_ref().and_then(|kept| kept.get(self.sent)) {
            self.sent += 1;
            return Poll::Ready(Some(piece.clone()));
        }
        let piece = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            Some(Ok(frame)) => match frame.into_data().map_err(Frame::into_trailers) {
                Ok(data) => UploadPiece::Data(data),
                Err(Ok(trailers)) => UploadPiece::Trailers(trailers),
                // There are no others.
                Err(Err(_)) => UploadPiece::End,
            },
            Some(Err(_)) => return Poll::Ready(None),
            None => UploadPiece::End,
        };
        self.keep(&piece);
        Poll::Ready(Some(piece))
    }

    fn keep(&mut self, piece: &UploadPiece) {
        if let UploadPiece::Data(data) = piece {
            self.kept_bytes = self.kept_bytes.saturating_add(data.len()).saturating_add(size_of::<UploadPiece>());
        }
        if self.kept_bytes > MOST_KEPT {
            self.kept = None;
        }
        if let Some(kept) = &mut self.kept {
            kept.push(piece.clone());
            self.sent = kept.len();
        }
    }

    fn is_all_sent(&self) -> bool {
        self.kept.as_ref().is_none_or(|kept| kept.len() == self.sent) && self.body.is_end_stream()
    }
}

impl Uploading {
    pub(in crate::upstream) fn beside_answer(
        mut outgoing: Outgoing,
        upload: Option<SendStream<Bytes>>,
    ) -> Option<Self> {
        outgoing.forget();
        let upload = UploadTask { outgoing, stream: upload?, is_over: false };
        Some(Self(tokio::task::spawn_local(upload.send()).abort_handle()))
    }
}

impl UploadTask {
    /// What becomes of it shows in the answer.
    async fn send(mut self) {
        poll_fn(|context| self.outgoing.poll_send(&mut self.stream, context)).await;
        self.is_over = true;
    }
}

impl Drop for Uploading {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Drop for UploadTask {
    fn drop(&mut self) {
        if !self.is_over {
            self.stream.send_reset(Reason::CANCEL);
        }
    }
}

impl UploadPiece {
    fn takes_room(&self) -> bool {
        matches!(self, Self::Data(data) if !data.is_empty())
    }
}
