//! Replaces the configuration while the gateway runs: compile, verify, swap. As a whole, or not at all.
//!
//! One task of the control plane does one reload after the other. Everything that can fail happens beside the
//! configuration in use, on a thread of low priority. Then one atomic store replaces the snapshot, for every request
//! that begins from then on. If anything is wrong, the configuration in use stays, and no part of the new one is used.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf, absolute};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio::signal::unix::Signal;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tracing::{error, info, warn};

use super::config_watch::ConfigFile;
use super::control_listeners::ControlListeners;
use super::control_socket::{ControlRequests, ControlSocket};
use super::former_snapshots::FormerSnapshots;
use super::generation::Generation;
use super::process_parts::ProcessParts;
use super::reload_error::ReloadError;
use super::reload_handle::{ReloadHandle, ReloadRequest, Reloaded};
use super::reload_status::ReloadStatus;
use super::restart::RestartSettings;
use super::service_manager::{Notification, ServiceManager};
use super::tasks::Tasks;
use super::verified_config::{Verification, VerifiedConfig};
use super::workers::{WorkerChange, WorkerHandle};
use crate::audit::batch::Batch;
use crate::audit::ledger::LineSender;
use crate::audit::record::{Event, RefusedReload, ReloadRecord};
use crate::audit::writer::ChangingSettings;
use crate::clock;
use crate::config::diff::summary::AccessSummary;
use crate::config::diff::view::KeptSettings;
use crate::file_watch::FileWatch;
use crate::pipeline::routing::snapshot::Snapshot;
use crate::server::drain::{Drain, Shutdown, Stage};
use crate::telemetry::admin::Probes;
use crate::trust::revocation::RevocationEntry;
use crate::trust::revoker::RulesChange;

/// The task that reloads.
pub(super) struct Reloader {
    pub(super) file: ConfigFile,
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
    pub(super) manager: ServiceManager,
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
/// For the file of the new revision.
const KEEP_TIMEOUT: Duration = Duration::from_secs(5);
/// For requests that began before the swap to be authenticated.
const NARROW_AFTER: Duration = Duration::from_millis(500);
/// For a worker to take a change of its listeners.
const WORKER_TIMEOUT: Duration = Duration::from_secs(5);

impl Reloader {
    /// Starts all that reloads: the task, the signal, the watch of the files, and the control socket in this folder.
    pub(super) fn start(self, hang_up: Signal, state_directory: &Path) -> Option<ControlSocket> {
        let (sender, requests) = mpsc::channel(MAX_WAITING);
        let (reloads, control, published) = (ReloadHandle(sender), self.control.clone(), Arc::clone(&self.published));
        let config_file = self.file.path.as_ref().map(|path| absolute(path).unwrap_or_else(|_| path.clone()));
        control.spawn(self.file.watch(reloads.clone()));
        control.spawn(self.run(requests));
        control.spawn(reload_at(hang_up, reloads.clone()));
        let requests = config_file.map(|config_file| ControlRequests { config_file, reloads, published });
        requests.map(|requests| ControlSocket::start(state_directory, requests, &control))
    }

    /// Runs as long as the gateway.
    async fn run(mut self, mut requests: mpsc::Receiver<ReloadRequest>) {
        let former = Arc::new(FormerSnapshots::default());
        self.control.spawn(Arc::clone(&former).drop_unused());
        while let Some(ReloadRequest { settled, reply }) = requests.recv().await {
            self.notify(Notification::Reloading);
            let result = self.reload(settled, &former).await;
            self.file.publish();
            self.notify(self.ready());
            // Fails if the requester no longer waits.
            let _ = reply.send(result);
        }
    }

    /// Serving, with the result of the last reload.
    pub(super) fn ready(&self) -> Notification {
        Notification::Ready(self.status.summary())
    }

    /// During a shutdown the service manager waits for the end alone.
    fn notify(&self, notification: Notification) {
        if self.drain.stage() == Stage::Serving {
            self.manager.notify(notification);
        }
    }

