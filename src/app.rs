//! The composition root: knows every module and starts every task.
//!
//! Takes a configuration; opens everything that can fail (files, keys, sockets) before it serves. Then it runs the
//! control plane's runtime and one thread per worker, until a signal ends them in order.

mod background;
mod certificates;
mod control_listeners;
mod descriptors;
pub(crate) mod inspection;
mod issuer_keys;
mod memory;
mod own_keys;
mod probes;
pub(crate) mod process_hardening;
mod process_usage;
mod refusals;
mod revocation;
pub(crate) mod start_error;
mod stop;
mod workers;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::sync_channel;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use arc_swap::ArcSwap;
use certificates::Certificates;
use control_listeners::ControlListeners;
use issuer_keys::KeyFiles;
use own_keys::RingKeeper;
use rustls::ServerConfig;
use start_error::StartError;
use tokio::runtime::{Builder, Runtime};
use tracing::{info, warn};

use crate::audit::batch::Batch;
use crate::audit::health::Health;
use crate::audit::ledger::{LineSender, OnFailure};
use crate::audit::record::Event;
use crate::audit::writer::AuditWriter;
use crate::clock;
use crate::config::types::{Config, Listener, ListenerKind};
use crate::issuer::offload::Offload;
use crate::pipeline::connection::ListenerRuntime;
use crate::pipeline::request::peer::ListenerMode;
use crate::pipeline::routing::limit_store::LimitStore;
use crate::pipeline::routing::snapshot::Snapshot;
use crate::server::connection::ListenerTransport;
use crate::server::connection_limiter::ConnectionLimiter;
use crate::server::drain;
use crate::server::listener;
use crate::server::tls;
use crate::trust::key_source::{FetchedKeys, KeySource};
use crate::trust::revocation_keeper::{Keeper, Revoker};
use crate::trust::verify::Trust;
use crate::upstream::health_check;
use crate::upstream::names::NameLookup;

/// The control plane's runtime, before the configuration is read. Catches the signals that must not end the process.
pub(crate) struct Control {
    runtime: Runtime,
    harmless: stop::Harmless,
}

/// The gateway with everything open, before it serves.
pub(crate) struct App {
    config: Config,
    addresses: Vec<SocketAddr>,
    sockets: Vec<Vec<TcpListener>>,
    listener_runtimes: Vec<ListenerRuntime>,
    certificates: Certificates,
    key_files: KeyFiles,
    control_listeners: ControlListeners,
    snapshot: Arc<ArcSwap<Snapshot>>,
    ring_keeper: Option<RingKeeper>,
    writer: AuditWriter,
    health: Arc<Health>,
    reopen_audit: Arc<AtomicBool>,
    keeper: Keeper,
    revoker: Revoker,
    offload: [Runtime; 2],
    control: Runtime,
    signals: stop::Signals,
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
        let harmless = {
            let _in_runtime = runtime.enter();
            stop::Harmless::catch()?
        };
        Ok(Self { runtime, harmless })
    }
}

