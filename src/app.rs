//! The composition root: the only file that knows every module, and the one that starts every task.
//!
//! Takes a configuration; opens what can fail (files, keys, sockets) before anything is served, then runs the control
//! plane's runtime and one thread per worker until a signal ends them, in order.

mod background;
mod descriptors;
pub(crate) mod inspection;
mod memory;
mod own_keys;
mod probes;
pub(crate) mod process_hardening;
mod revocation;
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
use own_keys::RingKeeper;
use rustls::ServerConfig;
use tokio::runtime::{Builder, Runtime};
use tracing::{info, warn};

use crate::audit::health::Health;
use crate::audit::ledger::{Batch, LineSender, OnFailure};
use crate::audit::record::Event;
use crate::audit::target::OpenError;
use crate::audit::writer::AuditWriter;
use crate::clock;
use crate::config::types::{Config, ExternalIssuer, Listener, ListenerKind};
use crate::issuer::offload::Offload;
use crate::issuer::ring_files::RingError;
use crate::jose::signing::SigningKeyFault;
use crate::pipeline::connection::ListenerRuntime;
use crate::pipeline::request::peer::ListenerMode;
use crate::pipeline::routing::snapshot::Snapshot;
use crate::server::certificate::{CertificateError, CertificateFiles};
use crate::server::connection_limiter::ConnectionLimiter;
use crate::server::drain;
use crate::server::listener::{self, ListenError};
use crate::server::tls;
use crate::trust::issuer::{IssuerSettings, KeySource, TrustedIssuer};
use crate::trust::key_cache::KeyCache;
use crate::trust::key_set_file::KeySetFile;
use crate::trust::refresher;
use crate::trust::revocation_keeper::{Keeper, Revoker};
use crate::trust::revocation_store::StoreError;
use crate::trust::verify::Trust;
use crate::upstream::health;
use crate::upstream::names::NameLookup;

