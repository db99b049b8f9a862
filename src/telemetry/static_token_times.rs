//! The times of static tokens, for the metrics.

/// The times of one static token, in seconds since 1970.
#[derive(Clone, Debug)]
pub(crate) struct StaticTokenTimes {
    pub(crate) name: String,
    pub(crate) until: u64,
    /// `None`: not since the start.
    pub(crate) last_used: Option<u64>,
}
