//! A server of an upstream: its address, its protocol, and the names by which it is addressed.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use http::HeaderValue;
use rustls::pki_types::ServerName;
use url::{Host, Url};

use super::names::{KnownAddresses, Name};
use super::protocol::{Scheme, UpstreamProtocol};
use super::tls::Tls;

/// One server of an upstream, and how to connect to it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Server {
    /// Its share of the requests, relative to the other servers.
    pub(crate) weight: u32,
    pub(crate) place: ServerAddress,
    /// The host and the port of its URL, by which messages and metrics name it.
    pub(crate) authority: HeaderValue,
    /// The `Host` or `:authority` that is its own (RFC 9110 §7.2).
    pub(crate) own_host: HeaderValue,
    /// `None` is clear text.
    pub(crate) tls: Option<Tls>,
    pub(crate) protocol: UpstreamProtocol,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ServerAddress {
    Address(SocketAddr),
    Name(Arc<Name>, u16),
    /// A Unix domain socket.
    Socket(Arc<Path>),
}

/// As `host:port` or `unix:path`.
impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name, port) => write!(f, "{}:{port}", name.as_str()),
            Self::Socket(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidServer {
    #[error("a server is `http://host:port`, `https://host:port` or `unix:path`")]
    Scheme,
    #[error("a server is `http://host:port` or `https://host:port`, without path, query or credentials")]
    Extra,
}

/// A server over TCP, parsed from its URL; its protocol is configured apart.
#[derive(Debug)]
pub(crate) struct ServerOrigin {
    pub(crate) scheme: Scheme,
    pub(crate) place: ServerAddress,
    pub(crate) authority: HeaderValue,
    /// Without port and brackets. The name that its certificate must have, unless another one is configured.
    pub(crate) host: String,
}

impl ServerOrigin {
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidServer> {
        let url = Url::parse(text).map_err(|_| InvalidServer::Scheme)?;
        let scheme = match url.scheme() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(InvalidServer::Scheme),
        };
        let is_origin = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        if !is_origin || !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidServer::Extra);
        }
        let port = url.port_or_known_default().ok_or(InvalidServer::Scheme)?;
        let at = |address: IpAddr| (ServerAddress::Address(SocketAddr::new(address, port)), address.to_string());
        let (place, host) = match url.host().ok_or(InvalidServer::Scheme)? {
            Host::Ipv4(address) => at(address.into()),
            Host::Ipv6(address) => at(address.into()),
            Host::Domain(name) => (ServerAddress::Name(Arc::new(Name::new(name)), port), name.to_owned()),
        };
        let authority = HeaderValue::try_from(url.authority()).map_err(|_| InvalidServer::Extra)?;
        Ok(Self { scheme, place, authority, host })
    }
}

impl Server {
    /// Over TLS its own host is the name that its certificate must be for: many servers answer 421 if `Host` and SNI
    /// differ.
    pub(crate) fn tcp(origin: ServerOrigin, tls: Option<Tls>, protocol: UpstreamProtocol) -> Self {
        let ServerOrigin { place, authority, .. } = origin;
        let certified = tls.as_ref().and_then(|tls| certified_host(&tls.name, &place));
        Self { weight: 1, own_host: certified.unwrap_or_else(|| authority.clone()), place, authority, tls, protocol }
    }

    /// A path is not a host: `Host` is `localhost`, as other clients of Unix sockets send it.
    pub(crate) fn socket(path: Arc<Path>, protocol: UpstreamProtocol) -> Self {
        let authority = HeaderValue::from_static("localhost");
        let own_host = authority.clone();
        Self { weight: 1, place: ServerAddress::Socket(path), authority, own_host, tls: None, protocol }
    }

