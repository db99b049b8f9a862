//! An upstream as configured: a named service, and the server that it is reached at.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use url::{Host, Url};

use super::names::{Known, Name};
use super::tls::Tls;

/// A service behind us.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) name: Arc<str>,
    pub(crate) server: Server,
    pub(crate) connect_timeout: Duration,
    /// To the first byte of the answer.
    pub(crate) response_timeout: Duration,
}

impl Upstream {
    pub(crate) fn speaks_http2(&self) -> bool {
        self.server.protocol == Protocol::Http2
    }
}

/// One address of a service, and how it is spoken to.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) place: Place,
    /// What the service gets as `Host` or `:authority` (RFC 9110 §7.2).
    pub(crate) authority: HeaderValue,
    /// `None` is clear text.
    pub(crate) tls: Option<Tls>,
    pub(crate) protocol: Protocol,
}

/// Where a server is.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Address(SocketAddr),
    Name(Arc<Name>, u16),
    /// A Unix domain socket.
    Socket(Arc<Path>),
}

/// What is spoken to a server: as configured, never guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    /// Over TLS agreed by ALPN, in clear text by prior knowledge (RFC 9113 §3.3).
    Http2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidServer {
    #[error("a server is `http://host:port`, `https://host:port` or `unix:path`")]
    Scheme,
    #[error("a server is `http://host:port` or `https://host:port`, without path, query or credentials")]
    Extra,
}

/// A server over TCP by its URL, before it is known what is spoken there.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) scheme: Scheme,
    pub(crate) place: Place,
    pub(crate) authority: HeaderValue,
    /// Without port and brackets: what its certificate must be for, unless something else is configured.
    pub(crate) host: String,
}

impl Origin {
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidServer> {
        let url = Url::parse(text).map_err(|_| InvalidServer::Scheme)?;
        let scheme = match url.scheme() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(InvalidServer::Scheme),
        };
        let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        if !bare || !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidServer::Extra);
        }
        let port = url.port_or_known_default().ok_or(InvalidServer::Scheme)?;
        let at = |address: IpAddr| (Place::Address(SocketAddr::new(address, port)), address.to_string());
        let (place, host) = match url.host().ok_or(InvalidServer::Scheme)? {
            Host::Ipv4(address) => at(address.into()),
            Host::Ipv6(address) => at(address.into()),
            Host::Domain(name) => (Place::Name(Arc::new(Name::new(name)), port), name.to_owned()),
        };
        let authority = HeaderValue::try_from(url.authority()).map_err(|_| InvalidServer::Extra)?;
        Ok(Self { scheme, place, authority, host })
    }
}

impl Server {
    pub(crate) fn tcp(origin: Origin, tls: Option<Tls>, protocol: Protocol) -> Self {
        Self { place: origin.place, authority: origin.authority, tls, protocol }
    }

    /// What is known of its name; of a place without one, always the same.
    pub(super) fn known(&self) -> Known {
        match &self.place {
            Place::Name(name, _) => name.known(),
            Place::Address(_) | Place::Socket(_) => Known::NotYet,
        }
    }

    /// Whether a connection to this address leads to it still: names may move.
    pub(super) fn is_at(&self, address: Option<IpAddr>) -> bool {
        match (&self.place, address) {
            (Place::Name(name, _), Some(address)) => name.has(address),
            (Place::Name(..) | Place::Address(_) | Place::Socket(_), _) => true,
        }
    }

    /// A copy that shares no counter that every request would touch.
    pub(super) fn for_worker(&self) -> Self {
        let authority = HeaderValue::from_bytes(self.authority.as_bytes());
        Self { authority: authority.unwrap_or_else(|_| self.authority.clone()), ..self.clone() }
    }

    /// `None` where it is a name, which may have many, or no address at all.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self.place {
            Place::Address(address) => Some(address),
            Place::Name(..) | Place::Socket(_) => None,
        }
    }

    /// A path is no host: the service is told `localhost`, as other clients of Unix sockets do.
    pub(crate) fn socket(path: Arc<Path>, protocol: Protocol) -> Self {
        Self { place: Place::Socket(path), authority: HeaderValue::from_static("localhost"), tls: None, protocol }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_an_origin_and_nothing_more() {
        let server = Origin::parse("http://legacy.internal:9000").unwrap();
        assert!(matches!(&server.place, Place::Name(name, 9000) if name.as_str() == "legacy.internal"));
        assert_eq!(server.authority, "legacy.internal:9000");
        assert!(matches!(Origin::parse("http://10.0.0.1").unwrap().place, Place::Address(at) if at.port() == 80));
        assert!(matches!(Origin::parse("https://10.0.0.1").unwrap().place, Place::Address(at) if at.port() == 443));
        let v6 = Origin::parse("https://[::1]:9").unwrap();
        assert!(matches!(v6.place, Place::Address(at) if at.is_ipv6()));
        assert_eq!((v6.scheme, &v6.host[..]), (Scheme::Https, "::1"));
        for bad in
            ["ftp://a", "a:9000", "legacy", "http://", "http://a/path", "http://u:p@a", "https://a?x", "unix:/run/x"]
        {
            assert!(Origin::parse(bad).is_err(), "{bad}");
        }
    }
}
