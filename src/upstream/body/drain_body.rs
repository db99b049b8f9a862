//! What becomes of a body that nobody wants: it is read on for a while.

use std::cell::Cell;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use tokio::time::timeout;

use crate::upstream::body::request_end::{RequestEndSender, UploadEnd};

/// How much of a body that nobody wants is read on. Past it a client is cut off, whether it has read its answer or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DrainLimit {
    /// What a client that means well may send before it looks up.
    Long,
    /// While there is too much to do already.
    Short,
}

const LINGER_TIME: Duration = Duration::from_secs(2);
/// Bodies that are read on at once, for each worker; others are cut off.
const MAX_LINGERING: usize = 64;

/// Reads on, for a while, in a body that nobody wants any more.
///
/// A client that is cut off while it sends may never read why it was refused: over HTTP/1.1 the kernel answers what we leave
/// unread with a reset, over HTTP/2 common clients take the end of their stream for its failure.
pub(crate) fn drain_body(mut body: Incoming, how: DrainLimit, watcher: Option<RequestEndSender>) {
    thread_local!(static LINGERING: Cell<usize> = const { Cell::new(0) });
    // While the worker ends, bodies are dropped outside of any task.
    let can_linger = tokio::runtime::Handle::try_current().is_ok();
    if body.is_end_stream() || LINGERING.get() == MAX_LINGERING || !can_linger {
        return;
    }
    LINGERING.set(LINGERING.get() + 1);
    tokio::task::spawn_local(async move {
        let rest = async {
            let mut left: usize = match how {
                DrainLimit::Long => 16 * 1024 * 1024,
                DrainLimit::Short => 64 * 1024,
            };
            loop {
                let length = match body.frame().await {
                    Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len),
                    Some(Err(_)) => return UploadEnd::Broken,
                    None => return UploadEnd::Whole,
                };
                let Some(less) = left.checked_sub(length) else { return UploadEnd::Unseen };
                left = less;
            }
        };
        let end = timeout(LINGER_TIME, rest).await.unwrap_or(UploadEnd::Unseen);
        if let Some(watcher) = watcher {
            watcher.saw(end);
        }
        LINGERING.set(LINGERING.get() - 1);
    });
}