    async fn reload(&mut self, settled: Option<FileWatch>, former: &FormerSnapshots) -> Result<Reloaded, ReloadError> {
        let is_asked_for = settled.is_none();
        let Some(Verification { revision, result, .. }) = self.verify(settled).await else {
            return Ok(self.unchanged());
        };
        let is_in_use = || revision.as_ref().is_some_and(|revision| self.status.is_settled_on(revision));
        if !is_asked_for && result.is_ok() && is_in_use() {
            return Ok(self.unchanged());
        }
        let committed = match result {
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
                    "the configuration was not reloaded: the one in use stays; {}",
                    error.remedy()
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

    fn unchanged(&self) -> Reloaded {
        let in_use = &self.running.snapshot.config;
        Reloaded { old: in_use.clone(), new: in_use.clone(), warnings: Vec::new() }
    }

    /// Verifies the new configuration on another thread, and records the files that it is made of. `None` if files
    /// that had settled have changed again.
    async fn verify(&mut self, settled: Option<FileWatch>) -> Option<Verification> {
        if self.drain.stage() != Stage::Serving {
            return Some(Verification::failed(ReloadError::Stopping));
        }
        let Some(path) = self.file.path.clone() else { return Some(Verification::failed(ReloadError::NoFile)) };
        let (restart, parts, running) = (self.restart.clone(), self.parts.clone(), Arc::clone(&self.running));
        let (known, kept) = (self.file.files.clone(), Arc::clone(&self.kept));
        let verify = move || {
            let began = clock::now().seconds();
            let open = || VerifiedConfig::open(&path, &restart, &parts, (&running, &kept));
            let (verification, files) = match settled {
                Some(mut files) => (files.use_settled(began, open), files),
                None => {
                    let files = known.afresh();
                    (Some(open()), files)
                }
            };
            let mut all: BTreeSet<PathBuf> = verification.iter().flat_map(|read| &read.named_files).cloned().collect();
            all.insert(path.clone());
            if verification.as_ref().is_none_or(|read| read.result.is_err()) {
                all.extend(files.paths().cloned());
            }
            (verification, files.for_files(all, began))
        };
        match timeout(VERIFY_TIMEOUT, self.compiler.spawn_blocking(verify)).await {
            Ok(Ok((verification, files))) => {
                self.file.files = files;
                verification
            }
            Ok(Err(_)) => Some(Verification::failed(ReloadError::Panicked)),
            Err(_) => Some(Verification::failed(ReloadError::TimedOut)),
        }
    }

    /// Takes the new configuration into use. Only the first step can fail.
    async fn commit(
        &mut self,
        verified: VerifiedConfig,
        former: &FormerSnapshots,
    ) -> Result<(Reloaded, AccessSummary), ReloadError> {
        let VerifiedConfig { mut next, restart, revoked, audit, shutdown, connections, .. } = verified;
        let VerifiedConfig { is_watching, warnings, access, kept, kept_revision, .. } = verified;
        if revoked != self.revoked {
            // Revocations of both configurations hold until no request is decided by the former one.
            let added = self.parts.revoker.set_rules(revoked.clone(), RulesChange::Add).await;
            added.map_err(ReloadError::Revocations)?;
        }
        warnings.iter().for_each(|warning| warn!("{warning}"));
        // Before lines name it. A failure was logged, and a slow disk only delays the explanation.
        let _ = timeout(KEEP_TIMEOUT, self.compiler.spawn_blocking(|| kept_revision.keep())).await;
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
        self.file.is_watching = is_watching;
        self.narrow_revocations(revoked).await;
        Ok((Reloaded { old, new, warnings }, access))
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

/// Reloads at each signal, as long as the gateway runs. Signals that come during a reload are one more.
async fn reload_at(mut hang_up: Signal, reloads: ReloadHandle) {
    while hang_up.recv().await.is_some() {
        // It has been logged.
        let _ = reloads.reload().await;
    }
}
