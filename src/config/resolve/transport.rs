//! The transport to the servers of an upstream: addresses, TLS, certificates and keys.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;

use super::super::raw::transport::{RawProtocol, RawUpstreamTls, ServerUrl};
use super::super::source::{At, Span};
use super::super::upstream_certificates::{TrustedRoots, UpstreamCertificates};
use super::Resolver;
use crate::clock::UnixTime;
use crate::file_watch::FileWatch;
use crate::server::certificate::{self, CertificateFiles};
use crate::upstream::names::Name;
use crate::upstream::pinning::TrustedCertificates;
use crate::upstream::protocol::{Scheme, UpstreamProtocol};
use crate::upstream::server::{Server, ServerAddress, ServerOrigin};
use crate::upstream::tls::{self, CurrentClientConfig, RootsFault, Tls};

/// The limit of the kernel for the path of a Unix socket.
const MAX_SOCKET_PATH: usize = 107;

/// Resources that the upstreams of a file share.
#[derive(Default)]
pub(super) struct SharedTransport {
    /// The root certificates of the system. Read once, if an upstream needs them.
    roots: Option<Arc<TrustedCertificates>>,
    names: BTreeMap<String, Arc<Name>>,
    certificates: Vec<UpstreamCertificates>,
}

impl SharedTransport {
    /// All names of servers, and the certificates of all upstreams.
    pub(super) fn into_parts(self) -> (Vec<Arc<Name>>, Vec<UpstreamCertificates>) {
        (self.names.into_values().collect(), self.certificates)
    }

    fn roots(&mut self) -> Arc<TrustedCertificates> {
        Arc::clone(self.roots.get_or_insert_with(|| Arc::new(tls::system_roots())))
    }

    /// Makes all servers with the same name share it, so that the name is looked up once.
    fn share_name(&mut self, place: &mut ServerAddress) {
        if let ServerAddress::Name(name, _) = place {
            let known = self.names.entry(name.as_str().to_owned()).or_insert_with(|| Arc::clone(name));
            *name = Arc::clone(known);
        }
    }
}

