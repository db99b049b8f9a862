//! Small background tasks of the control plane.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::audit::health::Health;
use crate::pipeline::routing::snapshot::Snapshot;
use crate::trust::issuer::{IssuerSettings, KeySource};
use crate::trust::key_cache::KeyCache;
use crate::trust::key_set_file::KeySetFile;
use crate::trust::refresher;
use crate::upstream::names::{self, Name, NameLookup};

const FORGET_KEYS_EVERY: Duration = Duration::from_secs(10);
/// The pause before a task that has died is started again.
pub(super) const RESTART_AFTER: Duration = Duration::from_secs(1);
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

/// Starts the name resolution again if it dies: the addresses of a server must not become stale unnoticed.
pub(super) async fn resolve(name: Arc<Name>, lookup: Arc<NameLookup>) {
    loop {
        let resolver = names::keep_fresh(Arc::clone(&name), Arc::clone(&lookup));
        let died = tokio::task::JoinSet::from_iter([resolver]).join_next().await;
        tracing::error!(
            server.name = name.as_str(),
            ?died,
            "the name resolution of a server died; it is started again"
        );
        tokio::time::sleep(RESTART_AFTER).await;
    }
}

/// Starts the refresher again if it dies: the keys of an issuer must not become stale unnoticed.
pub(super) async fn refresh_keys(settings: IssuerSettings, source: KeySource, file: KeySetFile, keys: Arc<KeyCache>) {
    loop {
        let refresher = refresher::keep_fresh(settings.clone(), source.clone(), file.clone(), Arc::clone(&keys));
        let died = tokio::task::JoinSet::from_iter([refresher]).join_next().await;
        tracing::error!(
            issuer.name = settings.name.as_str(),
            ?died,
            "the task that fetches the keys of an issuer died; it is started again"
        );
        tokio::time::sleep(RESTART_AFTER).await;
    }
}