impl App {
    /// Opens everything that can fail.
    pub(crate) fn open(mut config: Config, control: Control) -> Result<Self, StartError> {
        let Control { runtime: control, harmless } = control;
        // Before any listener is bound: connections that the kernel accepts are served even if a stop signal arrives
        // first.
        let signals = {
            let _in_control = control.enter();
            stop::Signals::catch(harmless)?
        };
        let health = Arc::new(Health::default());
        let reopen_audit = Arc::new(AtomicBool::new(false));
        let writer = AuditWriter::open(config.audit_settings(), Arc::clone(&reopen_audit), Arc::clone(&health))?;
        if let Some(key) = writer.public_key() {
            info!(%key, "the checkpoints of the audit log are signed with this key");
        }
        if config.audit.rules.on_failure == OnFailure::Drop {
            warn!("audit.on_failure is `drop`: requests are answered even if their audit records cannot be written");
        }
        let mut certificates = Certificates::default();
        let mut listener_runtimes = Vec::new();
        for listener in &config.listeners {
            listener_runtimes.push(listener_runtime(listener, &mut certificates)?);
        }
        config.upstream_certificates.drain(..).for_each(|of_upstream| certificates.watch_upstream(of_upstream));
        for issuer in &mut config.issuers {
            if let KeySource::Fetched(FetchedKeys { ca: Some(ca), .. }) = &issuer.source {
                issuer.watch.take().into_iter().for_each(|watch| certificates.watch_issuer(ca.clone(), watch));
            }
        }
        let mut sockets = Vec::new();
        for listener in &config.listeners {
            sockets.push(listener::bind(listener.address, config.workers)?);
        }
        let addresses = sockets.iter().flat_map(|sockets| sockets.first()?.local_addr().ok()).collect();
        let control_listeners = ControlListeners::bind(&config)?;
        let (keeper, revoker) = revocation::open(&config)?;
        let offload = [Offload::runtime(config.workers)?, Offload::low_priority_runtime(PASSWORD_THREADS)?];
        let (snapshot, ring_keeper, key_files) = snapshot(&mut config, (&keeper, &revoker), &offload, &control)?;
        let snapshot = Arc::new(ArcSwap::from_pointee(snapshot));
        Ok(Self {
            config,
            addresses,
            sockets,
            listener_runtimes,
            certificates,
            key_files,
            control_listeners,
            snapshot,
            writer,
            health,
            reopen_audit,
            keeper,
            ring_keeper,
            revoker,
            offload,
            control,
            signals,
        })
    }

    /// The addresses of the listeners. Port 0 of the configuration is replaced by the actual port.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    pub(crate) fn admin_address(&self) -> Option<SocketAddr> {
        self.control_listeners.admin_address()
    }

    pub(crate) fn probes_address(&self) -> Option<SocketAddr> {
        self.control_listeners.probes_address()
    }

    /// Serves until a signal ends it. Calls `started` once connections are accepted.
    pub(crate) fn run(self, started: impl FnOnce()) -> Result<(), StartError> {
        let Self { config, sockets, listener_runtimes, snapshot, writer, health, reopen_audit, .. } = self;
        let (keeper, ring_keeper, revoker) = (self.keeper, self.ring_keeper, self.revoker);
        let certificates = self.certificates.statuses();
        self.certificates.start()?;
        self.key_files.start()?;
        let (offload, control, signals) = (self.offload, self.control, self.signals);
        let (lines, batches) = sync_channel(AUDIT_BATCHES);
        let lines = LineSender::new(lines, Arc::clone(&health));
        let audit_thread = writer.start(batches)?;
        record(Event::Start, &config, &lines);
        ring_keeper.iter().for_each(|ring_keeper| ring_keeper.record_start(&config.id, &lines));
        revocation::start(keeper, snapshot.load().trust.issuers().to_vec(), config.id.clone(), lines.clone())?;
        let (stage, drain) = drain::channel();
        let total = descriptors::connections(config.limits.connections);
        let per_address = config.limits.connections_per_address;
        let limiter =
            Arc::new(ConnectionLimiter::new(total, per_address, config.trusted_proxies.clone(), config.workers));
        let memory_is_short = Arc::new(AtomicBool::new(false));
        if let Some(budget) = config.limits.memory.bytes(memory::available) {
            control.spawn(memory::watch(budget, Arc::clone(&limiter), Arc::clone(&memory_is_short)));
        }
        let mut plan = workers::Plan {
            listener_runtimes,
            snapshot: Arc::clone(&snapshot),
            limiter: Arc::clone(&limiter),
            drain: drain.clone(),
            pin_limit: Arc::default(),
            lines,
            memory_is_short,
        };
        let (workers, reports) = workers::start(&config, sockets, &mut plan)?;
        control.spawn(refusals::log(Arc::clone(&limiter), Arc::clone(&snapshot)));
        let sources = probes::ScrapeSources {
            health: Arc::clone(&health),
            limiter,
            snapshot: Arc::clone(&snapshot),
            certificates,
        };
        let probes = probes::probes(drain.clone(), sources, reports);
        self.control_listeners.serve(&probes, &control);
        let lookup = Arc::new(NameLookup::new(config.dns.clone()));
        for name in &config.names {
            control.spawn(background::resolve(Arc::clone(name), Arc::clone(&lookup)));
        }
        if let Some(ring_keeper) = ring_keeper {
            control.spawn(ring_keeper.keep(config.id.clone(), plan.lines.clone()));
        }
        control.spawn(health_check::keep_checking(snapshot.load().upstreams.clone()));
        control.spawn(background::forget_limit_keys(snapshot));
        control.spawn(background::watch_audit_log(Arc::clone(&health)));
        started();
        let ended =
            control.block_on(stop::wait_for_stop_signal(signals, &stage, config.shutdown, &reopen_audit, workers));
        revoker.end();
        record(Event::Stop, &config, &plan.lines);
        drop(plan);
        offload.into_iter().for_each(Runtime::shutdown_background);
        control.shutdown_background();
        join_within(audit_thread, FLUSH_TIMEOUT, &health);
        ended
    }
}