impl Resolver<'_> {
    /// All servers of one upstream. `None` if one of them cannot be used.
    pub(super) fn servers(
        &mut self,
        urls: &[At<ServerUrl>],
        raw: Option<&At<RawUpstreamTls>>,
        protocol: RawProtocol,
        shared: &mut SharedTransport,
    ) -> Option<Vec<Server>> {
        let protocol = match protocol {
            RawProtocol::Http1 => UpstreamProtocol::Http1,
            RawProtocol::Http2 => UpstreamProtocol::Http2,
        };
        let first = urls.first()?;
        let encrypted = is_encrypted(&first.value);
        if let Some(odd) = urls.iter().find(|url| is_encrypted(&url.value) != encrypted) {
            let message = "`https` and `http` servers in one upstream: use one of them for all servers";
            self.faults.at(odd.span, message);
            return None;
        }
        if let Some(raw) = raw.filter(|_| !encrypted) {
            let message = "no server of this upstream has an `https://` URL: remove `tls`, or change the URLs";
            self.faults.at(raw.span, message);
            return None;
        }
        let tls = encrypted.then(|| self.client_config(raw, protocol, first.span, shared)).flatten();
        let name = raw.and_then(|raw| raw.value.server_name.as_ref());
        let name = name.map(|name| self.server_name(name));
        let servers: Vec<_> =
            urls.iter().map(|url| self.server(url, (tls.as_ref(), name.as_ref()), protocol, shared)).collect();
        servers.into_iter().collect()
    }

    fn server(
        &mut self,
        url: &At<ServerUrl>,
        (config, name): (Option<&Arc<CurrentClientConfig>>, Option<&Option<ServerName<'static>>>),
        protocol: UpstreamProtocol,
        shared: &mut SharedTransport,
    ) -> Option<Server> {
        let origin = match &url.value {
            ServerUrl::Socket(path) => {
                let path = self.source.locate(path);
                if path.as_os_str().as_bytes().len() > MAX_SOCKET_PATH {
                    let message = format!(
                        "expected a path of at most {MAX_SOCKET_PATH} bytes, including the folder of this file"
                    );
                    self.faults.at(url.span, message);
                    return None;
                }
                return Some(Server::socket(path.into(), protocol));
            }
            ServerUrl::Origin(origin) => ServerOrigin::parse(origin.as_str()),
        };
        let mut origin = origin.map_err(|fault| self.faults.at(url.span, fault.to_string())).ok()?;
        shared.share_name(&mut origin.place);
        if origin.scheme == Scheme::Http {
            return Some(Server::tcp(origin, None, protocol));
        }
        let name = match name {
            Some(name) => name.clone()?,
            None => match ServerName::try_from(origin.host.clone()) {
                Ok(name) => name,
                Err(_) => {
                    self.faults.at(url.span, "a certificate cannot be issued for this host: set `tls.server_name`");
                    return None;
                }
            },
        };
        let tls = Tls { config: Arc::clone(config?), name };
        Some(Server::tcp(origin, Some(tls), protocol))
    }

    fn server_name(&mut self, name: &At<String>) -> Option<ServerName<'static>> {
        let parsed = ServerName::try_from(name.value.clone()).ok();
        if parsed.is_none() {
            let got = self.got(name);
            self.faults.at(name.span, format!("expected a host name or an IP address{got}"));
        }
        parsed
    }

    /// `None` if there is a fault.
    fn client_config(
        &mut self,
        raw: Option<&At<RawUpstreamTls>>,
        protocol: UpstreamProtocol,
        first: Span,
        shared: &mut SharedTransport,
    ) -> Option<Arc<CurrentClientConfig>> {
        let watch = FileWatch::new(raw.map(|raw| self.files(&raw.value)).unwrap_or_default());
        let ca = raw.and_then(|raw| raw.value.ca.as_ref());
        let roots = match ca {
            Some(file) => self.roots(file).map(|(roots, end)| (Arc::new(roots), end)),
            None => {
                let roots = shared.roots();
                if roots.is_empty() {
                    self.faults.at(first, "the system has no root certificates to trust: set `tls.ca`");
                }
                Some((roots, None))
            }
        };
        let identity = raw.map_or(Some(None), |raw| self.identity(&raw.value));
        let (roots, identity) = (roots?, identity?);
        let (files, pair) = identity.unzip();
        let (roots, ca_end) = roots;
        let ca_end = ca.map(|file| (self.source.locate(&file.value), ca_end));
        let own_end = files.as_ref().zip(pair.as_ref());
        let own_end = own_end.map(|(files, pair)| (files.cert.clone(), certificate::ends_at(pair)));
        let ends = ca_end.into_iter().chain(own_end).collect();
        let config = match tls::client_config(&roots, pair, protocol) {
            Ok(config) => CurrentClientConfig::new(config),
            Err(error) => {
                self.faults.at(first, format!("cannot set up TLS: {error}"));
                return None;
            }
        };
        if ca.is_some() || files.is_some() {
            let trusted =
                ca.map_or(TrustedRoots::System(roots), |file| TrustedRoots::File(self.source.locate(&file.value)));
            let current = Arc::clone(&config);
            shared.certificates.push(UpstreamCertificates { trusted, identity: files, protocol, watch, ends, current });
        }
        Some(config)
    }

    fn files(&self, raw: &RawUpstreamTls) -> Vec<PathBuf> {
        let named = [&raw.ca, &raw.client_cert, &raw.client_key].into_iter().flatten();
        named.map(|file| self.source.locate(&file.value)).collect()
    }

    /// The certificates that are trusted, and when the last of them ends. `None` if there is a fault.
    fn roots(&mut self, file: &At<PathBuf>) -> Option<(TrustedCertificates, Option<UnixTime>)> {
        let (pem, roots) = self.authorities(file)?;
        Some((roots, tls::last_end(&pem)))
    }

    /// Certificates that verify a server, also as they are written. `None` if there is a fault.
    pub(super) fn authorities(&mut self, file: &At<PathBuf>) -> Option<(Vec<u8>, TrustedCertificates)> {
        let pem = self.certificates(file)?;
        match tls::roots(&pem) {
            Ok(roots) => {
                self.check_end(file, tls::last_end(&pem));
                Some((pem, roots))
            }
            // It has been reported.
            Err(RootsFault::NoCertificate) => None,
            Err(fault @ RootsFault::Unusable) => {
                let path = self.source.locate(&file.value);
                let message = self.redact_path(format!("`{}` {fault}", path.display()), file.span, &file.value);
                self.faults.at(file.span, message);
                None
            }
        }
    }

    /// `None` if there is a fault; `Some(None)` if no client certificate is configured.
    fn identity(&mut self, raw: &RawUpstreamTls) -> Option<Option<(CertificateFiles, Arc<CertifiedKey>)>> {
        let (cert, key) = match (&raw.client_cert, &raw.client_key) {
            (None, None) => return Some(None),
            (Some(cert), Some(key)) => (cert, key),
            (Some(alone), None) => {
                self.faults.at(alone.span, "`client_cert` needs its `client_key`");
                return None;
            }
            (None, Some(alone)) => {
                self.faults.at(alone.span, "`client_key` needs its `client_cert`");
                return None;
            }
        };
        let files = CertificateFiles {
            cert: self.source.locate_content(&cert.value),
            key: self.source.locate_content(&key.value),
            self_signed: false,
        };
        match files.load() {
            Ok(pair) => {
                self.named.add_file(pair.cert.iter().map(|der| &**der));
                self.check_end(cert, certificate::ends_at(&pair));
                Some(Some((files, pair)))
            }
            Err(error) => {
                self.certificate_fault(&error, &files, cert, key, "");
                None
            }
        }
    }
}

fn is_encrypted(url: &ServerUrl) -> bool {
    match url {
        ServerUrl::Origin(origin) => origin.url().scheme() == "https",
        ServerUrl::Socket(_) => false,
    }
}
