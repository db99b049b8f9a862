//! The rule by which a route's requests are copied to a second upstream.

use std::sync::Arc;
use std::time::Duration;

use crate::upstream::service::Upstream;

/// The upstream that gets copies of a route's requests, and how many.
#[derive(Debug)]
pub(crate) struct MirrorRule {
    pub(crate) upstream: Arc<Upstream>,
    /// Percentage of the requests.
    pub(crate) percent: u32,
    /// The timeout of the whole exchange, the body of the response included.
    pub(crate) timeout: Duration,
}