/// Why the gateway can't start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("cannot start a runtime or thread")]
    Runtime(#[from] io::Error),
    #[error(transparent)]
    Audit(#[from] OpenError),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error("no worker could start")]
    Workers,
    #[error("TLS can't be set up")]
    Tls(#[from] rustls::Error),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("revoked tokens could be taken for good ones")]
    Revocations(#[from] StoreError),
    #[error("the signing keys can't be used")]
    Ring(#[from] RingError),
    #[error("the signing keys can't be used")]
    SigningKey(#[from] SigningKeyFault),
}

/// The control plane's runtime before the configuration is read, with the signals caught that must not end the process.
pub(crate) struct Control {
    runtime: Runtime,
    harmless: stop::Harmless,
}

/// The gateway with everything open, before it serves.
pub(crate) struct App {
    config: Config,
    addresses: Vec<SocketAddr>,
    sockets: Vec<Vec<TcpListener>>,
    gates: Vec<ListenerRuntime>,
    admin: Option<TcpListener>,
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

const AUDIT_BATCHES: usize = 64;
const CONTROL_THREADS: usize = 2;
/// Each password that is checked takes 19 MiB or more.
const PASSWORD_THREADS: usize = 2;
const RESTART_AFTER: Duration = Duration::from_secs(1);
/// For the audit writer to flush once everything else has ended.
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
        // Before any listener is bound: a connection that the kernel takes is served, even if the stop signal comes first.
        let signals = {
            let _in_control = control.enter();
            stop::Signals::catch(harmless)?
        };
        let health = Arc::new(Health::default());
        let reopen_audit = Arc::new(AtomicBool::new(false));
        let writer = AuditWriter::open(config.audit_settings(), Arc::clone(&reopen_audit), Arc::clone(&health))?;
        if let Some(key) = writer.public_key() {
            info!(%key, "checkpoints of the audit log are signed with this key");
        }
        if config.audit.rules.on_failure == OnFailure::Drop {
            warn!("audit.on_failure is `drop`: decisions that can't be recorded are taken all the same");
        }
        let gates = config.listeners.iter().map(gate).collect::<Result<Vec<_>, _>>()?;
        let mut sockets = Vec::new();
        for listener in &config.listeners {
            sockets.push(listener::bind(listener.address, config.workers)?);
        }
        let addresses = sockets.iter().flat_map(|sockets| sockets.first()?.local_addr().ok()).collect();
        let admin = config.admin.as_ref().map(|admin| listener::bind(admin.address, 1)).transpose()?;
        let (keeper, revoker) = revocation::open(&config)?;
        let offload = [Offload::runtime(config.workers)?, Offload::patient_runtime(PASSWORD_THREADS)?];
        let (snapshot, ring_keeper) = snapshot(&mut config, (&keeper, &revoker), &offload, &control)?;
        let snapshot = Arc::new(ArcSwap::from_pointee(snapshot));
        let admin = admin.and_then(|mut sockets| sockets.pop());
        Ok(Self {
            config,
            addresses,
            sockets,
            gates,
            admin,
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

    /// Where it listens; with port 0 in the configuration, where that has led.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    pub(crate) fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref()?.local_addr().ok()
    }

    /// Serves until a signal ends it. `started` is told once connections are taken.
    pub(crate) fn run(self, started: impl FnOnce()) -> Result<(), StartError> {
        let Self { config, sockets, gates, admin, snapshot, writer, health, reopen_audit, .. } = self;
        let (keeper, ring_keeper, revoker) = (self.keeper, self.ring_keeper, self.revoker);
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
        let places =
            Arc::new(ConnectionLimiter::new(total, per_address, config.trusted_proxies.clone(), config.workers));
        let memory_is_short = Arc::new(AtomicBool::new(false));
        if let Some(budget) = config.limits.memory.bytes(memory::available) {
            control.spawn(memory::watch(budget, Arc::clone(&places), Arc::clone(&memory_is_short)));
        }
        let mut plan = workers::Plan {
            gates,
            snapshot: Arc::clone(&snapshot),
            places: Arc::clone(&places),
            drain: drain.clone(),
            pin_limit: Arc::default(),
            lines,
            memory_is_short,
        };
        let (workers, reports) = workers::start(&config, sockets, &mut plan)?;
        if let Some(listener) = admin {
            let hosts = config.admin.as_ref().map(|admin| admin.hosts.clone()).unwrap_or_default();
            let probes =
                probes::probes(hosts, drain.clone(), Arc::clone(&health), places, Arc::clone(&snapshot), reports);
            control.spawn(probes::serve_admin(listener, probes));
        }
        let lookup = Arc::new(NameLookup::new(config.name_servers.clone()));
        for name in &config.names {
            control.spawn(background::resolve(Arc::clone(name), Arc::clone(&lookup)));
        }
        if let Some(ring_keeper) = ring_keeper {
            control.spawn(ring_keeper.keep(config.id.clone(), plan.lines.clone()));
        }
        control.spawn(health::keep_checking(snapshot.load().upstreams.clone()));
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

fn gate(listener: &Listener) -> Result<ListenerRuntime, StartError> {
    let (tls, listener_mode) = match &listener.kind {
        ListenerKind::Tls { certificates, min_version } => {
            let pairs = certificates.iter().map(open_certificate).collect::<Result<_, _>>()?;
            let config: ServerConfig = tls::server_config(pairs, *min_version)?;
            (Some(Arc::new(config)), ListenerMode::Tls)
        }
        ListenerKind::Plain => (None, ListenerMode::Plain { loopback: listener.address.ip().is_loopback() }),
        ListenerKind::Redirect { origin } => (None, ListenerMode::Redirect { origin: origin.clone() }),
    };
    Ok(ListenerRuntime { tls, listener_mode, proxy_protocol: listener.proxy_protocol })
}

fn open_certificate(files: &CertificateFiles) -> Result<Arc<rustls::sign::CertifiedKey>, CertificateError> {
    if files.self_signed {
        if files.are_missing() {
            files.make()?;
        }
        warn!(cert = %files.cert.display(), "serving a self-signed certificate: for development only");
    }
    files.load()
}

fn snapshot(
    config: &mut Config,
    (keeper, revoker): (&Keeper, &Revoker),
    offload: &[Runtime; 2],
    control: &Runtime,
) -> Result<(Snapshot, Option<RingKeeper>), StartError> {
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
    for ExternalIssuer { settings, source } in config.issuers.drain(..) {
        let shelf = KeySetFile::of(&config.state_directory, &settings.name);
        let keys = Arc::new(refresher::restored(&settings, &source, &shelf));
        control.spawn(keep_fresh(settings.clone(), source, shelf, Arc::clone(&keys)));
        issuers.push(Arc::new(TrustedIssuer { settings, keys }));
    }
    let snapshot = Snapshot {
        config: config.id.clone(),
        limits: config.limits.clone(),
        trusted_proxies: config.trusted_proxies.clone(),
        upstreams: std::mem::take(&mut config.upstreams),
        routes: std::mem::take(&mut config.routes),
        trust: Trust::new(issuers, Arc::clone(keeper.published())),
        oauth,
    };
    Ok((snapshot, ring_keeper))
}

/// Begins again should the refresher ever die: an issuer's keys must not grow old in silence.
async fn keep_fresh(settings: IssuerSettings, source: KeySource, shelf: KeySetFile, keys: Arc<KeyCache>) {
    loop {
        let refresher = refresher::keep_fresh(settings.clone(), source.clone(), shelf.clone(), Arc::clone(&keys));
        let died = tokio::task::JoinSet::from_iter([refresher]).join_next().await;
        tracing::error!(
            issuer.name = settings.name.as_str(),
            ?died,
            "the refresher of an issuer died; starting it again"
        );
        tokio::time::sleep(RESTART_AFTER).await;
    }
}

fn record(event: Event<'_>, config: &Config, lines: &LineSender) {
    let mut batch = Batch::default();
    event.write(clock::now(), &config.id, &mut batch);
    lines.hand_over_within(batch);
}

fn join_within(thread: JoinHandle<()>, patience: Duration, health: &Health) {
    let (ended, has_ended) = std::sync::mpsc::channel();
    let waiting = thread::Builder::new().spawn(move || {
        let _ = thread.join();
        let _ = ended.send(());
    });
    if waiting.is_err() || has_ended.recv_timeout(patience).is_err() {
        tracing::error!(lines = health.unwritten(), "the audit log could not be flushed: its last lines are lost");
    }
}
