//! An upstream as configured: a named service, its servers and how each is reached, and what is known of them.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use http::HeaderValue;
use tokio::time::Instant;
use url::{Host, Url};

use crate::upstream::balancing::breaker::{Breaker, BreakerRules};
use crate::upstream::balancing::ejection::Ejection;
use crate::upstream::balancing::retry_budget::Retries;
use crate::upstream::balancing::status::ServerStatus;
use crate::upstream::health_check::HealthCheck;
use crate::upstream::names::{KnownAddresses, Name};
use crate::upstream::server_set::Balance;
use crate::upstream::tls::Tls;

/// A service behind us.
#[derive(Debug)]
pub(crate) struct Upstream {
    /// Tells it apart from every other of the process, those of earlier configurations included.
    pub(crate) number: u64,
    pub(crate) name: Arc<str>,
    /// At least one, and [`MAX_SERVERS`] at most.
    pub(crate) servers: Vec<Server>,
    /// One for each server, in their order; shared by all workers and the control plane.
    pub(crate) statuses: Arc<[ServerStatus]>,
    /// Where there is to be one.
    pub(crate) breaker: Option<Breaker>,
    pub(crate) settings: UpstreamSettings,
    /// Held while one of them is ejected.
    pub(super) is_ejecting: AtomicBool,
    /// What the times of its statuses count from.
    epoch: Instant,
}

/// How an upstream is used.
#[derive(Clone, Debug)]
pub(crate) struct UpstreamSettings {
    pub(crate) balance: Balance,
    pub(crate) connect_timeout: Duration,
    /// To the first byte of the answer.
    pub(crate) response_timeout: Duration,
    pub(crate) health_check: Option<HealthCheck>,
    pub(crate) ejection: Option<Ejection>,
    pub(crate) breaker: Option<BreakerRules>,
    pub(crate) retries: Retries,
    /// Over which the share of a server grows that is back.
    pub(crate) slow_start: Option<Duration>,
    pub(crate) caps: Caps,
}

/// What each server takes at once.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Caps {
    /// From each worker: one that could take another's part would find it idling in that one's pool.
    pub(crate) connections: Option<usize>,
    /// From the whole process.
    pub(crate) in_flight: Option<usize>,
}

/// A set of them fits into one number.
pub(crate) const MAX_SERVERS: usize = 128;

impl Upstream {
    /// As all its servers do.
    pub(crate) fn speaks_http2(&self) -> bool {
        self.servers.first().is_some_and(|server| server.protocol == UpstreamProtocol::Http2)
    }
}

/// One address of a service, and how it is spoken to.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    /// Its part of the requests, against those of the others.
    pub(crate) weight: u32,
    pub(crate) place: ServerAddress,
    /// What the service gets as `Host` or `:authority` (RFC 9110 §7.2).
    pub(crate) authority: HeaderValue,
    /// `None` is clear text.
    pub(crate) tls: Option<Tls>,
    pub(crate) protocol: UpstreamProtocol,
}

/// Where a server is.
#[derive(Clone, Debug)]
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

/// What is spoken to a server: as configured, never guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UpstreamProtocol {
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
pub(crate) struct ServerOrigin {
    pub(crate) scheme: Scheme,
    pub(crate) place: ServerAddress,
    pub(crate) authority: HeaderValue,
    /// Without port and brackets: what its certificate must be for, unless something else is configured.
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
        let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        if !bare || !url.username().is_empty() || url.password().is_some() {
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

impl Upstream {
    pub(crate) fn new(name: &str, servers: Vec<Server>, settings: UpstreamSettings) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let statuses = servers.iter().map(|_| ServerStatus::default()).collect();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let breaker = settings.breaker.map(Breaker::new);
        let is_ejecting = AtomicBool::new(false);
        Self { number, name: name.into(), servers, statuses, breaker, settings, is_ejecting, epoch: Instant::now() }
    }

    /// Milliseconds of its own time, never 0.
    pub(crate) fn millis(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.epoch).as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }
}

#[cfg(test)]
impl UpstreamSettings {
    /// What a bare URL has.
    pub(crate) fn new(connect_timeout: Duration, response_timeout: Duration) -> Self {
        Self {
            balance: Balance::LeastRequests,
            connect_timeout,
            response_timeout,
            health_check: None,
            ejection: None,
            breaker: None,
            retries: Retries::default(),
            slow_start: None,
            caps: Caps::default(),
        }
    }
}

impl Server {
    /// Tells it apart from the others of its upstream.
    pub(crate) fn name(&self) -> Cow<'_, str> {
        match &self.place {
            ServerAddress::Socket(path) => path.to_string_lossy(),
            ServerAddress::Address(_) | ServerAddress::Name(..) => String::from_utf8_lossy(self.authority.as_bytes()),
        }
    }

    pub(crate) fn tcp(origin: ServerOrigin, tls: Option<Tls>, protocol: UpstreamProtocol) -> Self {
        Self { weight: 1, place: origin.place, authority: origin.authority, tls, protocol }
    }

    /// What is known of its name; of a place without one, always the same.
    pub(super) fn known(&self) -> KnownAddresses {
        match &self.place {
            ServerAddress::Name(name, _) => name.known(),
            ServerAddress::Address(_) | ServerAddress::Socket(_) => KnownAddresses::NotYet,
        }
    }

    /// Whether a connection to this address leads to it still: names may move.
    pub(super) fn is_at(&self, address: Option<IpAddr>) -> bool {
        match (&self.place, address) {
            (ServerAddress::Name(name, _), Some(address)) => name.has(address),
            (ServerAddress::Name(..) | ServerAddress::Address(_) | ServerAddress::Socket(_), _) => true,
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
            ServerAddress::Address(address) => Some(address),
            ServerAddress::Name(..) | ServerAddress::Socket(_) => None,
        }
    }

    /// A path is no host: the service is told `localhost`, as other clients of Unix sockets do.
    pub(crate) fn socket(path: Arc<Path>, protocol: UpstreamProtocol) -> Self {
        let authority = HeaderValue::from_static("localhost");
        Self { weight: 1, place: ServerAddress::Socket(path), authority, tls: None, protocol }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An upstream with servers of these weights, at addresses where nobody is.
    pub(in crate::upstream) fn upstream(weights: &[u32], change: impl FnOnce(&mut UpstreamSettings)) -> Upstream {
        let server = |(number, weight): (usize, &u32)| {
            let server = Server::tcp(
                ServerOrigin::parse(&format!("http://10.0.0.{number}:9")).unwrap(),
                None,
                UpstreamProtocol::Http1,
            );
            Server { weight: *weight, ..server }
        };
        let mut settings = UpstreamSettings::new(Duration::from_secs(1), Duration::from_secs(1));
        change(&mut settings);
        Upstream::new("many", weights.iter().enumerate().map(server).collect(), settings)
    }

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
}
