//! TLS to upstreams. The name in a server's certificate is always verified: no configuration key turns that off. The
//! causes of failed handshakes are in [`tls_fault`](super::tls_fault).

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;

use ::aws_lc_rs::digest::{Context, SHA256};
use arc_swap::ArcSwap;
use rustls::client::ResolvesClientCert;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::pinning::{PinningVerifier, TrustedCertificates};
use super::protocol::UpstreamProtocol;
use super::tls_fault::{HandshakeFacts, TlsFault};
use crate::clock::UnixTime;
use crate::jose::certificate_facts::CertificateFacts;

/// How a server's certificate is verified, and the client certificate for it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tls {
    /// Shared by all workers, so that each can resume the sessions of the others.
    pub(crate) config: Arc<CurrentClientConfig>,
    /// The name or address that the certificate must be for; a name is sent as SNI.
    pub(crate) name: ServerName<'static>,
}

/// The configuration that new connections use. It can be replaced while the gateway runs; open connections stay.
#[derive(Debug)]
pub(crate) struct CurrentClientConfig(ArcSwap<CheckedClientConfig>);

/// A configuration, and the digest of the certificates that it was made from.
#[derive(Debug)]
pub(crate) struct CheckedClientConfig {
    config: Arc<ClientConfig>,
    content: [u8; 32],
}

/// By the content: an upstream whose files have changed is another one.
impl PartialEq for CurrentClientConfig {
    fn eq(&self, other: &Self) -> bool {
        self.0.load().content == other.0.load().content
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum RootsFault {
    #[error("holds no certificate in PEM")]
    NoCertificate,
    #[error("holds a certificate that cannot be parsed")]
    Unusable,
}

/// Gives the configured client certificate, if there is one, and notes that the server has asked for it.
#[derive(Debug)]
struct NotingResolver(Option<Arc<CertifiedKey>>);

thread_local! {
    /// The handshake that is polled on this thread was asked for a client certificate. The library calls the resolver
    /// within the poll and gives it no other place to leave a note: the configuration is that of all connections.
    static WAS_ASKED: Cell<bool> = const { Cell::new(false) };
}

impl ResolvesClientCert for NotingResolver {
    fn resolve(&self, _issuers: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        WAS_ASKED.set(true);
        self.0.clone()
    }

    fn has_certs(&self) -> bool {
        self.0.is_some()
    }
}

/// The trusted certificates of the system; empty if none were found.
pub(crate) fn system_roots() -> TrustedCertificates {
    let mut authorities = RootCertStore::empty();
    // On some systems a few certificates are unreadable or outdated.
    authorities.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    TrustedCertificates { authorities: Arc::new(authorities), pinned: Vec::new() }
}

/// The certificates of a file. Each may be that of a server; only those of authorities verify others.
pub(crate) fn roots(pem: &[u8]) -> Result<TrustedCertificates, RootsFault> {
    let (mut authorities, mut pinned) = (RootCertStore::empty(), Vec::new());
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|_| RootsFault::NoCertificate)?;
        let facts = CertificateFacts::read(&certificate).ok_or(RootsFault::Unusable)?;
        if facts.is_authority {
            authorities.add(certificate.clone()).map_err(|_| RootsFault::Unusable)?;
        }
        pinned.push(certificate);
    }
    let trusted = TrustedCertificates { authorities: Arc::new(authorities), pinned };
    if trusted.is_empty() { Err(RootsFault::NoCertificate) } else { Ok(trusted) }
}

/// When the last of these certificates ends: from then on none of them verifies a server. `None` if one never ends.
pub(crate) fn last_end(pem: &[u8]) -> Option<UnixTime> {
    let certificates = CertificateDer::pem_slice_iter(pem).filter_map(Result::ok);
    let ends: Option<Vec<UnixTime>> = certificates.map(|certificate| CertificateFacts::end_of(&certificate)).collect();
    ends.and_then(|ends| ends.into_iter().max())
}

/// One upstream's configuration. `identity` is sent to a server that requests a client certificate.
pub(crate) fn client_config(
    trusted: &TrustedCertificates,
    identity: Option<Arc<CertifiedKey>>,
    protocol: UpstreamProtocol,
) -> Result<CheckedClientConfig, rustls::Error> {
    let content = content(trusted, identity.as_deref(), protocol);
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .dangerous()
        .with_custom_certificate_verifier(PinningVerifier::new(trusted, &provider)?)
        .with_client_cert_resolver(Arc::new(NotingResolver(identity)));
    config.alpn_protocols = match protocol {
        UpstreamProtocol::Http1 => vec![b"http/1.1".to_vec()],
        UpstreamProtocol::Http2 => vec![ALPN_HTTP2.to_vec()],
    };
    Ok(CheckedClientConfig { config: Arc::new(config), content })
}

/// The private key of a client certificate belongs to it, so that the certificate stands for both.
fn content(trusted: &TrustedCertificates, identity: Option<&CertifiedKey>, protocol: UpstreamProtocol) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    let mut add = |part: &[u8]| {
        context.update(&part.len().to_le_bytes());
        context.update(part);
    };
    add(&[u8::from(protocol == UpstreamProtocol::Http2)]);
    for anchor in &trusted.authorities.roots {
        add(&anchor.subject);
        add(&anchor.subject_public_key_info);
        add(anchor.name_constraints.as_deref().unwrap_or_default());
    }
    // Between lists: the same certificate means another thing in each.
    add(b"pinned");
    trusted.pinned.iter().for_each(|certificate| add(certificate));
    add(b"identity");
    identity.iter().flat_map(|pair| &pair.cert).for_each(|certificate| add(certificate));
    context.finish().as_ref().try_into().unwrap_or_default()
}

impl CurrentClientConfig {
    pub(crate) fn new(config: CheckedClientConfig) -> Arc<Self> {
        Arc::new(Self(ArcSwap::from_pointee(config)))
    }

    pub(crate) fn replace(&self, config: CheckedClientConfig) {
        self.0.store(Arc::new(config));
    }
}

impl Tls {
    pub(super) async fn connect<T>(&self, stream: T, protocol: UpstreamProtocol) -> io::Result<TlsStream<T>>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let config = Arc::clone(&self.config.0.load().config);
        let mut connecting = pin!(TlsConnector::from(Arc::clone(&config)).connect(self.name.clone(), stream));
        let mut was_asked = false;
        let connected = poll_fn(|context| {
            WAS_ASKED.set(false);
            let polled = connecting.as_mut().poll(context);
            was_asked |= WAS_ASKED.get();
            polled
        });
        let connected = connected.await;
        let lacks_certificate = was_asked && !config.client_auth_cert_resolver.has_certs();
        let name = self.name.to_str();
        let stream = connected.map_err(|error| {
            TlsFault::of_handshake(error, HandshakeFacts { name: &name, protocol, lacks_certificate })
        })?;
        if protocol == UpstreamProtocol::Http2 && stream.get_ref().1.alpn_protocol() != Some(ALPN_HTTP2) {
            return Err(TlsFault::NotHttp2.into_io());
        }
        Ok(stream)
    }
}

const ALPN_HTTP2: &[u8] = b"h2";
