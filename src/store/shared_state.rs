//! The state of the store that replicas share, as this one knows it.

/// The replicas as this one knows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReplicaCounts {
    /// Heard of within a heartbeat; this one counts always.
    pub(crate) alive: u32,
    /// Heard of within 10 minutes and not ended in order; at least `alive`.
    pub(crate) known: u32,
}

/// The state of the store of rate limits, revocations and uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SharedState {
    /// It was not reached since the start.
    Unknown,
    /// An empty or replaced store has another epoch.
    Reached { epoch: String, replicas: ReplicaCounts },
    /// It was reached before.
    Lost { replicas: ReplicaCounts },
}
