//! What runs by one configuration: its snapshot, its issuers, its listeners, and the tasks that keep them up to date.
//!
//! [`NextGeneration::open`] makes the next one beside the one in use: it opens everything that can fail, takes over
//! what is defined alike, and changes nothing. Dropped, it leaves no trace but files that were missing: a self-signed
//! certificate, a first signing key.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

use super::certificates::CertificateSet;
use super::control_listeners::{ControlAddresses, OpenedControl};
use super::external_issuers::{self, IssuerInUse};
use super::listeners::{ListenerInUse, OpenedListeners};
use super::own_keys::{OpenedRing, OwnKeys};
use super::process_parts::ProcessParts;
use super::start_error::StartError;
use super::tasks::{Task, TaskSubject};
use super::{background, client_keys, memory, stored_clients, upstreams_in_use};
use crate::audit::ledger::LineSender;
use crate::config::types::{Config, Oauth};
use crate::issuer::clients::Clients;
use crate::issuer::ring_store::RingSettings;
use crate::pipeline::routing::snapshot::{OwnIssuer, Snapshot, SnapshotParts};
use crate::trust::issuer::TrustedIssuer;
use crate::trust::static_tokens::StaticTokens;
use crate::trust::verify::Trust;
use crate::upstream::health_check;
use crate::upstream::names::{DnsSettings, Name, NameLookup};

/// The parts of the configuration in use that the next one takes over.
#[derive(Debug)]
pub(super) struct Generation {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) listeners: Vec<ListenerInUse>,
    control_addresses: ControlAddresses,
    issuers: Vec<IssuerInUse>,
    own_keys: Option<OwnKeys>,
    names: NamesInUse,
}

/// The next generation, before it is in use.
pub(super) struct NextGeneration {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) listeners: OpenedListeners,
    pub(super) control_listeners: OpenedControl,
    control_addresses: ControlAddresses,
    pub(super) certificates: CertificateSet,
    /// If the configuration before had no signing keys.
    pub(super) opened_ring: Option<OpenedRing>,
    issuers: Vec<IssuerInUse>,
    /// With the settings that they get.
    own_keys: Option<(OwnKeys, RingSettings)>,
    names: NamesInUse,
    memory: Option<u64>,
    pub(super) state_directory: PathBuf,
}

/// The names of servers, and how they are looked up.
#[derive(Clone, Debug)]
struct NamesInUse {
    names: Vec<Arc<Name>>,
    settings: DnsSettings,
    /// Unique in the process, for the settings.
    number: u64,
}

impl NextGeneration {
    /// Blocks.
    pub(super) fn open(
        mut config: Config,
        parts: &ProcessParts,
        before: Option<&Generation>,
    ) -> Result<Self, StartError> {
        if let Some(before) = before {
            upstreams_in_use::take_over(&before.snapshot.upstreams, &mut config);
        }
        let mut certificates = parts.certificates.next();
        let of_before = before.map_or(&[][..], |before| &before.listeners);
        let listeners =
            OpenedListeners::open(&config.listeners, config.workers, of_before, &parts.inherited, &mut certificates)?;
        let of_before = before.map(|before| before.control_addresses).unwrap_or_default();
        let control_listeners = OpenedControl::open(&config, of_before, &parts.inherited)?;
        let control_addresses = ControlAddresses::of(&config);
        let of_issuers = external_issuers::take_certificates(&mut config.issuers);
        let changed = external_issuers::changed(config.all_issuers(), before.map(|before| &before.snapshot.trust));
        let of_before = before.map_or(&[][..], |before| &before.issuers);
        let issuers = std::mem::take(&mut config.issuers);
        let issuers = IssuerInUse::all(issuers, &changed, (&config.state_directory, &parts.control), of_before);
        certificates.add_issuers(&issuers, of_issuers);
        certificates.add_upstreams(&config.upstreams, std::mem::take(&mut config.upstream_certificates));
        let names = NamesInUse::of(&config, before.map(|before| &before.names));
        let memory = config.limits.memory.bytes(memory::available);
        let state_directory = config.state_directory.clone();
        let own = config.oauth.take().map(|oauth| OwnParts::open(oauth, parts, before)).transpose()?;
        let (trusted, own) = own.map(|own| (own.trusted, (own.issuer, own.keys, own.opened))).unzip();
        let (oauth, own_keys, opened_ring) = own.map_or((None, None, None), |(a, b, c)| (Some(a), Some(b), c));
        let trusted = trusted.into_iter().chain(issuers.iter().map(|issuer| Arc::clone(&issuer.trusted)));
        let of_before = before.map(|before| before.snapshot.trust.static_tokens());
        let static_tokens = StaticTokens::new(config.static_tokens, of_before);
        let parts = SnapshotParts {
            config: config.id,
            open_streams: config.reload.open_streams,
            limits: config.limits,
            audit: config.audit.rules,
            trusted_proxies: config.trusted_proxies,
            upstreams: config.upstreams,
            routes: config.routes,
            limit_rates: config.limit_rates,
            leases: parts.shared.leases.clone(),
            store: parts.shared.redis.clone(),
            trust: Trust::new(trusted.collect(), Arc::clone(&parts.revocations)).with_static_tokens(static_tokens),
            static_token_failures: config.static_token_failures,
            dpop: config.dpop,
            oauth,
            resources: config.resources,
            certificates: Some(certificates.served()),
        };
        let snapshot = Arc::new(Snapshot::new(parts, before.map(|before| &*before.snapshot)));
        Ok(Self {
            snapshot,
            listeners,
            control_listeners,
            control_addresses,
            certificates,
            opened_ring,
            issuers,
            own_keys,
            names,
            memory,
            state_directory,
        })
    }

