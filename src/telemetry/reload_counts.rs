//! The configuration in use and the numbers of reloads, for the metrics.

/// The reloads of the configuration. The start counts as the first that succeeded.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReloadCounts {
    pub(crate) succeeded: u64,
    pub(crate) refused: u64,
    pub(crate) is_last_refused: bool,
    /// Of the last that succeeded, in seconds since 1970.
    pub(crate) last_success: u64,
    /// The revision in use.
    pub(crate) revision: String,
    /// The name of this gateway.
    pub(crate) instance: String,
}
