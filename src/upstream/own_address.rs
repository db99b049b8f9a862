//! The addresses by which an upstream may name itself in its answers: the hosts and ports of its servers, the names of
//! their certificates, and the `Host` that they get.

use std::borrow::Cow;
use std::net::IpAddr;

use super::host::{HostRule, RequestHost};
use super::protocol::Scheme;
use super::server::{Server, ServerAddress};
use super::service::Upstream;

impl Upstream {
    /// Whether a URL of this scheme and authority leads to one of the servers. A service that is told that the public
    /// scheme is `https` may write that before its own address: the scheme decides on the default port only.
    pub(crate) fn is_own_authority(&self, scheme: Option<Scheme>, authority: &str, sent: &RequestHost) -> bool {
        self.servers.iter().any(|server| server.has_authority(scheme, authority))
            || self.sent_name(sent).is_some_and(|name| is_same_authority(name, scheme, authority))
    }

    /// Whether this is the host of one of the servers, or the one that they were sent, without port.
    pub(crate) fn is_own_host(&self, host: &str, sent: &RequestHost) -> bool {
        self.servers.iter().any(|server| server.has_host(host))
            || self.sent_name(sent).is_some_and(|name| is_same_host(split_port(name).0, host))
    }

    /// The `Host` of a request if it is not a server's own.
    fn sent_name<'r>(&'r self, sent: &'r RequestHost) -> Option<&'r str> {
        let name = match (sent, &self.settings.host) {
            (RequestHost::Given(name), _) | (RequestHost::Configured, HostRule::Name(name)) => name,
            (RequestHost::Configured | RequestHost::Server, _) => return None,
        };
        name.value().to_str().ok()
    }
}

impl Server {
    fn has_authority(&self, scheme: Option<Scheme>, authority: &str) -> bool {
        let sent = self.authority.to_str().unwrap_or_default();
        if authority.eq_ignore_ascii_case(sent)
            || self.certified_name().is_some_and(|name| is_same_host(&name, authority))
        {
            return true;
        }
        let (host, port) = split_port(authority);
        let port = match port {
            None | Some("") => scheme.map(Scheme::default_port),
            Some(port) => port.parse().ok(),
        };
        port.is_some() && port == self.port() && self.has_host(host)
    }

    fn has_host(&self, host: &str) -> bool {
        let (own, _) = split_port(self.authority.to_str().unwrap_or_default());
        is_same_host(own, host) || self.certified_name().is_some_and(|name| is_same_host(&name, host))
    }

    fn certified_name(&self) -> Option<Cow<'_, str>> {
        self.tls.as_ref().map(|tls| tls.name.to_str())
    }

    fn port(&self) -> Option<u16> {
        match &self.place {
            ServerAddress::Address(address) => Some(address.port()),
            ServerAddress::Name(_, port) => Some(*port),
            ServerAddress::Socket(_) => None,
        }
    }
}

/// The host, in brackets if it is an IPv6 address, and the port.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (host, Some(port)),
        Some(_) | None => (authority, None),
    }
}

/// `name` was sent as `Host`: without a port it has that of the scheme.
fn is_same_authority(name: &str, scheme: Option<Scheme>, authority: &str) -> bool {
    let ((own, own_port), (host, port)) = (split_port(name), split_port(authority));
    let port = port.filter(|port| !port.is_empty());
    let is_default = || port.and_then(|port| port.parse().ok()) == scheme.map(Scheme::default_port);
    is_same_host(own, host) && (own_port == port || own_port.is_none() && is_default())
}

