//! Replaces the configuration while the gateway runs: compile, verify, swap. As a whole, or not at all.
//!
//! One task of the control plane does one reload after the other. Everything that can fail happens beside the
//! configuration in use, on a thread of low priority. Then one atomic store replaces the snapshot, for every request
//! that begins from then on. If anything is wrong, the configuration in use stays, and no part of the new one is used.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio::signal::unix::Signal;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tracing::{error, info, warn};

use super::control_listeners::ControlListeners;
use super::former_snapshots::FormerSnapshots;
use super::generation::Generation;
use super::process_parts::ProcessParts;
use super::reload_error::ReloadError;
use super::reload_status::ReloadStatus;
use super::restart::RestartSettings;
use super::tasks::Tasks;
use super::verified_config::VerifiedConfig;
use super::workers::{WorkerChange, WorkerHandle};
use crate::audit::batch::Batch;
use crate::audit::ledger::LineSender;
use crate::audit::record::{Event, RefusedReload, ReloadRecord};
use crate::audit::writer::ChangingSettings;
use crate::clock;
use crate::config::diff::summary::AccessSummary;
use crate::config::diff::view::KeptSettings;
use crate::pipeline::routing::snapshot::Snapshot;
use crate::server::drain::{Drain, Shutdown, Stage};
use crate::telemetry::admin::Probes;
use crate::trust::revocation::RevocationEntry;
use crate::trust::revocation_keeper::RulesChange;

/// The one way to reload the configuration.
#[derive(Clone, Debug)]
pub(crate) struct ReloadHandle(mpsc::Sender<ReloadRequest>);

/// The revisions of a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reloaded {
    pub(crate) old: String,
    pub(crate) new: String,
}

/// Where to send the result.
pub(super) type ReloadRequest = oneshot::Sender<Result<Reloaded, ReloadError>>;

/// The task that reloads.
pub(super) struct Reloader {
    /// `None` if the configuration is not in a file.
    pub(super) path: Option<PathBuf>,
    pub(super) running: Arc<Generation>,
    pub(super) control_listeners: ControlListeners,
    pub(super) restart: RestartSettings,
    pub(super) revoked: Vec<RevocationEntry>,
    /// For the comparison with the next configuration.
    pub(super) kept: Arc<KeptSettings>,
    pub(super) parts: ProcessParts,
    pub(super) published: Arc<ArcSwap<Snapshot>>,
    pub(super) changing: ChangingParts,
    pub(super) tasks: Tasks,
    pub(super) workers: Vec<WorkerHandle>,
    pub(super) probes: Probes,
    pub(super) lines: LineSender,
    pub(super) status: Arc<ReloadStatus>,
    pub(super) drain: Drain,
    pub(super) control: Handle,
    /// Compiles on a thread of low priority.
    pub(super) compiler: Handle,
}

/// Settings that parts of the process read when they need them.
#[derive(Clone, Debug)]
pub(super) struct ChangingParts {
    pub(super) audit: Arc<ArcSwap<ChangingSettings>>,
    pub(super) shutdown: Arc<ArcSwap<Shutdown>>,
}

/// Reloads that wait for their turn.
const MAX_WAITING: usize = 16;
/// A file system that does not answer must not keep all later reloads waiting.
const VERIFY_TIMEOUT: Duration = Duration::from_secs(60);
/// For requests that began before the swap to be authenticated.
const NARROW_AFTER: Duration = Duration::from_millis(500);
/// For a worker to take a change of its listeners.
const WORKER_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn channel() -> (ReloadHandle, mpsc::Receiver<ReloadRequest>) {
    let (sender, receiver) = mpsc::channel(MAX_WAITING);
    (ReloadHandle(sender), receiver)
}

impl ReloadHandle {
    /// Reloads after the reloads that wait already.
    pub(crate) async fn reload(&self) -> Result<Reloaded, ReloadError> {
        let (reply, result) = oneshot::channel();
        self.0.send(reply).await.map_err(|_| ReloadError::Stopping)?;
        result.await.unwrap_or(Err(ReloadError::Stopping))
    }

    /// Reloads at each signal, as long as the gateway runs. Signals that come during a reload are one more.
    pub(super) async fn reload_at(self, mut hang_up: Signal) {
        while hang_up.recv().await.is_some() {
            // It has been logged.
            let _ = self.reload().await;
        }
    }
}

