//! Sends requests to the keeper of revocations.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::revocation::RevocationEntry;
use crate::store::redis_revocations::SharedRevocation;

/// Sends requests to the keeper.
#[derive(Clone, Debug)]
pub(crate) struct Revoker {
    pub(super) requests: SyncSender<RevokerRequest>,
}

/// The reason for which a token could not be revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotRevoked {
    /// Too many requests are waiting.
    Busy,
    /// The limit on all revocations is reached.
    Full,
    /// The limit of this client is reached.
    ShareFull,
    /// The file cannot be written.
    Broken,
}

#[derive(Debug)]
pub(super) enum RevokerRequest {
    Revoke {
        entry: RevocationEntry,
        reply: RevocationReply,
    },
    /// The rules of a configuration.
    Rules {
        rules: Vec<RevocationEntry>,
        change: RulesChange,
        reply: RevocationReply,
    },
    /// The revocations of other replicas.
    Learn {
        learned: Vec<SharedRevocation>,
        reply: RevocationReply,
    },
    /// The known revocations are all that the replicas had at one time.
    MarkComplete,
    End,
}

/// How the rules of a new configuration replace those of the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RulesChange {
    /// They apply beside the former rules.
    Add,
    /// The former rules apply no more.
    Replace,
}

pub(super) type RevocationReply = oneshot::Sender<Result<(), NotRevoked>>;

/// The number of requests that may wait, and that are flushed to the disk together.
pub(super) const QUEUE_CAPACITY: usize = 256;
/// The time to wait for the reply, in case the disk hangs.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);

impl Revoker {
    /// Revokes nothing: no keeper takes its requests.
    pub(crate) fn without_keeper() -> Self {
        Self { requests: sync_channel(0).0 }
    }

    /// Returns once the entry is on the disk and published to all workers. If the future is dropped before, the token
    /// is still revoked.
    pub(crate) async fn revoke(&self, entry: RevocationEntry) -> Result<(), NotRevoked> {
        let (reply, answer) = oneshot::channel();
        self.requests.try_send(RevokerRequest::Revoke { entry, reply }).map_err(|_| NotRevoked::Busy)?;
        Self::reply(answer).await
    }

    /// Returns once the rules of another configuration are published to all workers.
    pub(crate) async fn set_rules(&self, rules: Vec<RevocationEntry>, change: RulesChange) -> Result<(), NotRevoked> {
        let (reply, answer) = oneshot::channel();
        self.requests.try_send(RevokerRequest::Rules { rules, change, reply }).map_err(|_| NotRevoked::Busy)?;
        Self::reply(answer).await
    }

    /// Returns once the revocations of other replicas are on the disk and published to all workers.
    pub(super) async fn learn(&self, learned: Vec<SharedRevocation>) -> Result<(), NotRevoked> {
        let (reply, answer) = oneshot::channel();
        self.requests.try_send(RevokerRequest::Learn { learned, reply }).map_err(|_| NotRevoked::Busy)?;
        Self::reply(answer).await
    }

    /// From the next start on, the file of this replica counts as a copy. False if too many requests are waiting.
    pub(super) fn mark_complete(&self) -> bool {
        self.requests.try_send(RevokerRequest::MarkComplete).is_ok()
    }

    async fn reply(answer: oneshot::Receiver<Result<(), NotRevoked>>) -> Result<(), NotRevoked> {
        match timeout(REPLY_TIMEOUT, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(NotRevoked::Broken),
        }
    }

    /// Ends the keeper. If it hangs, the process ends without it.
    pub(crate) fn end(&self) {
        let _ = self.requests.try_send(RevokerRequest::End);
    }
}