    /// The tasks that it needs. `published` is where its snapshot is, or will be.
    pub(super) fn tasks(
        &mut self,
        parts: &ProcessParts,
        published: &Arc<ArcSwap<Snapshot>>,
        lines: &LineSender,
    ) -> Vec<Task> {
        let mut tasks: Vec<Task> =
            self.issuers.iter().filter_map(|issuer| issuer.task(&self.state_directory)).collect();
        tasks.extend(self.names.tasks());
        tasks.extend(self.snapshot.oauth.iter().flat_map(|own| client_keys::tasks(&own.server)));
        tasks.extend(self.snapshot.oauth.iter().filter_map(|own| stored_clients::task(&own.server, published, lines)));
        tasks.extend(self.snapshot.upstreams.iter().filter_map(|upstream| {
            Some(Task::new(TaskSubject::HealthChecks(upstream.number), health_check::keep_checking(upstream)?))
        }));
        if let Some(budget) = self.memory {
            let watch = memory::watch(budget, Arc::clone(&parts.limiter), Arc::clone(&parts.memory_is_short));
            tasks.push(Task::new(TaskSubject::Memory(budget), watch));
        }
        tasks.extend(match (self.opened_ring.take(), &self.own_keys) {
            (Some(opened), _) => Some(opened.task(Arc::clone(published), lines.clone())),
            // It runs already.
            (None, Some((keys, _))) => Some(Task::new(keys.subject(), async {})),
            (None, None) => None,
        });
        tasks
    }

    /// It is in use from now on.
    pub(super) fn begin(self, listeners: Vec<ListenerInUse>) -> Generation {
        let own_keys = self.own_keys.map(|(keys, settings)| {
            keys.set_settings(settings);
            keys
        });
        self.issuers.iter().for_each(IssuerInUse::begin);
        Generation {
            snapshot: self.snapshot,
            listeners,
            control_addresses: self.control_addresses,
            issuers: self.issuers,
            own_keys,
            names: self.names,
        }
    }
}

impl NamesInUse {
    fn of(config: &Config, before: Option<&Self>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let same = before.filter(|before| before.settings == config.dns);
        let number = same.map_or_else(|| NEXT.fetch_add(1, Ordering::Relaxed), |same| same.number);
        Self { names: config.names.clone(), settings: config.dns.clone(), number }
    }

    fn tasks(&self) -> impl Iterator<Item = Task> {
        let lookup = Arc::new(NameLookup::new(self.settings.clone()));
        self.names.iter().map(move |name| {
            let subject = TaskSubject::Name { name: name.as_str().to_owned(), settings: self.number };
            Task::new(subject, background::resolve(Arc::clone(name), Arc::clone(&lookup)))
        })
    }
}

/// Our own issuer.
struct OwnParts {
    trusted: Arc<TrustedIssuer>,
    issuer: OwnIssuer,
    keys: (OwnKeys, RingSettings),
    opened: Option<OpenedRing>,
}

impl OwnParts {
    fn open(oauth: Oauth, parts: &ProcessParts, before: Option<&Generation>) -> Result<Self, StartError> {
        let Oauth { server, trust, ring, mut clients, stored, token_limits, client_limits } = oauth;
        if let Some(before) = before.and_then(|before| before.snapshot.oauth.as_ref()) {
            client_keys::take_over(&mut clients, &before.server);
        }
        let known = before.and_then(|before| Some((before, before.own_keys.clone()?)));
        let (keys, opened) = match &known {
            Some((_, keys)) => (keys.clone(), None),
            None => {
                let opened = OpenedRing::open(ring.clone(), parts)?;
                (opened.keys().clone(), Some(opened))
            }
        };
        let of_before = known.as_ref().and_then(|(before, _)| before.snapshot.oauth.as_ref());
        let of_stored = of_before.and_then(|before| before.server.stored_clients());
        let stored = stored.map(|stored| stored_clients::open(stored, of_stored, parts)).transpose()?;
        let server = match of_before {
            Some(before) => before.server.following(server, clients, stored),
            None => keys.server(
                server,
                Clients::new(clients).with_stored(stored),
                parts.offloads.clone(),
                parts.replay.clone(),
            ),
        };
        let own = known.as_ref().and_then(|(before, _)| before.snapshot.trust.issuers().first());
        let trusted = match own.filter(|own| own.settings == trust) {
            Some(same) => Arc::clone(same),
            None => keys.trusted(trust),
        };
        let issuer =
            OwnIssuer { server: Arc::new(server), token_limits, client_limits, revoker: parts.revoker.clone() };
        Ok(Self { trusted, issuer, keys: (keys, ring), opened })
    }
}
