//! TLS to upstreams. The name in a server's certificate is always verified: no configuration key turns that off.

use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::protocol::UpstreamProtocol;
use crate::clock::UnixTime;
use crate::jose::validity;

/// How a server's certificate is verified, and the client certificate for it.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    /// Shared by all workers, so that each can resume the sessions of the others.
    pub(crate) config: Arc<CurrentClientConfig>,
    /// The name or address that the certificate must be for; a name is sent as SNI.
    pub(crate) name: ServerName<'static>,
}

/// The configuration that new connections use. It can be replaced while the gateway runs; open connections stay.
#[derive(Debug)]
pub(crate) struct CurrentClientConfig(ArcSwap<ClientConfig>);

#[derive(Debug, thiserror::Error)]
pub(crate) enum RootsFault {
    #[error("holds no certificate in PEM")]
    NoCertificate,
    #[error("holds a certificate that cannot be parsed")]
    Unusable,
}

/// The server has chosen another protocol by ALPN, or none.
#[derive(Debug, thiserror::Error)]
#[error("the server does not speak HTTP/2: it did not choose `h2` by ALPN")]
struct NotHttp2;

/// The trusted certificates of the system; empty if none were found.
pub(crate) fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    // On some systems a few certificates are unreadable or outdated.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

pub(crate) fn roots(pem: &[u8]) -> Result<RootCertStore, RootsFault> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots.add(certificate.map_err(|_| RootsFault::NoCertificate)?).map_err(|_| RootsFault::Unusable)?;
    }
    if roots.is_empty() { Err(RootsFault::NoCertificate) } else { Ok(roots) }
}

/// When the last of these certificates ends: from then on none of them verifies a server. `None` if one never ends.
pub(crate) fn last_end(pem: &[u8]) -> Option<UnixTime> {
    let ends =
        CertificateDer::pem_slice_iter(pem).filter_map(Result::ok).map(|certificate| validity::ends_at(&certificate));
    let ends: Option<Vec<UnixTime>> = ends.collect();
    ends.and_then(|ends| ends.into_iter().max())
}

/// One upstream's configuration. `identity` is sent to a server that requests a client certificate.
pub(crate) fn client_config(
    roots: Arc<RootCertStore>,
    identity: Option<Arc<CertifiedKey>>,
    protocol: UpstreamProtocol,
) -> Result<ClientConfig, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_root_certificates(roots);
    let mut config = match identity {
        Some(identity) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity))),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = match protocol {
        UpstreamProtocol::Http1 => vec![b"http/1.1".to_vec()],
        UpstreamProtocol::Http2 => vec![ALPN_HTTP2.to_vec()],
    };
    Ok(config)
}

impl CurrentClientConfig {
    pub(crate) fn new(config: ClientConfig) -> Arc<Self> {
        Arc::new(Self(ArcSwap::from_pointee(config)))
    }

    pub(crate) fn replace(&self, config: ClientConfig) {
        self.0.store(Arc::new(config));
    }
}

impl Tls {
    pub(super) async fn connect<T>(&self, stream: T, protocol: UpstreamProtocol) -> io::Result<TlsStream<T>>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let connecting = TlsConnector::from(self.config.0.load_full()).connect(self.name.clone(), stream);
        let stream = connecting.await?;
        if protocol == UpstreamProtocol::Http2 && stream.get_ref().1.alpn_protocol() != Some(ALPN_HTTP2) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, NotHttp2));
        }
        Ok(stream)
    }
}

const ALPN_HTTP2: &[u8] = b"h2";
