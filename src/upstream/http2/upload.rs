//! The upload of a request body on an HTTP/2 stream.
//!
//! A peer may refuse a request unprocessed after the first frames of its body were sent (RFC 9113 §8.7). They are kept,
//! up to a limit, until the response has begun, so that the request can be sent again over another connection.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http::{HeaderMap, HeaderName};
use http_body::{Body as _, Frame};
use tokio::task::AbortHandle;
use tokio::time::{Sleep, sleep};

use super::super::body::request_body::RequestBody;
use super::super::connect::stream::WRITE_STALL;
use super::super::service_credential::remove_alike;

/// Sends a body, and can start again with the frames that it keeps.
#[derive(Debug)]
pub(crate) struct StreamUpload {
    body: RequestBody,
    /// The name of the service's credential, which the caller's trailers may not have.
    credential: Option<HeaderName>,
    /// Of the whole body.
    length: Option<u64>,
    /// The frames read from the body; `None` once they exceed [`MAX_KEPT`].
    kept: Option<Vec<UploadFrame>>,
    kept_bytes: usize,
    /// How many of the kept frames the present stream has.
    sent: usize,
    /// Waits for flow-control capacity.
    next: Option<UploadFrame>,
    /// Set while there is no capacity.
    stall_timer: Option<Pin<Box<Sleep>>>,
}

/// The rest of an upload that continues beside the response. When it is dropped, the stream is reset.
#[derive(Debug)]
pub(crate) struct UploadHandle(AbortHandle);

/// The task of such an upload. If it is aborted, the stream is reset: the peer has sent its complete response.
struct UploadTask {
    upload: StreamUpload,
    stream: SendStream<Bytes>,
    is_complete: bool,
}

#[derive(Clone, Debug)]
enum UploadFrame {
    Data(Bytes),
    Trailers(HeaderMap),
    End,
}

/// Bytes that can be sent again.
const MAX_KEPT: usize = 64 * 1024;

impl StreamUpload {
    pub(crate) fn new(body: RequestBody, credential: Option<HeaderName>) -> Self {
        let length = body.size_hint().exact();
        Self { body, credential, length, kept: Some(Vec::new()), kept_bytes: 0, sent: 0, next: None, stall_timer: None }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.body.is_end_stream() && self.kept.as_ref().is_some_and(Vec::is_empty)
    }

    pub(crate) fn length(&self) -> Option<u64> {
        self.length
    }

    /// Starts again from the beginning. False if that is no longer kept.
    pub(crate) fn rewind(&mut self) -> bool {
        self.sent = 0;
        self.next = None;
        self.stall_timer = None;
        self.body.progress().stream.unblock();
        self.kept.is_some()
    }

    /// The response has begun: nothing will be sent again.
    pub(crate) fn stop_keeping(&mut self) {
        if self.kept.as_ref().is_none_or(|kept| kept.len() <= self.sent) {
            self.kept = None;
        }
    }

    /// Ready when all is sent, or when the stream has ended: the response gives the reason then. An incomplete body
    /// resets its stream.
    pub(crate) fn poll_send(&mut self, stream: &mut SendStream<Bytes>, context: &mut Context<'_>) -> Poll<()> {
        loop {
            if stream.poll_reset(context).is_ready() {
                return Poll::Ready(());
            }
            let frame = match self.next.take() {
                Some(frame) => Some(frame),
                None => match self.poll_next(context) {
                    Poll::Ready(frame) => frame,
                    // Finds out whether the exchange waits for the caller or for a peer that has not taken the earlier
                    // frames.
                    Poll::Pending => {
                        let was_stalled = self.stall_timer.is_some();
                        match self.poll_capacity(stream, context) {
                            Poll::Ready(true) if was_stalled => continue,
                            Poll::Ready(true) | Poll::Pending => return Poll::Pending,
                            Poll::Ready(false) => return Poll::Ready(()),
                        }
                    }
                },
            };
            let Some(frame) = frame else {
                stream.send_reset(Reason::CANCEL);
                return Poll::Ready(());
            };
            // An empty frame needs none, and the peer may grant none before it has the end of the stream.
            if frame.needs_capacity() {
                match self.poll_capacity(stream, context) {
                    Poll::Ready(true) => {}
                    Poll::Ready(false) => return Poll::Ready(()),
                    Poll::Pending => {
                        self.next = Some(frame);
                        return Poll::Pending;
                    }
                }
            }
            let (sent, is_last) = match frame {
                UploadFrame::Data(data) => {
                    let is_last = self.is_all_sent();
                    (stream.send_data(data, is_last), is_last)
                }
                UploadFrame::Trailers(trailers) => (stream.send_trailers(trailers), true),
                UploadFrame::End => (stream.send_data(Bytes::new(), true), true),
            };
            if is_last || sent.is_err() {
                return Poll::Ready(());
            }
        }
    }