    /// Unique within its upstream.
    pub(crate) fn name(&self) -> Cow<'_, str> {
        match &self.place {
            ServerAddress::Socket(path) => path.to_string_lossy(),
            ServerAddress::Address(_) | ServerAddress::Name(..) => String::from_utf8_lossy(self.authority.as_bytes()),
        }
    }

    /// `None` for a name, which may have many addresses, and for a Unix socket.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self.place {
            ServerAddress::Address(address) => Some(address),
            ServerAddress::Name(..) | ServerAddress::Socket(_) => None,
        }
    }

    /// The addresses of its name. For a server without a name the value never changes.
    pub(super) fn known_addresses(&self) -> KnownAddresses {
        match &self.place {
            ServerAddress::Name(name, _) => name.known(),
            ServerAddress::Address(_) | ServerAddress::Socket(_) => KnownAddresses::NotYet,
        }
    }

    /// False if its name no longer resolves to the address of a connection.
    pub(super) fn is_at(&self, address: Option<IpAddr>) -> bool {
        match (&self.place, address) {
            (ServerAddress::Name(name, _), Some(address)) => name.has(address),
            (ServerAddress::Name(..) | ServerAddress::Address(_) | ServerAddress::Socket(_), _) => true,
        }
    }

    /// A copy for one worker: cloning its authority for each request touches no reference count that other workers use.
    pub(super) fn for_worker(&self) -> Self {
        let authority = HeaderValue::from_bytes(self.authority.as_bytes());
        Self { authority: authority.unwrap_or_else(|_| self.authority.clone()), ..self.clone() }
    }
}

/// The name of a certificate as an authority: with the port, unless it is the default one.
fn certified_host(name: &ServerName<'_>, place: &ServerAddress) -> Option<HeaderValue> {
    let name = name.to_str();
    let name = if name.contains(':') { format!("[{name}]") } else { name.into_owned() };
    let port = match place {
        ServerAddress::Address(address) => address.port(),
        ServerAddress::Name(_, port) => *port,
        ServerAddress::Socket(_) => return None,
    };
    HeaderValue::try_from(if port == Scheme::Https.default_port() { name } else { format!("{name}:{port}") }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_an_origin_and_nothing_more() {
        let server = ServerOrigin::parse("http://legacy.internal:9000").unwrap();
        assert!(matches!(&server.place, ServerAddress::Name(name, 9000) if name.as_str() == "legacy.internal"));
        assert_eq!(server.authority, "legacy.internal:9000");
        assert!(
            matches!(ServerOrigin::parse("http://10.0.0.1").unwrap().place, ServerAddress::Address(at) if at.port() == 80)
        );
        assert!(
            matches!(ServerOrigin::parse("https://10.0.0.1").unwrap().place, ServerAddress::Address(at) if at.port() == 443)
        );
        let v6 = ServerOrigin::parse("https://[::1]:9").unwrap();
        assert!(matches!(v6.place, ServerAddress::Address(at) if at.is_ipv6()));
        assert_eq!((v6.scheme, &v6.host[..]), (Scheme::Https, "::1"));
        for bad in
            ["ftp://a", "a:9000", "legacy", "http://", "http://a/path", "http://u:p@a", "https://a?x", "unix:/run/x"]
        {
            assert!(ServerOrigin::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_certificates_name_takes_the_servers_port() {
        for (url, name, expected) in [
            ("https://10.0.0.1:9443", "api.internal", "api.internal:9443"),
            ("https://10.0.0.1", "api.internal", "api.internal"),
            ("https://api.internal:9443", "10.0.0.1", "10.0.0.1:9443"),
            ("https://api.internal", "::1", "[::1]"),
        ] {
            let place = ServerOrigin::parse(url).unwrap().place;
            let name = ServerName::try_from(name).unwrap();
            assert_eq!(certified_host(&name, &place).unwrap(), expected, "{url}");
        }
        // Without a name of its own, a server is known by the authority of its URL.
        for url in ["https://10.0.0.1:9443", "https://api.internal", "https://[::1]:9", "https://[::1]"] {
            let ServerOrigin { place, authority, host, .. } = ServerOrigin::parse(url).unwrap();
            assert_eq!(certified_host(&ServerName::try_from(host).unwrap(), &place), Some(authority), "{url}");
        }
    }
}
