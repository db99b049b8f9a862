//! The composition root: knows every module and starts every task.
//!
//! Takes a configuration; opens everything that can fail (files, keys, sockets) before it serves. Then it runs the
//! control plane's runtime and one thread per worker, until a signal ends them in order.

mod background;
mod certificates;
mod client_keys;
pub(crate) mod config_tests;
mod config_watch;
mod control_listeners;
pub(crate) mod control_socket;
mod descriptors;
mod external_issuers;
mod former_snapshots;
mod generation;
mod inspected_ring;
pub(crate) mod inspection;
pub(crate) mod kept_revisions;
mod listeners;
mod memory;
mod opened_stores;
mod own_keys;
mod probes;
pub(crate) mod process_hardening;
mod process_parts;
mod process_usage;
mod refusals;
pub(crate) mod rehearsal;
mod reload;
mod reload_error;
mod reload_handle;
mod reload_status;
mod replay;
mod restart;
mod revocation;
mod service_manager;
mod shared_stores;
pub(crate) mod start_error;
mod stop;
mod stored_clients;
mod tasks;
mod upstreams_in_use;
mod verified_config;
mod watchdog;
mod workers;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::sync_channel;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use arc_swap::ArcSwap;
use certificates::Certificates;
use config_watch::ConfigFile;
use control_socket::ControlSocket;
use generation::NextGeneration;
use kept_revisions::KeptRevision;
use opened_stores::OpenedStores;
use probes::ScrapeSources;
use process_parts::ProcessParts;
use reload::{ChangingParts, Reloader};
use reload_status::ReloadStatus;
use restart::RestartSettings;
use service_manager::ServiceManager;
use start_error::StartError;
use tasks::Tasks;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};
use watchdog::{Watchdog, WatchdogInterval};
use workers::{WorkerChange, WorkerHandle, Workers};

use crate::audit::batch::Batch;
use crate::audit::health::Health;
use crate::audit::ledger::{LineSender, OnFailure};
use crate::audit::record::Event;
use crate::audit::writer::AuditWriter;
use crate::clock;
use crate::config::diff::view::KeptSettings;
use crate::config::types::Config;
use crate::issuer::authorization_server::Offloads;
use crate::issuer::offload::{self, Offload};
use crate::server::connection_limiter::ConnectionLimiter;
use crate::server::drain;
use crate::server::inherited_sockets::InheritedSockets;
use crate::trust::replay::ReplayKeeper;
use crate::trust::revocation::RevocationEntry;
use crate::trust::revocation_keeper::Keeper;

/// The control plane's runtime, before the configuration is read. Catches the signals that must not end the process.
/// Holds the sockets that were passed to the process.
pub(crate) struct Control {
    runtime: Runtime,
    harmless: stop::Harmless,
    hang_up: Signal,
    inherited: Arc<InheritedSockets>,
}

/// The gateway with everything open, before it serves.
pub(crate) struct App {
    file: ConfigFile,
    next: NextGeneration,
    addresses: Vec<SocketAddr>,
    parts: ProcessParts,
    restart: RestartSettings,
    revoked: Vec<RevocationEntry>,
    kept: KeptSettings,
    revision: KeptRevision,
    changing: ChangingParts,
    workers: usize,
    writer: AuditWriter,
    health: Arc<Health>,
    reopen_audit: Arc<AtomicBool>,
    keeper: Keeper,
    replay_keeper: ReplayKeeper,
    offload: [Runtime; 3],
    control: Runtime,
    signals: stop::Signals,
    /// Asks for a reload.
    hang_up: Signal,
}

/// More than all lines of all workers fill.
const AUDIT_BATCHES: usize = 256;
const CONTROL_THREADS: usize = 2;
/// Each password hash takes 19 MiB or more.
const PASSWORD_THREADS: usize = 2;
/// The time for the audit writer to flush after everything else has ended.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

impl Control {
    pub(crate) fn start() -> Result<Self, StartError> {
        let inherited = Arc::new(InheritedSockets::take()?);
        let runtime = control_runtime()?;
        let (harmless, hang_up) = {
            let _in_runtime = runtime.enter();
            (stop::Harmless::catch()?, signal(SignalKind::hangup())?)
        };
        Ok(Self { runtime, harmless, hang_up, inherited })
    }
}

