//! TLS 1.2 and 1.3 for clients: certificates by SNI, the HTTP version by ALPN, session resumption by tickets, client
//! certificates where the listener asks for them.

use std::net::Ipv6Addr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::verify_server_name;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::server::{ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedProtocolVersion};

use super::mutual_tls::{ClientAuthorities, TlsClient};
use crate::clock::UnixTime;

/// The oldest TLS version that is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MinTlsVersion {
    Tls12,
    Tls13,
}

/// The HTTP version of a connection: negotiated by ALPN, never guessed from bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HttpVersion {
    Http1,
    Http2,
}

const ALPN_HTTP2: &[u8] = b"h2";
const ALPN_HTTP1: &[u8] = b"http/1.1";
/// Offered by curl with `--http1.0`.
const ALPN_HTTP10: &[u8] = b"http/1.0";

/// A certificate with its key, which new handshakes use. It can be replaced while the gateway runs.
#[derive(Debug)]
pub(crate) struct ServedCertificate(ArcSwap<CertifiedKey>);

/// The TLS of one listener, shared by all workers. New handshakes use the present configuration.
#[derive(Debug)]
pub(crate) struct ListenerTls {
    /// Not empty; the first is the default.
    certificates: Vec<Arc<ServedCertificate>>,
    min_version: MinTlsVersion,
    current: ArcSwap<ListenerTlsConfig>,
}

/// The configuration of handshakes, with the authorities that verify clients in them.
#[derive(Debug)]
pub(crate) struct ListenerTlsConfig {
    pub(super) server: Arc<ServerConfig>,
    /// `None`: it asks for no client certificates.
    pub(super) authorities: Option<Arc<ClientAuthorities>>,
}

impl ListenerTls {
    /// With `authorities`, it asks for client certificates.
    pub(crate) fn new(
        certificates: Vec<Arc<ServedCertificate>>,
        min_version: MinTlsVersion,
        authorities: Option<ClientAuthorities>,
    ) -> Result<Arc<Self>, rustls::Error> {
        let config = ListenerTlsConfig::new(&certificates, min_version, authorities)?;
        Ok(Arc::new(Self { certificates, min_version, current: ArcSwap::from_pointee(config) }))
    }

    pub(super) fn current(&self) -> Arc<ListenerTlsConfig> {
        self.current.load_full()
    }

    /// Whether the client of a connection from before would be let in by the present authorities.
    pub(crate) fn accepts(&self, client: &TlsClient, now: UnixTime) -> bool {
        self.current.load().authorities.as_ref().is_some_and(|authorities| client.is_accepted_by(authorities, now))
    }

    /// A configuration with other authorities for client certificates. It resumes no session that began with another.
    pub(crate) fn with_authorities(&self, authorities: ClientAuthorities) -> Result<ListenerTlsConfig, rustls::Error> {
        ListenerTlsConfig::new(&self.certificates, self.min_version, Some(authorities))
    }

    pub(crate) fn replace(&self, config: ListenerTlsConfig) {
        self.current.store(Arc::new(config));
    }
}

impl ListenerTlsConfig {
    fn new(
        certificates: &[Arc<ServedCertificate>],
        min_version: MinTlsVersion,
        authorities: Option<ClientAuthorities>,
    ) -> Result<Self, rustls::Error> {
        let server = Arc::new(server_config(certificates, min_version, authorities.as_ref())?);
        Ok(Self { server, authorities: authorities.map(Arc::new) })
    }
}

/// Each configuration has its own key for tickets: a session that began with it is resumed by no other, so that none
/// brings a client certificate that this one would refuse.
fn server_config(
    certificates: &[Arc<ServedCertificate>],
    min_version: MinTlsVersion,
    authorities: Option<&ClientAuthorities>,
) -> Result<ServerConfig, rustls::Error> {
    let versions: &[&SupportedProtocolVersion] = match min_version {
        MinTlsVersion::Tls12 => &[&TLS13, &TLS12],
        MinTlsVersion::Tls13 => &[&TLS13],
    };
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)?;
    let builder = match authorities {
        Some(authorities) => builder.with_client_cert_verifier(authorities.verifier()),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(ByServerName { certificates: certificates.to_vec() }));
    config.alpn_protocols = vec![ALPN_HTTP2.to_vec(), ALPN_HTTP1.to_vec(), ALPN_HTTP10.to_vec()];
    // Tickets need no server state and work on every worker. Clients use one for each session.
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    config.send_tls13_tickets = 1;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    // No early data: a replayed request must never reach an upstream.
    config.max_early_data_size = 0;
    Ok(config)
}

impl ServedCertificate {
    pub(crate) fn new(pair: Arc<CertifiedKey>) -> Arc<Self> {
        Arc::new(Self(ArcSwap::new(pair)))
    }

    pub(crate) fn current(&self) -> Arc<CertifiedKey> {
        self.0.load_full()
    }

    pub(crate) fn replace(&self, pair: Arc<CertifiedKey>) {
        self.0.store(pair);
    }

    /// Whether it is for this host, by a wildcard too. An IPv6 address is in brackets.
    pub(crate) fn is_valid_for(&self, host: &str) -> bool {
        let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let name = match address {
            Some(address) => address.parse().map(|address: Ipv6Addr| ServerName::IpAddress(address.into())).ok(),
            None => ServerName::try_from(host).ok(),
        };
        name.is_some_and(|name| is_valid_for(&self.0.load(), &name))
    }
}

impl HttpVersion {
    pub(crate) fn agreed(alpn: Option<&[u8]>) -> Self {
        if alpn == Some(ALPN_HTTP2) { Self::Http2 } else { Self::Http1 }
    }
}

/// Selects the first certificate that is valid for the requested name, or the first of all.
#[derive(Debug)]
struct ByServerName {
    certificates: Vec<Arc<ServedCertificate>>,
}

impl ResolvesServerCert for ByServerName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let default = self.certificates.first()?;
        if self.certificates.len() == 1 {
            return Some(default.current());
        }
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let mut current = self.certificates.iter().map(|certificate| certificate.current());
        let fitting = name.and_then(|name| current.find(|pair| is_valid_for(pair, &name)));
        Some(fitting.unwrap_or_else(|| default.current()))
    }
}

fn is_valid_for(pair: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let end_entity = pair.cert.first().and_then(|der| ParsedCertificate::try_from(der).ok());
    end_entity.is_some_and(|certificate| verify_server_name(&certificate, name).is_ok())
}
