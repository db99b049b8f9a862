//! A certificate authority, and services that use its certificates.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::issuer::now;
use super::upstream::listen;

pub(crate) struct Authority {
    pub(crate) certificate: String,
    params: CertificateParams,
    key: KeyPair,
}

/// A certificate with its key, both PEM.
pub(crate) struct Issued {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test authority");
        let certificate = params.self_signed(&key).unwrap().pem();
        Self { certificate, params, key }
    }

    /// For these names and addresses.
    pub(crate) fn issue(&self, names: &[&str]) -> Issued {
        self.issue_as(names, |_| {})
    }

    pub(crate) fn issue_expired(&self, names: &[&str]) -> Issued {
        self.issue_as(names, |params| {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        })
    }

    /// For a client: with a subject `CN=common_name,O=Example`, a DNS name and a URI.
    pub(crate) fn issue_to(&self, common_name: &str, dns_name: &str, uri: &str) -> Issued {
        self.issue_as(&[dns_name], |params| {
            params.subject_alt_names.push(SanType::URI(uri.try_into().unwrap()));
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(DnType::OrganizationName, "Example");
            params.distinguished_name.push(DnType::CommonName, common_name);
        })
    }

    /// A certificate that ends this many days from now, to the day.
    pub(crate) fn issue_for_days(&self, names: &[&str], days: u64) -> Issued {
        let end = jiff::Timestamp::from_second((now() + days * 86_400).try_into().unwrap()).unwrap().to_string();
        let part = |range: std::ops::Range<usize>| end[range].parse::<u8>().unwrap();
        self.issue_as(names, |params| {
            params.not_after = rcgen::date_time_ymd(end[..4].parse().unwrap(), part(5..7), part(8..10));
        })
    }

    fn issue_as(&self, names: &[&str], change: impl Fn(&mut CertificateParams)) -> Issued {
        let key = KeyPair::generate().unwrap();
        let mut params = params_for(names);
        change(&mut params);
        let certificate = params.signed_by(&key, &Issuer::from_params(&self.params, &self.key)).unwrap();
        Issued { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()).unwrap();
        roots
    }
}

fn params_for(names: &[&str]) -> CertificateParams {
    CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap()
}

impl Issued {
    /// Signed by itself: as an authority's certificate, or as a server's only.
    pub(crate) fn by_itself(names: &[&str], is_authority: bool) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = params_for(names);
        if is_authority {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        Self { certificate: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
    }

    /// Another certificate for these names, signed with the key of this one, which is no authority's.
    pub(crate) fn sign(&self, names: &[&str]) -> Self {
        let (key, own_key) = (KeyPair::generate().unwrap(), KeyPair::from_pem(&self.key).unwrap());
        let certificate =
            params_for(names).signed_by(&key, &Issuer::from_params(&params_for(names), &own_key)).unwrap();
        Self { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// The certificate in DER.
    pub(crate) fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()
    }

    /// The certificate with its key, for TLS.
    pub(crate) fn pair(&self) -> CertifiedKey {
        let key = PrivatePkcs8KeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        CertifiedKey::from_der(vec![self.der()], PrivateKeyDer::Pkcs8(key), &provider).unwrap()
    }

    /// The TLS configuration of a service. It requests a certificate of `clients` if there is such an authority.
    pub(crate) fn config(&self, alpn: &[&[u8]], clients: Option<&Authority>) -> Arc<ServerConfig> {
        self.config_of(rustls::DEFAULT_VERSIONS, alpn, clients)
    }

    /// The same with these versions of TLS.
    pub(crate) fn config_of(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
        alpn: &[&[u8]],
        clients: Option<&Authority>,
    ) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions);
        let builder = match clients {
            None => builder.unwrap().with_no_client_auth(),
            Some(clients) => {
                let roots = Arc::new(clients.roots());
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build().unwrap();
                builder.unwrap().with_client_cert_verifier(verifier)
            }
        };
        let chain = vec![CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()];
        let key = PrivatePkcs8KeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        let mut config = builder.with_single_cert(chain, PrivateKeyDer::Pkcs8(key)).unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    }

    /// Writes `NAME.crt` and `NAME.key`. Only the owner can read the key.
    pub(crate) fn write(&self, folder: &Path, name: &str) {
        use std::os::unix::fs::PermissionsExt;
        fs::write(folder.join(format!("{name}.crt")), &self.certificate).unwrap();
        let key = folder.join(format!("{name}.key"));
        fs::write(&key, &self.key).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    }
}

/// Calls `serve` with every TLS session.
pub(crate) async fn listen_by_tls<F, Fut>(config: Arc<ServerConfig>, serve: F) -> SocketAddr
where
    F: Fn(TlsStream<TcpStream>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let (acceptor, serve) = (TlsAcceptor::from(config), Arc::new(serve));
    listen(move |stream| {
        let (acceptor, serve) = (acceptor.clone(), Arc::clone(&serve));
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                serve(stream).await;
            }
        }
    })
    .await
}
