//! Small tasks of the control plane that only look and tidy.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::audit::health::Health;
use crate::pipeline::snapshot::Snapshot;
use crate::upstream::names::{self, Name, NameLookup};

const FORGET_KEYS_EVERY: Duration = Duration::from_secs(10);
const RESTART_AFTER: Duration = Duration::from_secs(1);
const WATCH_AUDIT_EVERY: Duration = Duration::from_millis(500);

/// For the audit log to have had room for every line.
const ROOMY_FOR: Duration = Duration::from_secs(10);

/// Whether the audit log has room for a line for each decision.
#[derive(Debug, Default)]
struct AuditRoomWatch {
    dropped: u64,
    /// What it was when lines began to find no room.
    before: u64,
    /// How long all lines have found room since.
    roomy_for: Option<Duration>,
}

impl AuditRoomWatch {
    /// Says once when lines begin to find no room, and once when they find room again.
    fn look(&mut self, dropped: u64) {
        let last = std::mem::replace(&mut self.dropped, dropped);
        let grew = last != dropped;
        match (grew, self.roomy_for) {
            (true, None) => {
                self.before = last;
                tracing::warn!(
                    "the audit log takes lines too slowly: decisions are counted in folded lines until it keeps up"
                );
                self.roomy_for = Some(Duration::ZERO);
            }
            (true, Some(_)) => self.roomy_for = Some(Duration::ZERO),
            (false, Some(roomy)) if roomy >= ROOMY_FOR => {
                tracing::info!(decisions = dropped - self.before, "the audit log has a line for each decision again");
                self.roomy_for = None;
            }
            (false, Some(roomy)) => self.roomy_for = Some(roomy + WATCH_AUDIT_EVERY),
            (false, None) => {}
        }
    }
}

pub(super) async fn watch_audit_log(health: Arc<Health>) {
    let mut crowd = AuditRoomWatch::default();
    loop {
        tokio::time::sleep(WATCH_AUDIT_EVERY).await;
        crowd.look(health.dropped.load(Ordering::Relaxed));
        match health.check_stuck() {
            Some(true) => {
                tracing::error!("cannot write the audit log: protected requests and grants are refused until it does")
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
pub(super) async fn resolve(name: Arc<Name>, lookup: Arc<NameLookup>) {
    loop {
        let resolver = names::keep_fresh(Arc::clone(&name), Arc::clone(&lookup));
        let died = tokio::task::JoinSet::from_iter([resolver]).join_next().await;
        tracing::error!(server.name = name.as_str(), ?died, "what looks a server up died; starting it again");
        tokio::time::sleep(RESTART_AFTER).await;
    }
}
