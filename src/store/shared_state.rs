//! The state of the shared store, as this replica knows it.

/// The numbers of replicas, as this one knows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReplicaCounts {
    /// Replicas with a heartbeat within `shared.instance.heartbeat`, and this one.
    pub(crate) alive: u32,
    /// Replicas with a heartbeat within ten minutes that have not shut down gracefully. At least `alive`.
    pub(crate) known: u32,
}

/// The state of the store of rate limits, revocations and uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SharedState {
    /// It has not been reached since the start.
    Unknown,
    /// An empty or replaced store has another epoch.
    Reached { epoch: String, replicas: ReplicaCounts },
    /// It was reached before, and is unreachable now.
    Lost { replicas: ReplicaCounts },
}
