//! `buffer_request`: bodies that are read whole before they are sent.

use super::super::source::At;
use super::super::values::Size;
use super::Resolver;
use crate::pipeline::routing::target::RouteTarget;

/// A fraction of the memory that a worker has for such bodies.
const MAX_BUFFER: u64 = 16 * 1024 * 1024;

impl Resolver<'_> {
    /// In bytes. `body_bytes` is the limit of the route.
    pub(super) fn buffer_request(
        &mut self,
        raw: Option<&At<Size>>,
        target: Option<&RouteTarget>,
        body_bytes: Option<u64>,
    ) -> Option<usize> {
        let raw = raw?;
        let (value, span) = (raw.value, raw.span);
        if value.bytes() > MAX_BUFFER {
            self.faults.at(span, "expected a size of at most `16MiB`");
        } else if body_bytes.is_some_and(|limit| value.bytes() > limit) {
            let message = "`buffer_request` is more than `body_bytes`, and larger bodies are refused anyway: lower it, or raise `body_bytes`";
            self.faults.at(span, message);
        }
        if target.is_some_and(RouteTarget::may_speak_http2) {
            let message = "`buffer_request` has no effect over HTTP/2, which has no chunks: remove it, or use upstreams with `protocol: http1`";
            self.faults.at(span, message);
        }
        usize::try_from(value.bytes()).ok()
    }
}
