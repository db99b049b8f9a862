//! The changes of held clients, for the audit log. Each is told once, when this process reads it.

use std::sync::Arc;

use tokio::sync::{Mutex, mpsc};
use tracing::error;

use super::StoredClients;
use super::held::StoredClient;
use crate::store::client_table::ClientRow;

/// A held client is another one now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ClientChange {
    pub(crate) client: String,
    pub(crate) state: StoredClientState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoredClientState {
    /// It has another entry.
    Changed,
    Disabled,
    Deleted,
    /// It has another entry, which cannot be used.
    Unusable,
}

#[derive(Debug)]
pub(super) struct ChangeQueue {
    sender: mpsc::Sender<ClientChange>,
    receiver: Mutex<mpsc::Receiver<ClientChange>>,
}

/// As many as clients are held.
const CAPACITY: usize = 10_000;
const AT_ONCE: usize = 100;

impl ChangeQueue {
    pub(super) fn new() -> Self {
        let (sender, receiver) = mpsc::channel(CAPACITY);
        Self { sender, receiver: Mutex::new(receiver) }
    }

    pub(super) fn add(&self, id: &str, state: StoredClientState) {
        if self.sender.try_send(ClientChange { client: id.to_owned(), state }).is_err() {
            error!(client = %id.escape_debug(), "too many clients of the database change: the audit log lacks a change");
        }
    }
}

impl StoredClients {
    /// Waits for changes. Some of them, at least one.
    pub(crate) async fn changes(&self) -> Vec<ClientChange> {
        let mut changes = Vec::new();
        self.changes.receiver.lock().await.recv_many(&mut changes, AT_ONCE).await;
        changes
    }
}

impl StoredClientState {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Disabled => "disabled",
            Self::Deleted => "deleted",
            Self::Unusable => "unusable",
        }
    }

    /// `None` if the client was not held, or is the same.
    pub(super) fn of(known: Option<&Arc<StoredClient>>, row: Option<&ClientRow>) -> Option<Self> {
        let known = known?;
        match row {
            None => Some(Self::Deleted),
            Some(row) if row.disabled => Some(Self::Disabled),
            Some(row) => (*row.entry != *known.entry).then_some(Self::Changed),
        }
    }
}