impl App {
    /// Opens everything that can fail. `path` is the file of the configuration, if it is to be read again.
    pub(crate) fn open(mut config: Config, path: Option<PathBuf>, control: Control) -> Result<Self, StartError> {
        let Control { runtime: control, harmless, hang_up, inherited } = control;
        inherited.check(&config.addresses())?;
        for address in inherited.addresses() {
            info!(%address, "using the listening socket of the service manager");
        }
        // Before any listener is bound: connections that the kernel accepts are served even if a stop signal arrives
        // first.
        let signals = {
            let _in_control = control.enter();
            stop::Signals::catch(harmless)?
        };
        let health = Arc::new(Health::default());
        let reopen_audit = Arc::new(AtomicBool::new(false));
        let settings = config.audit_settings();
        let changing = ChangingParts {
            audit: Arc::clone(&settings.changing),
            shutdown: Arc::new(ArcSwap::from_pointee(config.shutdown)),
        };
        let writer = AuditWriter::open(settings, Arc::clone(&reopen_audit), Arc::clone(&health))?;
        if let Some(key) = writer.public_key() {
            info!(%key, "the checkpoints of the audit log are signed with this key");
        }
        if config.audit.rules.on_failure == OnFailure::Drop {
            warn!("audit.on_failure is `drop`: requests are answered even if their audit records cannot be written");
        }
        let stores = OpenedStores::open(&config, &control)?;
        let OpenedStores { keeper, revoker, replay_keeper, replay, shared } = stores;
        let workers = config.workers;
        let (offload, offloads) = start_offloads(workers)?;
        let parts = ProcessParts {
            revocations: Arc::clone(keeper.published()),
            revoker,
            replay,
            shared,
            offloads,
            certificates: Certificates::default(),
            limiter: Arc::new(ConnectionLimiter::new(verified_config::connection_limits(&config), workers)),
            memory_is_short: Arc::default(),
            inherited,
            control: control.handle().clone(),
        };
        let (restart, revoked) = (RestartSettings::of(&config), config.revoked.clone());
        let file = ConfigFile::new(path, &config);
        let (kept, revision) = (KeptSettings::of(&config), KeptRevision::of(&mut config));
        let next = NextGeneration::open(config, &parts, None)?;
        let addresses = next.listeners.addresses();
        Ok(Self {
            file,
            next,
            addresses,
            parts,
            restart,
            revoked,
            kept,
            revision,
            changing,
            workers,
            writer,
            health,
            reopen_audit,
            keeper,
            replay_keeper,
            offload,
            control,
            signals,
            hang_up,
        })
    }

