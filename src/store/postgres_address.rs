//! The address of PostgreSQL, and the protection of the connection.
//!
//! A server on another host is verified by its certificate unless the URL has `sslmode=disable`. The weaker modes of
//! libpq are refused, except `require`, which verifies here too.

use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use url::Url;

use super::settings::{PostgresSettings, is_loopback};

/// A server of PostgreSQL, with user and password.
#[derive(Clone)]
pub(super) struct PostgresAddress {
    pub(super) config: Config,
    /// `None`: in clear text.
    pub(super) tls: Option<Arc<ClientConfig>>,
    /// The database in messages, with its key and `HOST:PORT`.
    pub(super) name: String,
}

/// A URL that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PostgresUrlFacts {
    pub(crate) has_password: bool,
    /// A machine on the way can read and change what is sent.
    pub(crate) is_exposed: bool,
}

/// A fault of the URL. Shows no part of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PostgresUrlFault {
    #[error(
        "expected a URL such as `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, with user and password percent-encoded"
    )]
    Form,
    #[error(
        "expected `sslmode=verify-full`, `sslmode=require`, which verifies the server too, or `sslmode=disable`; the other modes do not verify it"
    )]
    Mode,
    #[error("`shared.postgres.ca` has no usable certificate of an authority")]
    Authorities,
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Protection {
    ClearText,
    Verified,
}

/// For a new connection, with its handshakes. No request waits for it.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const SSL_MODE: &str = "sslmode";
const PORT: u16 = 5432;

impl PostgresAddress {
    pub(super) fn new(settings: &PostgresSettings) -> Result<Self, PostgresUrlFault> {
        let (mut config, protection) = parse(settings.url.expose())?;
        config.connect_timeout(CONNECT_TIMEOUT).tcp_user_timeout(Duration::from_secs(10));
        config.keepalives_idle(Duration::from_secs(30));
        if config.get_application_name().is_none() {
            config.application_name("portcullis");
        }
        let tls = match protection {
            Protection::ClearText => None,
            Protection::Verified => Some(Arc::new(client_config(settings.ca.as_deref())?)),
        };
        config.ssl_mode(if tls.is_some() { SslMode::Require } else { SslMode::Disable });
        let name = format!("the database (`shared.postgres`, {})", servers(&config));
        Ok(Self { config, tls, name })
    }
}

impl PostgresUrlFacts {
    pub(crate) fn of(url: &str) -> Result<Self, PostgresUrlFault> {
        let (config, protection) = parse(url)?;
        let is_exposed = protection == Protection::ClearText && !stays_here(&config);
        Ok(Self { has_password: config.get_password().is_some(), is_exposed })
    }
}

/// `postgres://HOST:PORT/DATABASE`, without user and password. `None` if the URL cannot be used.
pub(crate) fn place(settings: &PostgresSettings) -> Option<String> {
    let (config, _) = parse(settings.url.expose()).ok()?;
    let database = config.get_dbname().or(config.get_user()).unwrap_or_default();
    Some(format!("postgres://{}/{database}", servers(&config)))
}

/// `HOST:PORT` of each server.
fn servers(config: &Config) -> String {
    let ports = config.get_ports();
    let server = |(index, host): (usize, &Host)| {
        let host = match host {
            Host::Tcp(name) if name.contains(':') => format!("[{name}]"),
            Host::Tcp(name) => name.clone(),
            Host::Unix(folder) => folder.display().to_string(),
        };
        // One port is that of all hosts.
        let port = ports.get(index).or(ports.first()).copied().unwrap_or(PORT);
        format!("{host}:{port}")
    };
    config.get_hosts().iter().enumerate().map(server).collect::<Vec<_>>().join(",")
}

fn parse(url: &str) -> Result<(Config, Protection), PostgresUrlFault> {
    let mut parsed = Url::parse(url).map_err(|_| PostgresUrlFault::Form)?;
    // A `/` or `#` in a password that is not percent-encoded ends the host before the password does.
    let is_cut = parsed.path().contains('@') || parsed.fragment().is_some();
    if !matches!(parsed.scheme(), "postgres" | "postgresql") || !parsed.has_host() || is_cut {
        return Err(PostgresUrlFault::Form);
    }
    // The library has other modes than ours.
    let (modes, others): (Vec<_>, Vec<_>) = parsed.query_pairs().into_owned().partition(|(name, _)| name == SSL_MODE);
    parsed.set_query(None);
    if !others.is_empty() {
        parsed.query_pairs_mut().extend_pairs(others);
    }
    let config: Config = parsed.as_str().parse().map_err(|_| PostgresUrlFault::Form)?;
    let protection = match modes.last().map(|(_, mode)| mode.as_str()) {
        Some("disable") => Protection::ClearText,
        Some("require" | "verify-full") => Protection::Verified,
        Some(_) => return Err(PostgresUrlFault::Mode),
        None if stays_here(&config) => Protection::ClearText,
        None => Protection::Verified,
    };
    Ok((config, protection))
}

