//! Small periodic tasks of the control plane.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::audit::ledger::Health;
use crate::pipeline::snapshot::Snapshot;
use crate::upstream::names::{self, Lookup, Name};

const FORGET_KEYS_INTERVAL: Duration = Duration::from_secs(10);
const RESTART_DELAY: Duration = Duration::from_secs(1);
const AUDIT_CHECK_INTERVAL: Duration = Duration::from_millis(500);

pub(super) async fn watch_audit_log(health: Arc<Health>) {
    loop {
        tokio::time::sleep(AUDIT_CHECK_INTERVAL).await;
        match health.look() {
            Some(true) => {
                tracing::error!(
                    "cannot write the audit log: protected requests and grants are refused until it can be written"
                )
            }
            Some(false) => tracing::info!("the audit log can be written again"),
            None => {}
        }
    }
}

pub(super) async fn forget_limit_keys(snapshot: Arc<ArcSwap<Snapshot>>) {
    loop {
        tokio::time::sleep(FORGET_KEYS_INTERVAL).await;
        snapshot.load_full().all_limits().for_each(|limit| limit.forget_idle());
    }
}

/// Restarts the resolver task if it panics: otherwise the addresses of a server would become stale unnoticed.
pub(super) async fn resolve(name: Arc<Name>, lookup: Arc<Lookup>) {
    loop {
        let resolver = names::keep_fresh(Arc::clone(&name), Arc::clone(&lookup));
        let ended = tokio::task::JoinSet::from_iter([resolver]).join_next().await;
        tracing::error!(server.name = name.as_str(), ?ended, "the resolver task of a server panicked: restarting it");
        tokio::time::sleep(RESTART_DELAY).await;
    }
}