    /// The addresses of the listeners. Port 0 of the configuration is replaced by the actual port.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    pub(crate) fn admin_address(&self) -> Option<SocketAddr> {
        self.next.control_listeners.admin_address()
    }

    pub(crate) fn probes_address(&self) -> Option<SocketAddr> {
        self.next.control_listeners.probes_address()
    }

    /// Serves until a signal ends it. Calls `started` once connections are accepted.
    pub(crate) fn run(self, started: impl FnOnce()) -> Result<(), StartError> {
        let Self { file, mut next, parts, restart, revoked, kept, changing, writer, health, .. } = self;
        let (keeper, offload, control, signals) = (self.keeper, self.offload, self.control, self.signals);
        let reopen_audit = self.reopen_audit;
        let published = Arc::new(ArcSwap::new(Arc::clone(&next.snapshot)));
        parts.certificates.replace(std::mem::take(&mut next.certificates));
        parts.certificates.start()?;
        let (lines, batches) = sync_channel(AUDIT_BATCHES);
        let lines = LineSender::new(lines, Arc::clone(&health));
        self.revision.keep();
        let audit_thread = writer.start(batches)?;
        record(Event::Start, &next.snapshot.config, &lines);
        next.opened_ring.iter().for_each(|ring| ring.record_start(&next.snapshot.config, &lines));
        revocation::start(keeper, Arc::clone(&published), lines.clone())?;
        control.block_on(parts.shared.wait_for_revocations());
        replay::start(self.replay_keeper)?;
        let ((stage, drain), manager) = (drain::channel(), ServiceManager::start());
        let plan = workers::Plan::new(&published, &parts, drain.clone(), &lines, &changing.shutdown);
        let mut tasks = Tasks::new(control.handle().clone());
        tasks.replace(next.tasks(&parts, &published, &lines));
        let (listeners, changes) = std::mem::take(&mut next.listeners).serve(self.workers);
        let (workers, handles) = start_workers(changes, plan, &manager, &control)?;
        control.spawn(refusals::log(Arc::clone(&parts.limiter), Arc::clone(&published)));
        let status =
            Arc::new(ReloadStatus::new(next.snapshot.config.clone(), parts.shared.instance.clone(), clock::now()));
        let sources = ScrapeSources::of(&parts, (&health, &published, &status));
        let reports = handles.iter().map(|worker| worker.reports.clone()).collect();
        let probes = probes::probes(drain.clone(), sources, reports);
        let control_listeners = std::mem::take(&mut next.control_listeners).serve(None, &probes, control.handle());
        control.spawn(background::forget_limit_keys(Arc::clone(&published)));
        control.spawn(background::watch_audit_log(Arc::clone(&health)));
        let (revoker, replay, shared) = (parts.revoker.clone(), parts.replay.clone(), parts.shared.clone());
        let state_directory = next.state_directory.clone();
        let reloader = Reloader {
            file,
            running: Arc::new(next.begin(listeners)),
            control_listeners,
            restart,
            revoked,
            kept: Arc::new(kept),
            parts,
            published: Arc::clone(&published),
            changing: changing.clone(),
            tasks,
            workers: handles,
            probes,
            lines: lines.clone(),
            status,
            drain,
            manager: manager.clone(),
            control: control.handle().clone(),
            compiler: offload[2].handle().clone(),
        };
        manager.notify(reloader.ready());
        let control_socket = reloader.start(self.hang_up, &state_directory);
        started();
        let (shutdown, reopen_audit) = (&*changing.shutdown, &*reopen_audit);
        let stop = stop::wait_for_stop_signal(signals, &stage, shutdown, reopen_audit, &manager, workers);
        let ended = control.block_on(stop);
        control.block_on(shared.leave());
        revoker.end();
        replay.end();
        control_socket.into_iter().for_each(ControlSocket::end);
        record(Event::Stop, &published.load().config, &lines);
        drop(lines);
        offload.into_iter().for_each(Runtime::shutdown_background);
        control.shutdown_background();
        join_within(audit_thread, FLUSH_TIMEOUT, &health);
        ended
    }
}

fn control_runtime() -> io::Result<Runtime> {
    Builder::new_multi_thread().worker_threads(CONTROL_THREADS).thread_name("control").enable_all().build()
}

/// Starts the workers, and the watchdog of the service manager where it has one.
fn start_workers(
    changes: Vec<Vec<WorkerChange>>,
    plan: workers::Plan,
    manager: &ServiceManager,
    control: &Runtime,
) -> Result<(Workers, Vec<WorkerHandle>), StartError> {
    let mut watchdog = WatchdogInterval::of_process().map(Watchdog::new);
    let started = workers::start(changes, &plan, watchdog.as_mut())?;
    if let Some(watchdog) = watchdog {
        control.spawn(watchdog.run(manager.clone(), plan.drain));
    }
    Ok(started)
}

fn record(event: Event<'_>, config: &str, lines: &LineSender) {
    let mut batch = Batch::default();
    event.write(clock::now(), config, &mut batch);
    lines.hand_over_within(batch);
}

fn join_within(thread: JoinHandle<()>, timeout: Duration, health: &Health) {
    let (ended, has_ended) = std::sync::mpsc::channel();
    let waiting = thread::Builder::new().spawn(move || {
        let _ = thread.join();
        let _ = ended.send(());
    });
    if waiting.is_err() || has_ended.recv_timeout(timeout).is_err() {
        tracing::error!(
            lines = health.unwritten(),
            "the audit log could not be flushed in time: its last lines are lost"
        );
    }
}

/// The runtimes for signatures, for passwords and for reading configurations, and the queues before the first two.
fn start_offloads(workers: usize) -> Result<([Runtime; 3], Offloads), StartError> {
    let signatures = Offload::runtime(workers)?;
    let passwords = Offload::low_priority_runtime(PASSWORD_THREADS)?;
    let compiler = Offload::low_priority_runtime(1)?;
    let offloads = Offloads {
        signatures: Offload::new(signatures.handle().clone(), offload::SIGNATURES),
        passwords: Offload::new(passwords.handle().clone(), offload::PASSWORDS),
    };
    Ok(([signatures, passwords, compiler], offloads))
}