/// Whether all connections stay on this machine. `hostaddr` is the address of a host, whatever its name is.
fn stays_here(config: &Config) -> bool {
    let is_here = |host: &Host| match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => is_loopback(name),
    };
    config.get_hosts().iter().all(is_here) && config.get_hostaddrs().iter().all(|ip| ip.to_canonical().is_loopback())
}

fn client_config(ca: Option<&[u8]>) -> Result<ClientConfig, PostgresUrlFault> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|_| PostgresUrlFault::Authorities)?;
                roots.add(certificate).map_err(|_| PostgresUrlFault::Authorities)?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(PostgresUrlFault::Authorities);
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13, &TLS12])?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::super::settings::StoreSecret;
    use super::*;

    fn protection(url: &str) -> Option<bool> {
        parse(url).ok().map(|(_, protection)| protection == Protection::Verified)
    }

    #[test]
    fn another_host_is_verified_unless_the_url_says_otherwise() {
        assert_eq!(protection("postgres://a:b@db.example/x"), Some(true));
        assert_eq!(protection("postgresql://db.example/x?sslmode=require"), Some(true));
        assert_eq!(protection("postgres://db.example/x?sslmode=disable&application_name=y"), Some(false));
        assert_eq!(protection("postgres://127.0.0.1:5433/x"), Some(false));
        assert_eq!(protection("postgres://a@%2Frun%2Fpostgresql/x"), Some(false));
        assert_eq!(protection("postgres://localhost/x?sslmode=verify-full"), Some(true));
        assert_eq!(protection("postgres://localhost/x?hostaddr=192.0.2.1"), Some(true));
        assert_eq!(protection("postgres://localhost/x?hostaddr=127.0.0.1"), Some(false));
        assert_eq!(protection("postgres://localhost,db.example/x"), Some(true));
    }

    #[test]
    fn clear_text_is_exposed_on_a_network_only() {
        let is_exposed = |url| PostgresUrlFacts::of(url).unwrap().is_exposed;
        assert!(is_exposed("postgres://db.example/x?sslmode=disable"));
        assert!(is_exposed("postgres://localhost/x?hostaddr=192.0.2.1&sslmode=disable"));
        assert!(!is_exposed("postgres://[::1]/x?sslmode=disable"));
        assert!(!is_exposed("postgres://a@%2Frun%2Fpostgresql/x"));
        assert!(!is_exposed("postgres://db.example/x"));
    }

    #[test]
    fn the_place_has_neither_user_nor_password() {
        let place = |url| place(&PostgresSettings { url: StoreSecret::new(url), ca: None, stale: Duration::ZERO });
        assert_eq!(place("postgres://a:b@127.0.0.1/x?password=c"), Some("postgres://127.0.0.1:5432/x".to_owned()));
        assert_eq!(place("postgres://a:b@[::1]:5433/x"), Some("postgres://[::1]:5433/x".to_owned()));
        assert_eq!(place("postgres://a@%2Frun%2Fpg/x"), Some("postgres:///run/pg:5432/x".to_owned()));
        assert_eq!(place("postgres://a:b@d,e/x"), Some("postgres://d:5432,e:5432/x".to_owned()));
    }

    #[test]
    fn modes_that_do_not_verify_are_refused() {
        for mode in ["prefer", "allow", "verify-ca", "x"] {
            assert!(matches!(parse(&format!("postgres://h/x?sslmode={mode}")), Err(PostgresUrlFault::Mode)), "{mode}");
        }
        for url in [
            "http://h/x",
            "postgres:///x",
            "x",
            "postgres://h/x?unknown=1",
            "postgres://a:p@s/w@h/x",
            "postgres://a:p@s#w@h/x",
        ] {
            assert!(matches!(parse(url), Err(PostgresUrlFault::Form)), "{url}");
        }
    }
}