    /// Waits for flow-control capacity, for a limited time. False if the stream has ended.
    fn poll_capacity(&mut self, stream: &mut SendStream<Bytes>, context: &mut Context<'_>) -> Poll<bool> {
        stream.reserve_capacity(1);
        while stream.capacity() == 0 {
            match stream.poll_capacity(context) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(false),
                Poll::Pending => {
                    self.body.progress().stream.block();
                    let timer = self.stall_timer.get_or_insert_with(|| Box::pin(sleep(WRITE_STALL)));
                    ready!(timer.as_mut().poll(context));
                    self.body.progress().stream.give_up();
                    stream.send_reset(Reason::CANCEL);
                    return Poll::Ready(false);
                }
            }
        }
        if self.stall_timer.take().is_some() {
            self.body.progress().stream.unblock();
        }
        Poll::Ready(true)
    }

    /// The next frame; `None` if the body is incomplete.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<UploadFrame>> {
        if let Some(frame) = self.kept.as_ref().and_then(|kept| kept.get(self.sent)) {
            self.sent += 1;
            return Poll::Ready(Some(frame.clone()));
        }
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            Some(Ok(frame)) => match frame.into_data().map_err(Frame::into_trailers) {
                Ok(data) => UploadFrame::Data(data),
                Err(Ok(trailers)) => self.last_frame(trailers),
                // There are no other kinds of frames.
                Err(Err(_)) => UploadFrame::End,
            },
            Some(Err(_)) => return Poll::Ready(None),
            None => UploadFrame::End,
        };
        self.keep(&frame);
        Poll::Ready(Some(frame))
    }

    /// The trailers without the fields that the service could take for its credential.
    fn last_frame(&self, mut trailers: HeaderMap) -> UploadFrame {
        if let Some(name) = &self.credential {
            remove_alike(name, &mut trailers);
        }
        if trailers.is_empty() { UploadFrame::End } else { UploadFrame::Trailers(trailers) }
    }

    fn keep(&mut self, frame: &UploadFrame) {
        if let UploadFrame::Data(data) = frame {
            self.kept_bytes = self.kept_bytes.saturating_add(data.len()).saturating_add(size_of::<UploadFrame>());
        }
        if self.kept_bytes > MAX_KEPT {
            self.kept = None;
        }
        if let Some(kept) = &mut self.kept {
            kept.push(frame.clone());
            self.sent = kept.len();
        }
    }

    fn is_all_sent(&self) -> bool {
        self.kept.as_ref().is_none_or(|kept| kept.len() == self.sent) && self.body.is_end_stream()
    }
}

impl UploadHandle {
    /// `None` if nothing is left to send.
    pub(crate) fn beside_response(mut upload: StreamUpload, stream: Option<SendStream<Bytes>>) -> Option<Self> {
        upload.stop_keeping();
        let task = UploadTask { upload, stream: stream?, is_complete: false };
        Some(Self(tokio::task::spawn_local(task.send()).abort_handle()))
    }
}

impl UploadTask {
    /// A failure shows in the response.
    async fn send(mut self) {
        poll_fn(|context| self.upload.poll_send(&mut self.stream, context)).await;
        self.is_complete = true;
    }
}

impl Drop for UploadHandle {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Drop for UploadTask {
    fn drop(&mut self) {
        if !self.is_complete {
            self.stream.send_reset(Reason::CANCEL);
        }
    }
}

impl UploadFrame {
    fn needs_capacity(&self) -> bool {
        matches!(self, Self::Data(data) if !data.is_empty())
    }
}
