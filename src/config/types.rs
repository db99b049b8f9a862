//! The resolved configuration: every name is found, every value is checked.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::config_test::ConfigTests;
use super::diagnostics::Diagnostic;
use super::upstream_certificates::UpstreamCertificates;
use super::warning::Warning;
use crate::audit::ledger::Rules;
use crate::audit::rotation::Rotation;
use crate::audit::target::AuditTarget;
use crate::audit::writer::{ChangingSettings, WriterSettings};
use crate::file_watch::FileWatch;
use crate::issuer::authorization_server::ServerSettings;
use crate::issuer::client::Client;
use crate::issuer::ring_store::RingSettings;
use crate::issuer::stored_clients::StoredClientSettings;
use crate::network::Networks;
use crate::pipeline::request::origin_part::BelievedParts;
use crate::pipeline::routing::rate_limit::{ClientLimits, LimitRate, RateLimit};
use crate::pipeline::routing::resource::ProtectedResources;
use crate::pipeline::routing::snapshot::OpenStreamsRule;
use crate::pipeline::routing::table::RouteTable;
use crate::server::certificate::CertificateFiles;
use crate::server::drain::Shutdown;
use crate::server::limits::Limits;
use crate::server::mutual_tls::MutualTls;
use crate::server::tls::MinTlsVersion;
use crate::store::settings::SharedSettings;
use crate::telemetry::admin::Hosts;
use crate::trust::issuer::IssuerSettings;
use crate::trust::key_source::KeySource;
use crate::trust::proof_rules::DpopSettings;
use crate::trust::revocation::RevocationEntry;
use crate::trust::static_tokens::StaticTokenSettings;
use crate::upstream::names::{DnsSettings, Name};
use crate::upstream::service::Upstream;