fn is_same_host(one: &str, other: &str) -> bool {
    let [one, other] = [one, other].map(|host| host.strip_suffix('.').unwrap_or(host));
    let address = |host: &str| host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
    one.eq_ignore_ascii_case(other) || address(one).is_some_and(|one| address(other) == Some(one))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use http::HeaderValue;
    use rustls::RootCertStore;
    use rustls::pki_types::ServerName;

    use super::super::host::HostField;
    use super::super::pinning::TrustedCertificates;
    use super::super::protocol::UpstreamProtocol;
    use super::super::server::ServerOrigin;
    use super::super::settings::UpstreamSettings;
    use super::super::tls::{self, CurrentClientConfig, Tls};
    use super::*;

    fn server(url: &str, certified: Option<&'static str>) -> Server {
        let protocol = UpstreamProtocol::Http1;
        if let Some(path) = url.strip_prefix("unix:") {
            return Server::socket(Path::new(path).into(), protocol);
        }
        let tls = certified.map(|name| {
            let trusted = TrustedCertificates { authorities: RootCertStore::empty().into(), pinned: Vec::new() };
            let config = tls::client_config(&trusted, None, protocol).unwrap();
            Tls { config: CurrentClientConfig::new(config), name: ServerName::try_from(name).unwrap() }
        });
        Server::tcp(ServerOrigin::parse(url).unwrap(), tls, protocol)
    }

    fn upstream(servers: Vec<Server>) -> Upstream {
        let timeout = Duration::from_secs(1);
        Upstream::new("legacy", servers, UpstreamSettings::new(timeout, timeout))
    }

    #[track_caller]
    fn names(server: Server, own: &[&str], foreign: &[&str]) {
        let upstream = upstream(vec![server]);
        let is_own = |url: &str| match url.split_once("//").unwrap() {
            ("http:", authority) => upstream.is_own_authority(Some(Scheme::Http), authority, &RequestHost::Configured),
            ("https:", authority) => {
                upstream.is_own_authority(Some(Scheme::Https), authority, &RequestHost::Configured)
            }
            (_, authority) => upstream.is_own_authority(None, authority, &RequestHost::Configured),
        };
        for url in own {
            assert!(is_own(url), "{url}");
        }
        for url in foreign {
            assert!(!is_own(url), "{url}");
        }
    }

    #[test]
    fn a_server_is_known_by_host_and_port() {
        names(
            server("http://legacy.internal:9000", None),
            &[
                "http://legacy.internal:9000",
                "https://LEGACY.internal:9000",
                "//legacy.internal:9000",
                "http://legacy.internal.:9000",
            ],
            &[
                "http://legacy.internal",
                "http://legacy.internal:9001",
                "//legacy.internal",
                "http://a@legacy.internal:9000",
                "http://",
            ],
        );
        names(
            server("http://10.0.0.5", None),
            &["http://10.0.0.5", "http://10.0.0.5:80", "https://10.0.0.5", "https://10.0.0.5:80", "http://10.0.0.5:"],
            &["https://10.0.0.5:443", "http://10.0.0.50", "http://10.0.0.5:9000", "http://"],
        );
        names(
            server("http://[::1]:9", None),
            &["http://[::1]:9", "http://[0:0::1]:9"],
            &["http://[::1]", "http://[::2]:9"],
        );
    }

    #[test]
    fn a_server_is_known_by_the_name_of_its_certificate() {
        names(
            server("https://10.0.0.5:8443", Some("api.internal")),
            &["https://api.internal", "https://api.internal:8443", "https://10.0.0.5:8443", "http://api.internal:8443"],
            &["https://api.internal:443", "https://internal", "https://x.api.internal"],
        );
    }

    #[test]
    fn a_server_at_a_socket_is_known_by_the_host_that_it_gets() {
        names(
            server("unix:/run/app.sock", None),
            &["http://localhost", "//localhost"],
            &["http://localhost:80", "http://app"],
        );
    }

    #[test]
    fn hosts_of_all_servers_are_own_hosts() {
        let upstream =
            upstream(vec![server("http://a.internal:1", None), server("https://10.0.0.5", Some("b.internal"))]);
        for host in ["a.internal", "A.Internal", "10.0.0.5", "b.internal"] {
            assert!(upstream.is_own_host(host, &RequestHost::Configured), "{host}");
        }
        for host in ["", "internal", "x.a.internal", "a.internal:1", "localhost"] {
            assert!(!upstream.is_own_host(host, &RequestHost::Configured), "{host}");
        }
    }

    #[test]
    fn the_host_that_was_sent_is_an_own_name() {
        let upstream = upstream(vec![server("http://10.0.0.5:9000", None)]);
        let given = |host: &'static str| RequestHost::Given(HostField::new(HeaderValue::from_static(host)).into());
        let shop = given("shop.internal");
        for (scheme, authority, is_own) in [
            (Some(Scheme::Http), "shop.internal", true),
            (Some(Scheme::Https), "SHOP.internal:443", true),
            (Some(Scheme::Http), "shop.internal:80", true),
            (None, "shop.internal", true),
            (Some(Scheme::Http), "shop.internal:8080", false),
            (Some(Scheme::Http), "x.shop.internal", false),
        ] {
            assert_eq!(upstream.is_own_authority(scheme, authority, &shop), is_own, "{authority}");
        }
        assert!(upstream.is_own_authority(Some(Scheme::Http), "shop.internal:8080", &given("shop.internal:8080")));
        assert!(!upstream.is_own_authority(Some(Scheme::Http), "shop.internal", &given("shop.internal:8080")));
        assert!(upstream.is_own_host("shop.internal", &shop) && !upstream.is_own_host("internal", &shop));
    }
}
