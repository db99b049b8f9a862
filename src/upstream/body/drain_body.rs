//! Reads and discards the rest of a body that is no longer needed.

use std::cell::Cell;
use std::time::Duration;

use std::pin::Pin;

use bytes::Bytes;
use http_body::Body;
use http_body_util::BodyExt as _;
use tokio::time::timeout;

use super::super::fault::BoxError;
use super::request_end::{RequestEndSender, UploadEnd};

/// How much of a body is drained. A client that sends more is cut off, whether it has read its response or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DrainLimit {
    /// The amount that common clients send before they read the response.
    Long,
    /// Under overload.
    Short,
}

/// The body of a client's request, over either version of HTTP.
pub(crate) type ClientBody = Pin<Box<dyn Body<Data = Bytes, Error = BoxError>>>;

const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// Bodies that each worker drains at once; others are cut off.
const MAX_DRAINING: usize = 64;

/// Drains a body, for a limited time.
///
/// A client that is cut off while it sends may never read the response: over HTTP/1.1 the kernel resets a connection
/// that is closed with unread data, and common HTTP/2 clients take the end of their stream for a failure.
pub(crate) fn drain_body(mut body: ClientBody, limit: DrainLimit, watcher: Option<RequestEndSender>) {
    thread_local!(static DRAINING: Cell<usize> = const { Cell::new(0) });
    // At the end of the worker, bodies are dropped outside of any task.
    let can_spawn = tokio::runtime::Handle::try_current().is_ok();
    if body.is_end_stream() || DRAINING.get() == MAX_DRAINING || !can_spawn {
        return;
    }
    DRAINING.set(DRAINING.get() + 1);
    tokio::task::spawn_local(async move {
        let rest = async {
            let mut remaining: usize = match limit {
                DrainLimit::Long => 16 * 1024 * 1024,
                DrainLimit::Short => 64 * 1024,
            };
            loop {
                let length = match body.frame().await {
                    Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len),
                    Some(Err(_)) => return UploadEnd::Broken,
                    None => return UploadEnd::Complete,
                };
                let Some(less) = remaining.checked_sub(length) else { return UploadEnd::Unknown };
                remaining = less;
            }
        };
        let end = timeout(DRAIN_TIMEOUT, rest).await.unwrap_or(UploadEnd::Unknown);
        if let Some(watcher) = watcher {
            watcher.notify(end);
        }
        DRAINING.set(DRAINING.get() - 1);
    });
}
