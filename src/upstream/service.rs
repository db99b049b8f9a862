//! An upstream as configured: a named service and the address of its server.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use url::{Host, Url};

/// A service behind us.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) name: Arc<str>,
    pub(crate) server: Server,
    pub(crate) connect_timeout: Duration,
    /// To the first byte of the answer.
    pub(crate) response_timeout: Duration,
}

/// One address of a service.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) host: ServerHost,
    pub(crate) port: u16,
    /// What the service gets as `Host` (RFC 9110 §7.2).
    pub(crate) authority: HeaderValue,
}

#[derive(Debug)]
pub(crate) enum ServerHost {
    Address(IpAddr),
    Name(String),
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidServer {
    #[error("a server is `http://host:port`; only http is spoken to upstreams")]
    Scheme,
    #[error("a server is `http://host:port`, without path, query or credentials")]
    Extra,
}

impl Server {
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidServer> {
        let url = Url::parse(text).map_err(|_| InvalidServer::Scheme)?;
        if url.scheme() != "http" {
            return Err(InvalidServer::Scheme);
        }
        let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        if !bare || !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidServer::Extra);
        }
        let host = match url.host().ok_or(InvalidServer::Scheme)? {
            Host::Ipv4(address) => ServerHost::Address(address.into()),
            Host::Ipv6(address) => ServerHost::Address(address.into()),
            Host::Domain(name) => ServerHost::Name(name.to_owned()),
        };
        let authority = HeaderValue::try_from(url.authority()).map_err(|_| InvalidServer::Extra)?;
        Ok(Self { host, port: url.port_or_known_default().unwrap_or(80), authority })
    }

    /// `None` where it is a name, which may have many.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self.host {
            ServerHost::Address(address) => Some(SocketAddr::new(address, self.port)),
            ServerHost::Name(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_an_origin_and_nothing_more() {
        let server = Server::parse("http://legacy.internal:9000").unwrap();
        assert_eq!((server.port, server.authority.to_str().unwrap()), (9000, "legacy.internal:9000"));
        assert_eq!(Server::parse("http://10.0.0.1").unwrap().port, 80);
        assert!(matches!(Server::parse("http://[::1]:9").unwrap().host, ServerHost::Address(IpAddr::V6(_))));
        for bad in
            ["https://a", "a:9000", "legacy", "http://", "http://a/path", "http://u:p@a", "http://a?x", "unix:/run/x"]
        {
            assert!(Server::parse(bad).is_err(), "{bad}");
        }
    }
}
