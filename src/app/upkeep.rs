//! Small tasks of the control plane that only look and tidy.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::audit::ledger::Health;
use crate::pipeline::snapshot::Snapshot;
use crate::upstream::names::{self, Lookup, Name};

const FORGET_KEYS_EVERY: Duration = Duration::from_secs(10);
const RESTART_AFTER: Duration = Duration::from_secs(1);
const WATCH_AUDIT_EVERY: Duration = Duration::from_millis(500);

pub(super) async fn watch_audit_log(health: Arc<Health>) {
    loop {
        tokio::time::sleep(WATCH_AUDIT_EVERY).await;
        match health.look() {
            Some(true) => {
                tracing::error!("the audit log takes nothing: protected requests and grants are refused until it does")
            }
            Some(false) => tracing::info!("the audit log takes lines again"),
            None => {}
        }
    }
}

pub(super) async fn forget_limit_keys(snapshot: Arc<ArcSwap<Snapshot>>) {
    loop {
        tokio::time::sleep(FORGET_KEYS_EVERY).await;
        snapshot.load_full().all_limits().for_each(|limit| limit.forget_idle());
    }
}

/// Begins again should it ever die: a server's addresses must not grow old in silence.
pub(super) async fn resolve(name: Arc<Name>, lookup: Arc<Lookup>) {
    loop {
        let resolver = names::keep_fresh(Arc::clone(&name), Arc::clone(&lookup));
        let died = tokio::task::JoinSet::from_iter([resolver]).join_next().await;
        tracing::error!(server.name = name.as_str(), ?died, "what looks a server up died; starting it again");
        tokio::time::sleep(RESTART_AFTER).await;
    }
}
