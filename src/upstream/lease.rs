//! The connection or stream of an exchange, until the response has ended.

use std::rc::Rc;

use tokio::time::Instant;

use super::body::upload_progress::UploadProgress;
use super::http1::connection::Http1Connection;
use super::http2::pool::StreamSlot;
use super::http2::upload::UploadHandle;
use super::pinned::PinTarget;
use super::server_set::RequestSlot;

#[derive(Debug)]
pub(crate) struct Lease {
    slot: RequestSlot,
    progress: Rc<UploadProgress>,
    held: HeldConnection,
}

#[derive(Debug)]
pub(super) enum HeldConnection {
    Http1 {
        connection: Http1Connection,
        /// When its request was sent.
        last_used: Instant,
        /// Nothing can follow the response that would be taken for the next one.
        is_reusable: bool,
        fate: ConnectionFate,
    },
    /// One stream of a connection that others use too, and the upload that continues beside the response.
    Http2(StreamSlot, Option<UploadHandle>),
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
    pub(super) fn new(slot: RequestSlot, progress: Rc<UploadProgress>, held: HeldConnection) -> Self {
        Self { slot, progress, held }
    }

    /// Of the request's body.
    pub(super) fn progress(&self) -> &UploadProgress {
        &self.progress
    }

    /// The complete response has arrived. The rest of the request is not sent: over HTTP/1.1 that closes the
    /// connection, over HTTP/2 it resets the stream.
    pub(super) fn release(self) {
        match self.held {
            HeldConnection::Http1 { connection, .. } if !self.progress.finished.get() => connection.driver.abort(),
            HeldConnection::Http1 { connection, last_used, is_reusable, fate } => {
                if self.progress.fault.get().is_some() || connection.requests.is_closed() {
                    return;
                }
                match fate {
                    ConnectionFate::Shared if is_reusable => self.slot.pool().put(connection, last_used),
                    ConnectionFate::Shared | ConnectionFate::Closed => drop(connection),
                    // Late bytes reach the same client only, and responses to HEAD are part of handshakes too.
                    ConnectionFate::Pinned(target) => target.pin(&self.slot, connection, last_used),
                }
            }
            // The connection is in the pool all the time.
            HeldConnection::Http2(slot, upload) => drop((upload, slot)),
        }
    }
}
