//! The connection or stream of an exchange, until the response has ended.

use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::Instant;

use super::body::upload_progress::UploadProgress;
use super::fault::BoxError;
use super::http1::response::{EndedExchange, Http1Response};
use super::http2::pool::StreamSlot;
use super::http2::response::Http2Body;
use super::http2::upload::UploadHandle;
use super::pinned::PinTarget;
use super::server_set::RequestSlot;

#[derive(Debug)]
pub(crate) struct Lease {
    slot: RequestSlot,
    progress: Rc<UploadProgress>,
    held: HeldResponse,
}

/// The body of a response, and the connection or stream by which it arrives.
#[derive(Debug)]
pub(super) enum HeldResponse {
    Http1 {
        response: Http1Response,
        /// When its request was sent.
        last_used: Instant,
        fate: ConnectionFate,
    },
    /// One stream of a connection that others use too, and the upload that continues beside the response.
    Http2 { body: Http2Body, slot: StreamSlot, upload: Option<UploadHandle> },
}

/// The use of a connection after its exchange.
#[derive(Debug)]
pub(super) enum ConnectionFate {
    /// Any request may use it.
    Shared,
    Closed,
    Pinned(Box<PinTarget>),
}

impl Lease {
    /// The rest of the request is sent beside the response.
    pub(super) fn new(slot: RequestSlot, progress: Rc<UploadProgress>, held: HeldResponse) -> Self {
        let held = match held {
            HeldResponse::Http1 { response, last_used, fate } => {
                HeldResponse::Http1 { response: response.send_rest(), last_used, fate }
            }
            http2 @ HeldResponse::Http2 { .. } => http2,
        };
        Self { slot, progress, held }
    }

    /// Of the request's body.
    pub(super) fn progress(&self) -> &UploadProgress {
        &self.progress
    }

    pub(super) fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.held {
            HeldResponse::Http1 { response, .. } => response.poll_frame(context),
            HeldResponse::Http2 { body, .. } => body.poll_frame(context),
        }
    }

    /// The complete response has arrived.
    pub(super) fn is_end_stream(&self) -> bool {
        match &self.held {
            HeldResponse::Http1 { response, .. } => response.is_end_stream(),
            HeldResponse::Http2 { body, .. } => body.is_end_stream(),
        }
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        match &self.held {
            HeldResponse::Http1 { response, .. } => response.size_hint(),
            HeldResponse::Http2 { body, .. } => body.size_hint(),
        }
    }

    /// The complete response has arrived. The rest of the request is not sent: over HTTP/1.1 that closes the
    /// connection, over HTTP/2 it resets the stream.
    pub(super) fn release(self) {
        match self.held {
            HeldResponse::Http1 { response, last_used, fate } => {
                let ended = response.end().filter(|_| self.progress.fault.get().is_none());
                let Some(EndedExchange { connection, is_reusable }) = ended else { return };
                match fate {
                    ConnectionFate::Shared if is_reusable => self.slot.pool().put(connection, last_used),
                    ConnectionFate::Shared | ConnectionFate::Closed => drop(connection),
                    // Late bytes reach the same client only, and responses to HEAD are part of handshakes too.
                    ConnectionFate::Pinned(target) => target.pin(&self.slot, connection, last_used),
                }
            }
            // The connection is in the pool all the time.
            HeldResponse::Http2 { slot, upload, .. } => drop((upload, slot)),
        }
    }
}
