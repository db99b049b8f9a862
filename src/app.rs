//! The composition root: knows every module and starts every task.
//!
//! Takes a configuration; opens everything that can fail (files, keys, sockets) before it serves. Then it runs the
//! control plane's runtime and one thread per worker, until a signal ends them in order.

mod background;
mod certificates;
mod control_listeners;
mod descriptors;
mod external_issuers;
mod former_snapshots;
mod generation;
pub(crate) mod inspection;
mod listeners;
mod memory;
mod own_keys;
mod probes;
pub(crate) mod process_hardening;
mod process_parts;
mod process_usage;
mod refusals;
pub(crate) mod rehearsal;
mod reload;
mod reload_error;
mod reload_status;
mod restart;
mod revocation;
pub(crate) mod start_error;
mod stop;
mod tasks;
mod upstreams_in_use;
mod verified_config;
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
use generation::NextGeneration;
use process_parts::ProcessParts;
use reload::{ChangingParts, Reloader};
use reload_status::ReloadStatus;
use restart::RestartSettings;
use start_error::StartError;
use tasks::Tasks;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

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
use crate::trust::revocation::RevocationEntry;
use crate::trust::revocation_keeper::Keeper;

/// The control plane's runtime, before the configuration is read. Catches the signals that must not end the process.
pub(crate) struct Control {
    runtime: Runtime,
    harmless: stop::Harmless,
    hang_up: Signal,
}

/// The gateway with everything open, before it serves.
pub(crate) struct App {
    /// The file of the configuration, if it can be read again.
    path: Option<PathBuf>,
    next: NextGeneration,
    addresses: Vec<SocketAddr>,
    parts: ProcessParts,
    restart: RestartSettings,
    revoked: Vec<RevocationEntry>,
    kept: KeptSettings,
    changing: ChangingParts,
    workers: usize,
    writer: AuditWriter,
    health: Arc<Health>,
    reopen_audit: Arc<AtomicBool>,
    keeper: Keeper,
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
        let runtime = control_runtime()?;
        let (harmless, hang_up) = {
            let _in_runtime = runtime.enter();
            (stop::Harmless::catch()?, signal(SignalKind::hangup())?)
        };
        Ok(Self { runtime, harmless, hang_up })
    }
}

impl App {
    /// Opens everything that can fail. `path` is the file of the configuration, if it is to be read again.
    pub(crate) fn open(config: Config, path: Option<PathBuf>, control: Control) -> Result<Self, StartError> {
        let Control { runtime: control, harmless, hang_up } = control;
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
        let (keeper, revoker) = revocation::open(&config)?;
        let workers = config.workers;
        let offload = [
            Offload::runtime(workers)?,
            Offload::low_priority_runtime(PASSWORD_THREADS)?,
            Offload::low_priority_runtime(1)?,
        ];
        let [signatures, passwords, _] = &offload;
        let offloads = Offloads {
            signatures: Offload::new(signatures.handle().clone(), offload::SIGNATURES),
            passwords: Offload::new(passwords.handle().clone(), offload::PASSWORDS),
        };
        let parts = ProcessParts {
            revocations: Arc::clone(keeper.published()),
            revoker,
            offloads,
            certificates: Certificates::default(),
            limiter: Arc::new(ConnectionLimiter::new(verified_config::connection_limits(&config), workers)),
            memory_is_short: Arc::default(),
        };
        let (restart, revoked) = (RestartSettings::of(&config), config.revoked.clone());
        let kept = KeptSettings::of(&config);
        let next = NextGeneration::open(config, &parts, None)?;
        let addresses = next.listeners.addresses();
        Ok(Self {
            path,
            next,
            addresses,
            parts,
            restart,
            revoked,
            kept,
            changing,
            workers,
            writer,
            health,
            reopen_audit,
            keeper,
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
        let Self { path, mut next, parts, restart, revoked, kept, changing, writer, health, .. } = self;
        let (keeper, offload, control, signals) = (self.keeper, self.offload, self.control, self.signals);
        let reopen_audit = self.reopen_audit;
        let published = Arc::new(ArcSwap::new(Arc::clone(&next.snapshot)));
        parts.certificates.replace(std::mem::take(&mut next.certificates));
        parts.certificates.start()?;
        let (lines, batches) = sync_channel(AUDIT_BATCHES);
        let lines = LineSender::new(lines, Arc::clone(&health));
        let audit_thread = writer.start(batches)?;
        record(Event::Start, &next.snapshot.config, &lines);
        next.opened_ring.iter().for_each(|ring| ring.record_start(&next.snapshot.config, &lines));
        revocation::start(keeper, Arc::clone(&published), lines.clone())?;
        let (stage, drain) = drain::channel();
        let (snapshot, lines_of_workers, shutdown) =
            (Arc::clone(&published), lines.clone(), Arc::clone(&changing.shutdown));
        let plan = workers::Plan::new(snapshot, &parts, drain.clone(), lines_of_workers, shutdown);
        let mut tasks = Tasks::new(control.handle().clone());
        tasks.replace(next.tasks(&parts, &published, &lines));
        let (listeners, changes) = std::mem::take(&mut next.listeners).serve(self.workers);
        let (workers, handles) = workers::start(changes, &plan)?;
        drop(plan);
        control.spawn(refusals::log(Arc::clone(&parts.limiter), Arc::clone(&published)));
        let status = Arc::new(ReloadStatus::new(next.snapshot.config.clone(), clock::now()));
        let sources = probes::ScrapeSources {
            health: Arc::clone(&health),
            limiter: Arc::clone(&parts.limiter),
            snapshot: Arc::clone(&published),
            certificates: parts.certificates.clone(),
            reloads: Arc::clone(&status),
        };
        let reports = handles.iter().map(|worker| worker.reports.clone()).collect();
        let probes = probes::probes(drain.clone(), sources, reports);
        let control_listeners = std::mem::take(&mut next.control_listeners).serve(None, &probes, control.handle());
        control.spawn(background::forget_limit_keys(Arc::clone(&published)));
        control.spawn(background::watch_audit_log(Arc::clone(&health)));
        let (reloads, requests) = reload::channel();
        let revoker = parts.revoker.clone();
        let reloader = Reloader {
            path,
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
            control: control.handle().clone(),
            compiler: offload[2].handle().clone(),
        };
        control.spawn(reloader.run(requests));
        control.spawn(reloads.reload_at(self.hang_up));
        started();
        let ended =
            control.block_on(stop::wait_for_stop_signal(signals, &stage, &changing.shutdown, &reopen_audit, workers));
        revoker.end();
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