/// The resolved configuration.
#[derive(Debug)]
pub(crate) struct Config {
    /// Identifies the configuration in audit lines. See [`super::revision`].
    pub(crate) id: String,
    /// The text of the file without its secrets. Empty if only a part of the file was read.
    pub(crate) masked: String,
    /// Settings that are allowed, but are probably mistakes.
    pub(crate) warnings: Vec<Warning>,
    /// Certificates that have ended. `check` fails because of them; a start is not refused.
    pub(crate) ended_certificates: Vec<Diagnostic>,
    pub(crate) workers: usize,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) limits: Limits,
    pub(crate) trusted_proxies: Networks,
    pub(crate) shutdown: Shutdown,
    pub(crate) reload: ReloadSettings,
    /// The files that were read besides the configuration itself, or looked for.
    pub(crate) named_files: Vec<PathBuf>,
    pub(crate) oauth: Option<Oauth>,
    /// The proofs of bound tokens, of ours and of other issuers.
    pub(crate) dpop: DpopSettings,
    pub(crate) issuers: Vec<ExternalIssuer>,
    pub(crate) static_tokens: Vec<StaticTokenSettings>,
    /// The limit of values that are no static tokens. `None` without static tokens.
    pub(crate) static_token_failures: Option<RateLimit>,
    /// Includes upstreams without a route.
    pub(crate) upstreams: Vec<Arc<Upstream>>,
    pub(crate) routes: RouteTable,
    /// The resource documents, for the APIs that the routes protect.
    pub(crate) resources: ProtectedResources,
    /// The rates of all rate limits, by their place.
    pub(crate) limit_rates: Vec<LimitRate>,
    pub(crate) audit: Audit,
    pub(crate) admin: Option<Admin>,
    /// The address that serves the probes alone.
    pub(crate) probes: Option<SocketAddr>,
    /// The stores that replicas share.
    pub(crate) shared: SharedSettings,
    /// State that survives a restart, besides keys and the audit log.
    pub(crate) state_directory: PathBuf,
    pub(crate) revoked: Vec<RevocationEntry>,
    /// Of the upstreams that name certificates.
    pub(crate) upstream_certificates: Vec<UpstreamCertificates>,
    /// The names of servers, each once.
    pub(crate) names: Vec<Arc<Name>>,
    pub(crate) dns: DnsSettings,
    pub(crate) tests: ConfigTests,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReloadSettings {
    /// Whether the file and the files that it names are watched.
    pub(crate) watch: bool,
    pub(crate) open_streams: OpenStreamsRule,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Listener {
    pub(crate) address: SocketAddr,
    pub(crate) kind: ListenerKind,
    pub(crate) proxy_protocol: bool,
    pub(crate) believed: BelievedParts,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ListenerKind {
    /// Not empty; the first certificate is the default.
    Tls {
        certificates: Vec<CertificateFiles>,
        min_version: MinTlsVersion,
        /// `None`: it asks for no client certificates.
        mutual_tls: Option<MutualTls>,
    },
    Plain,
    /// To this origin, without a trailing slash.
    Redirect {
        origin: String,
    },
}

impl Listener {
    /// Whether token requests are accepted here. In clear text they are accepted on loopback addresses, and from a
    /// trusted proxy that states `https`.
    pub(crate) fn serves_tokens(&self) -> bool {
        match self.kind {
            ListenerKind::Tls { .. } => true,
            ListenerKind::Plain => self.address.ip().is_loopback() || self.believed.scheme,
            ListenerKind::Redirect { .. } => false,
        }
    }

    /// Whether clients can present certificates here: in the handshake, or by a trusted proxy that states them.
    pub(crate) fn takes_certificates(&self) -> bool {
        let by_handshake = matches!(&self.kind, ListenerKind::Tls { mutual_tls: Some(_), .. });
        by_handshake || self.believed.client_certificate
    }
}

/// Our own authorization server.
#[derive(Debug)]
pub(crate) struct Oauth {
    pub(crate) server: ServerSettings,
    /// For the verification of our own tokens.
    pub(crate) trust: IssuerSettings,
    pub(crate) ring: RingSettings,
    pub(crate) clients: Vec<Client>,
    /// For the clients in the database; `None` if there is none.
    pub(crate) stored: Option<StoredClientSettings>,
    pub(crate) token_limits: Vec<RateLimit>,
    pub(crate) client_limits: ClientLimits,
}

#[derive(Clone, Debug)]
pub(crate) struct ExternalIssuer {
    pub(crate) settings: IssuerSettings,
    pub(crate) source: KeySource,
    /// Watches the file that `source` names, if any, since before it was read.
    pub(crate) watch: Option<FileWatch>,
}

/// The admin listener.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    pub(crate) address: SocketAddr,
    pub(crate) hosts: Hosts,
    /// The networks of its peers. `None`: the address is a loopback address.
    pub(crate) allow_from: Option<Networks>,
}

#[derive(Clone, Debug)]
pub(crate) struct Audit {
    pub(crate) target: AuditTarget,
    pub(crate) rules: Rules,
    pub(crate) rotation: Rotation,
}

impl Config {
    /// Every trusted issuer, our own first.
    pub(crate) fn all_issuers(&self) -> impl Iterator<Item = &IssuerSettings> {
        let own = self.oauth.iter().map(|oauth| &oauth.trust);
        own.chain(self.issuers.iter().map(|issuer| &issuer.settings))
    }

    /// The addresses of the control plane's listeners, with their keys.
    pub(crate) fn control_addresses(&self) -> Vec<(&'static str, SocketAddr)> {
        let admin = self.admin.as_ref().map(|admin| ("admin.address", admin.address));
        let probes = self.probes.map(|address| ("probes.address", address));
        admin.into_iter().chain(probes).collect()
    }

    /// The addresses of all listeners, those of the control plane included.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        let of_control = self.control_addresses().into_iter().map(|(_, address)| address);
        self.listeners.iter().map(|listener| listener.address).chain(of_control).collect()
    }

    pub(crate) fn audit_settings(&self) -> WriterSettings {
        WriterSettings {
            target: self.audit.target.clone(),
            instance: self.shared.instance.name.clone(),
            state_directory: self.state_directory.clone(),
            changing: Arc::new(ArcSwap::from_pointee(self.changing_audit_settings())),
        }
    }

    pub(crate) fn changing_audit_settings(&self) -> ChangingSettings {
        ChangingSettings { rotation: self.audit.rotation, config: self.id.clone() }
    }

    /// The file of the first certificate. A client on this machine can trust it if it is self-signed.
    pub(crate) fn certificate_path(&self) -> Option<&Path> {
        self.listeners.iter().find_map(|listener| match &listener.kind {
            ListenerKind::Tls { certificates, .. } => certificates.first().map(|files| files.cert.as_path()),
            ListenerKind::Plain | ListenerKind::Redirect { .. } => None,
        })
    }
}
