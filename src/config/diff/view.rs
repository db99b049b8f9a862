//! The parts of a configuration that decide about access, of a file or of the running gateway.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::audit::ledger::{OnFailure, Rules};
use crate::config::types::{Admin, Audit, Config, ExternalIssuer, Listener, Oauth};
use crate::issuer::authorization_server::ServerSettings;
use crate::issuer::client::Client;
use crate::issuer::ring_store::RingSettings;
use crate::issuer::stored_clients::ClientDatabase;
use crate::network::Networks;
use crate::pipeline::routing::rate_limit::{ClientLimits, RateLimit};
use crate::pipeline::routing::resource::ProtectedResources;
use crate::pipeline::routing::snapshot::Snapshot;
use crate::pipeline::routing::table::RouteTable;
use crate::server::limits::Limits;
use crate::store::settings::SharedSettings;
use crate::trust::issuer::IssuerSettings;
use crate::trust::key_source::KeySource;
use crate::trust::proof_rules::DpopSettings;
use crate::trust::revocation::RevocationEntry;
use crate::trust::static_tokens::StaticTokenSettings;
use crate::upstream::names::DnsSettings;
use crate::upstream::service::Upstream;

/// The parts that are compared.
#[derive(Debug)]
pub(crate) struct AccessView<'c> {
    pub(super) listeners: &'c [Listener],
    pub(super) limits: &'c Limits,
    pub(super) trusted_proxies: &'c Networks,
    pub(super) oauth: Option<OauthView<'c>>,
    pub(super) dpop: DpopSettings,
    pub(super) issuers: Vec<(&'c IssuerSettings, &'c KeySource)>,
    pub(super) upstreams: &'c [Arc<Upstream>],
    pub(super) routes: &'c RouteTable,
    pub(super) resources: &'c ProtectedResources,
    pub(super) on_failure: OnFailure,
    pub(super) admin: Option<&'c Admin>,
    pub(super) probes: Option<SocketAddr>,
    pub(super) state_directory: &'c Path,
    pub(super) revoked: &'c [RevocationEntry],
    pub(super) dns: &'c DnsSettings,
    pub(super) shared: &'c SharedSettings,
    pub(super) static_tokens: Vec<&'c StaticTokenSettings>,
}

/// Our own issuer.
#[derive(Debug)]
pub(super) struct OauthView<'c> {
    pub(super) server: &'c ServerSettings,
    pub(super) trust: &'c IssuerSettings,
    pub(super) ring: &'c RingSettings,
    pub(super) clients: Vec<&'c Client>,
    /// The database of further clients.
    pub(super) stored: Option<&'c ClientDatabase>,
    pub(super) token_limits: &'c [RateLimit],
    pub(super) client_limits: &'c ClientLimits,
}

/// The parts that a snapshot does not have, kept for the comparison at the next reload.
#[derive(Clone, Debug)]
pub(crate) struct KeptSettings {
    listeners: Vec<Listener>,
    oauth: Option<(ServerSettings, IssuerSettings, RingSettings)>,
    issuers: Vec<(IssuerSettings, KeySource)>,
    on_failure: OnFailure,
    admin: Option<Admin>,
    probes: Option<SocketAddr>,
    state_directory: PathBuf,
    revoked: Vec<RevocationEntry>,
    dns: DnsSettings,
    shared: SharedSettings,
}

impl<'c> AccessView<'c> {
    pub(crate) fn of(config: &'c Config) -> Self {
        // What is left out decides about no request.
        let Config {
            id: _,
            masked: _,
            warnings: _,
            ended_certificates: _,
            workers: _,
            listeners,
            limits,
            trusted_proxies,
            shutdown: _,
            oauth,
            dpop,
            issuers,
            upstreams,
            routes,
            resources,
            // The rates of the limits that routes, clients and the token endpoint have.
            limit_rates: _,
            audit: Audit { target: _, rules: Rules { on_failure, synced: _, refusals: _ }, rotation: _ },
            admin,
            probes,
            state_directory,
            revoked,
            // The files of the certificates that the upstreams name.
            upstream_certificates: _,
            shared,
            // The names of the servers of the upstreams.
            names: _,
            dns,
            // How a configuration is taken into use, and the tests before that.
            reload: _,
            named_files: _,
            tests: _,
            static_tokens,
            // Always the same.
            static_token_failures: _,
        } = config;
        Self {
            listeners,
            limits,
            trusted_proxies,
            oauth: oauth.as_ref().map(OauthView::of),
            dpop: *dpop,
            issuers: issuers.iter().map(|ExternalIssuer { settings, source, watch: _ }| (settings, source)).collect(),
            upstreams,
            routes,
            resources,
            on_failure: *on_failure,
            admin: admin.as_ref(),
            probes: *probes,
            state_directory,
            revoked,
            dns,
            shared,
            static_tokens: static_tokens.iter().collect(),
        }
    }

    /// The configuration that runs.
    pub(crate) fn running(kept: &'c KeptSettings, snapshot: &'c Snapshot) -> Self {
        let KeptSettings {
            listeners,
            oauth,
            issuers,
            on_failure,
            admin,
            probes,
            state_directory,
            revoked,
            dns,
            shared,
        } = kept;
        let oauth = oauth.as_ref().zip(snapshot.oauth.as_ref()).map(|((server, trust, ring), running)| OauthView {
            server,
            trust,
            ring,
            clients: running.server.clients().collect(),
            stored: running.server.stored_clients().map(|stored| stored.place()),
            token_limits: &running.token_limits,
            client_limits: &running.client_limits,
        });
        Self {
            listeners,
            limits: &snapshot.limits,
            trusted_proxies: &snapshot.trusted_proxies,
            oauth,
            dpop: snapshot.proofs.settings,
            issuers: issuers.iter().map(|(settings, source)| (settings, source)).collect(),
            upstreams: &snapshot.upstreams,
            routes: &snapshot.routes,
            resources: &snapshot.resources,
            on_failure: *on_failure,
            admin: admin.as_ref(),
            probes: *probes,
            state_directory,
            revoked,
            dns,
            shared,
            static_tokens: snapshot.trust.static_tokens().settings().collect(),
        }
    }

    /// Every trusted issuer, our own first.
    pub(super) fn all_issuers(&self) -> impl Iterator<Item = &'c IssuerSettings> {
        let own = self.oauth.as_ref().map(|oauth| oauth.trust);
        own.into_iter().chain(self.issuers.iter().map(|(settings, _)| *settings))
    }
}

impl<'c> OauthView<'c> {
    fn of(oauth: &'c Oauth) -> Self {
        let Oauth { server, trust, ring, clients, stored, token_limits, client_limits } = oauth;
        let stored = stored.as_ref().map(|stored| &stored.place);
        Self { server, trust, ring, clients: clients.iter().collect(), stored, token_limits, client_limits }
    }
}

impl KeptSettings {
    /// To be kept of a configuration that is taken into use.
    pub(crate) fn of(config: &Config) -> Self {
        let own = |oauth: &Oauth| (oauth.server.clone(), oauth.trust.clone(), oauth.ring.clone());
        let issuers = config.issuers.iter().map(|issuer| (issuer.settings.clone(), issuer.source.clone()));
        Self {
            listeners: config.listeners.clone(),
            oauth: config.oauth.as_ref().map(own),
            issuers: issuers.collect(),
            on_failure: config.audit.rules.on_failure,
            admin: config.admin.clone(),
            probes: config.probes,
            state_directory: config.state_directory.clone(),
            revoked: config.revoked.clone(),
            dns: config.dns.clone(),
            shared: config.shared.without_secrets(),
        }
    }
}
