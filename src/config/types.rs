//! The resolved configuration: every name is found, every value is checked.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::diagnostics::Diagnostic;
use crate::audit::ledger::Rules;
use crate::audit::rotation::Rotation;
use crate::audit::target::AuditTarget;
use crate::audit::writer::WriterSettings;
use crate::issuer::authorization_server::ServerSettings;
use crate::issuer::client::Client;
use crate::issuer::ring_store::RingSettings;
use crate::network::Networks;
use crate::pipeline::routing::rate_limit::{LimitRate, RateLimit};
use crate::pipeline::routing::table::RouteTable;
use crate::server::certificate::CertificateFiles;
use crate::server::drain::Shutdown;
use crate::server::limits::Limits;
use crate::server::tls::MinTlsVersion;
use crate::telemetry::admin::Hosts;
use crate::trust::issuer::{IssuerSettings, KeySource};
use crate::trust::revocation::RevocationEntry;
use crate::upstream::names::{DnsSettings, Name};
use crate::upstream::service::Upstream;

/// The resolved configuration.
#[derive(Debug)]
pub(crate) struct Config {
    /// Identifies the configuration in audit lines: the beginning of its SHA-256.
    pub(crate) id: String,
    /// Settings that are allowed, but are probably mistakes.
    pub(crate) warnings: Vec<Diagnostic>,
    pub(crate) workers: usize,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) limits: Limits,
    pub(crate) trusted_proxies: Networks,
    pub(crate) shutdown: Shutdown,
    pub(crate) oauth: Option<Oauth>,
    pub(crate) issuers: Vec<ExternalIssuer>,
    /// Includes upstreams without a route.
    pub(crate) upstreams: Vec<Arc<Upstream>>,
    pub(crate) routes: RouteTable,
    /// The rates of all rate limits, by their place.
    pub(crate) limit_rates: Vec<LimitRate>,
    pub(crate) audit: Audit,
    pub(crate) admin: Option<Admin>,
    /// State that survives a restart, besides keys and the audit log.
    pub(crate) state_directory: PathBuf,
    pub(crate) revoked: Vec<RevocationEntry>,
    /// The names of servers, each once.
    pub(crate) names: Vec<Arc<Name>>,
    pub(crate) dns: DnsSettings,
}

#[derive(Clone, Debug)]
pub(crate) struct Listener {
    pub(crate) address: SocketAddr,
    pub(crate) kind: ListenerKind,
    pub(crate) proxy_protocol: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum ListenerKind {
    /// Not empty; the first certificate is the default.
    Tls {
        certificates: Vec<CertificateFiles>,
        min_version: MinTlsVersion,
    },
    Plain,
    /// To this origin, without a trailing slash.
    Redirect {
        origin: String,
    },
}

impl Listener {
    /// Whether token requests are accepted here. In clear text they are accepted on loopback addresses only.
    pub(crate) fn serves_tokens(&self) -> bool {
        match self.kind {
            ListenerKind::Tls { .. } => true,
            ListenerKind::Plain => self.address.ip().is_loopback(),
            ListenerKind::Redirect { .. } => false,
        }
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
    pub(crate) token_limits: Vec<RateLimit>,
}

#[derive(Clone, Debug)]
pub(crate) struct ExternalIssuer {
    pub(crate) settings: IssuerSettings,
    pub(crate) source: KeySource,
}

/// The admin listener.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    pub(crate) address: SocketAddr,
    pub(crate) hosts: Hosts,
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

    pub(crate) fn audit_settings(&self) -> WriterSettings {
        WriterSettings {
            target: self.audit.target.clone(),
            rotation: self.audit.rotation,
            state_directory: self.state_directory.clone(),
            config: self.id.clone(),
        }
    }

    /// The file of the first certificate. A client on this machine can trust it if it is self-signed.
    pub(crate) fn certificate_path(&self) -> Option<&Path> {
        self.listeners.iter().find_map(|listener| match &listener.kind {
            ListenerKind::Tls { certificates, .. } => certificates.first().map(|files| files.cert.as_path()),
            ListenerKind::Plain | ListenerKind::Redirect { .. } => None,
        })
    }
}
