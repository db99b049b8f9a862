//! Small background tasks of the control plane.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::audit::health::Health;
use crate::clock;
use crate::pipeline::routing::snapshot::Snapshot;
use crate::trust::issuer::IssuerSettings;
use crate::trust::key_cache::KeyCache;
use crate::trust::key_file::WatchedKeyFile;
use crate::trust::key_set_file::KeySetFile;
use crate::trust::key_source::FetchedKeys;
use crate::trust::refresher;
use crate::upstream::names::{self, Name, NameLookup};

const LOOK_AT_KEYS_EVERY: Duration = Duration::from_secs(1);
const FORGET_KEYS_EVERY: Duration = Duration::from_secs(10);
/// The pause before a task that has died is started again.
pub(super) const RESTART_AFTER: Duration = Duration::from_secs(1);
const WATCH_AUDIT_EVERY: Duration = Duration::from_millis(500);

/// The audit log has recovered after this time without a missing line.
const RECOVERED_AFTER: Duration = Duration::from_secs(10);

/// Watches whether the audit log has a line for each decision.
#[derive(Debug, Default)]
struct AuditRoomWatch {
    dropped: u64,
    /// The value of `dropped` when lines began to be dropped.
    before: u64,
    /// The time since the last dropped line.
    unimpeded_for: Option<Duration>,
}

impl AuditRoomWatch {
    /// Logs once when lines begin to be dropped, and once when all lines are written again.
    fn update(&mut self, dropped: u64) {
        let last = std::mem::replace(&mut self.dropped, dropped);
        let grew = last != dropped;
        match (grew, self.unimpeded_for) {
            (true, None) => {
                self.before = last;
                tracing::warn!(
                    "the audit log takes lines too slowly: decisions are counted in folded lines until it keeps up"
                );
                self.unimpeded_for = Some(Duration::ZERO);
            }
            (true, Some(_)) => self.unimpeded_for = Some(Duration::ZERO),
            (false, Some(unimpeded)) if unimpeded >= RECOVERED_AFTER => {
                tracing::info!(decisions = dropped - self.before, "the audit log has a line for each decision again");
                self.unimpeded_for = None;
            }
            (false, Some(unimpeded)) => self.unimpeded_for = Some(unimpeded + WATCH_AUDIT_EVERY),
            (false, None) => {}
        }
    }
}

pub(super) async fn watch_audit_log(health: Arc<Health>) {
    let mut watch = AuditRoomWatch::default();
    loop {
        tokio::time::sleep(WATCH_AUDIT_EVERY).await;
        watch.update(health.dropped.load(Ordering::Relaxed));
        match health.check_stuck() {
            Some(true) => {
                tracing::error!(
                    "cannot write the audit log: a write does not end; protected requests and token requests are refused until it ends; \
                     check the disk, or the reader of the pipe"
                )
            }
            Some(false) => tracing::info!("the audit log can be written again"),
            None => {}
        }
    }
}

pub(super) async fn forget_limit_keys(snapshot: Arc<ArcSwap<Snapshot>>) {
    loop {
        tokio::time::sleep(FORGET_KEYS_EVERY).await;
        snapshot.load_full().limit_store.forget_idle();
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
            "the name resolution of a server ended because of a panic; it is started again"
        );
        tokio::time::sleep(RESTART_AFTER).await;
    }
}

/// Watches the file of an issuer's keys.
pub(super) async fn watch_key_file(mut file: WatchedKeyFile) {
    loop {
        tokio::time::sleep(LOOK_AT_KEYS_EVERY).await;
        let look = move || {
            if catch_unwind(AssertUnwindSafe(|| file.look(clock::now().seconds()))).is_err() {
                tracing::error!(file = %file.path.display(), "reading a changed key file panicked: the previous keys stay in use");
            }
            file
        };
        // It fails only when the process ends.
        let Ok(looked) = tokio::task::spawn_blocking(look).await else { return };
        file = looked;
    }
}

/// Starts the refresher again if it dies: the keys of an issuer must not become stale unnoticed.
pub(super) async fn refresh_keys(
    settings: IssuerSettings,
    source: FetchedKeys,
    file: Option<KeySetFile>,
    keys: Arc<KeyCache>,
) {
    loop {
        let refresher = refresher::keep_fresh(settings.clone(), source.clone(), file.clone(), Arc::clone(&keys));
        let died = tokio::task::JoinSet::from_iter([refresher]).join_next().await;
        tracing::error!(
            issuer.name = settings.name.as_str(),
            ?died,
            "the task that fetches the keys of an issuer ended because of a panic; it is started again"
        );
        tokio::time::sleep(RESTART_AFTER).await;
    }
}
