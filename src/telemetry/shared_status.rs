//! The state of the store that replicas share, for the metrics.

/// The store of rate limits, revocations and uses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SharedStoreStatus {
    pub(crate) is_reachable: bool,
    pub(crate) failures: u64,
    pub(crate) alive: u64,
    pub(crate) known: u64,
    pub(crate) pending_revocations: u64,
    /// How the limits that are counted over replicas are counted now.
    pub(crate) limit_mode: &'static str,
}