impl Reloader {
    /// Runs as long as the gateway.
    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<ReloadRequest>) {
        let former = Arc::new(FormerSnapshots::default());
        self.control.spawn(Arc::clone(&former).drop_unused());
        while let Some(reply) = requests.recv().await {
            let result = self.reload(&former).await;
            // Fails if the requester no longer waits.
            let _ = reply.send(result);
        }
    }

    async fn reload(&mut self, former: &FormerSnapshots) -> Result<Reloaded, ReloadError> {
        let (revision, verified) = self.verify().await;
        let committed = match verified {
            Ok(verified) => self.commit(verified, former).await,
            Err(error) => Err(error),
        };
        let now = clock::now();
        match committed {
            Ok((reloaded, access)) => {
                self.status.succeeded(&reloaded.new, now);
                self.succeeded(&reloaded, &access);
                Ok(reloaded)
            }
            Err(error) => {
                let errors = error.texts();
                self.status.refused(revision.clone(), errors.clone(), now);
                for text in &errors {
                    error!("{text}");
                }
                error!(
                    errors = errors.len(),
                    config = self.running.snapshot.config,
                    "the configuration was not reloaded: the one in use stays; correct the errors and reload again"
                );
                let refused = RefusedReload {
                    refused: revision.as_deref(),
                    error: errors.first().map_or("", String::as_str),
                    errors: errors.len() as u64,
                };
                self.record(Event::ReloadRefused(refused));
                Err(error)
            }
        }
    }

    /// Records and logs a reload, with what it changes in terms of access.
    fn succeeded(&self, reloaded: &Reloaded, access: &AccessSummary) {
        let AccessSummary { wider, narrower, changed, text } = access;
        let changes = Some(&**text).filter(|text| !text.is_empty());
        let counts = (*wider as u64, *narrower as u64, *changed as u64);
        let (wider, narrower, changed) = counts;
        self.record(Event::Reload(ReloadRecord { previous: &reloaded.old, wider, narrower, changed, changes }));
        info!(
            config = reloaded.new,
            previous = reloaded.old,
            access.wider = wider,
            access.narrower = narrower,
            access.changed = changed,
            access.changes = changes,
            "the configuration was reloaded"
        );
    }

    /// Verifies the new configuration on another thread. Also gives its revision, if it has one.
    async fn verify(&self) -> (Option<String>, Result<VerifiedConfig, ReloadError>) {
        if self.drain.stage() != Stage::Serving {
            return (None, Err(ReloadError::Stopping));
        }
        let Some(path) = self.path.clone() else { return (None, Err(ReloadError::NoFile)) };
        let (restart, parts, running) = (self.restart.clone(), self.parts.clone(), Arc::clone(&self.running));
        let kept = Arc::clone(&self.kept);
        let verify = move || VerifiedConfig::open(&path, &restart, &parts, (&running, &kept));
        match timeout(VERIFY_TIMEOUT, self.compiler.spawn_blocking(verify)).await {
            Ok(Ok(verified)) => verified,
            Ok(Err(_)) => (None, Err(ReloadError::Panicked)),
            Err(_) => (None, Err(ReloadError::TimedOut)),
        }
    }

    /// Takes the new configuration into use. Only the first step can fail.
    async fn commit(
        &mut self,
        verified: VerifiedConfig,
        former: &FormerSnapshots,
    ) -> Result<(Reloaded, AccessSummary), ReloadError> {
        let VerifiedConfig { mut next, restart, revoked, audit, shutdown, connections, warnings, access, kept } =
            verified;
        if revoked != self.revoked {
            // Revocations of both configurations hold until no request is decided by the former one.
            let added = self.parts.revoker.set_rules(revoked.clone(), RulesChange::Add).await;
            added.map_err(ReloadError::Revocations)?;
        }
        warnings.iter().for_each(|warning| warn!("{warning}"));
        let (old, new) = (self.running.snapshot.config.clone(), next.snapshot.config.clone());
        let tasks = next.tasks(&self.parts, &self.published, &self.lines);
        self.published.store(Arc::clone(&next.snapshot));
        self.parts.certificates.replace(std::mem::take(&mut next.certificates));
        self.parts.limiter.set_limits(connections);
        self.changing.audit.store(Arc::new(audit));
        self.changing.shutdown.store(Arc::new(shutdown));
        self.tasks.replace(tasks);
        let (listeners, changes) = std::mem::take(&mut next.listeners).serve(self.workers.len());
        self.send(changes).await;
        let before = std::mem::take(&mut self.control_listeners);
        let opened = std::mem::take(&mut next.control_listeners);
        self.control_listeners = opened.serve(Some(before), &self.probes, &self.control);
        let before = std::mem::replace(&mut self.running, Arc::new(next.begin(listeners)));
        former.keep(Arc::clone(&before.snapshot));
        (self.restart, self.kept) = (restart, Arc::new(kept));
        self.narrow_revocations(revoked).await;
        Ok((Reloaded { old, new }, access))
    }

    /// Sends each worker the changes of its listeners.
    async fn send(&self, changes: Vec<Vec<WorkerChange>>) {
        for (worker, changes) in self.workers.iter().zip(changes) {
            for change in changes {
                if !timeout(WORKER_TIMEOUT, worker.changes.send(change)).await.is_ok_and(|sent| sent.is_ok()) {
                    error!("a worker did not take a change of its listeners within 5 s: restart the gateway");
                }
            }
        }
    }

    /// Ends the revocations that are configured no more.
    async fn narrow_revocations(&mut self, revoked: Vec<RevocationEntry>) {
        if revoked == self.revoked {
            return;
        }
        self.revoked.clone_from(&revoked);
        sleep(NARROW_AFTER).await;
        if self.parts.revoker.set_rules(revoked, RulesChange::Replace).await.is_err() {
            error!("removed `revoked` entries stay in force: the file of revocations cannot be read; reload again");
        }
    }

    fn record(&self, event: Event<'_>) {
        let mut batch = Batch::default();
        event.write(clock::now(), &self.running.snapshot.config, &mut batch);
        // Blocks while the writer is busy.
        tokio::task::block_in_place(|| self.lines.hand_over_within(batch));
    }
}