fn control_runtime() -> io::Result<Runtime> {
    Builder::new_multi_thread().worker_threads(CONTROL_THREADS).thread_name("control").enable_all().build()
}

fn listener_runtime(listener: &Listener, known: &mut Certificates) -> Result<ListenerRuntime, StartError> {
    let (tls, listener_mode) = match &listener.kind {
        ListenerKind::Tls { certificates, min_version } => {
            let served = certificates.iter().map(|files| known.serve(files)).collect::<Result<_, _>>()?;
            let config: ServerConfig = tls::server_config(served, *min_version)?;
            (Some(Arc::new(config)), ListenerMode::Tls)
        }
        ListenerKind::Plain => (None, ListenerMode::Plain { loopback: listener.address.ip().is_loopback() }),
        ListenerKind::Redirect { origin } => (None, ListenerMode::Redirect { origin: origin.clone() }),
    };
    let transport = ListenerTransport { tls, proxy_protocol: listener.proxy_protocol };
    Ok(ListenerRuntime { transport, listener_mode, believed: listener.believed })
}

fn snapshot(
    config: &mut Config,
    (keeper, revoker): (&Keeper, &Revoker),
    offload: &[Runtime; 2],
    control: &Runtime,
) -> Result<(Snapshot, Option<RingKeeper>, KeyFiles), StartError> {
    let mut issuers = Vec::new();
    let oauth = match config.oauth.take() {
        Some(oauth) => {
            let (own, trusted, ring_keeper) = own_keys::open(oauth, revoker.clone(), offload)?;
            issuers.push(Arc::new(trusted));
            Some((own, ring_keeper))
        }
        None => None,
    };
    let (oauth, ring_keeper) = oauth.unzip();
    let (external, key_files) =
        issuer_keys::open(std::mem::take(&mut config.issuers), &config.state_directory, control);
    issuers.extend(external);
    let snapshot = Snapshot {
        config: config.id.clone(),
        limits: config.limits.clone(),
        trusted_proxies: config.trusted_proxies.clone(),
        upstreams: std::mem::take(&mut config.upstreams),
        routes: std::mem::take(&mut config.routes),
        limit_store: LimitStore::new(&config.limit_rates),
        trust: Trust::new(issuers, Arc::clone(keeper.published())),
        oauth,
    };
    Ok((snapshot, ring_keeper, key_files))
}

fn record(event: Event<'_>, config: &Config, lines: &LineSender) {
    let mut batch = Batch::default();
    event.write(clock::now(), &config.id, &mut batch);
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
