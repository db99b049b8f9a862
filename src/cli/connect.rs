//! `portcullis check --connect`: connects to every server of the upstreams, every issuer and every shared store, and
//! reports the connection or the reason why it cannot be used.
//!
//! Each connection has a timeout, and [`AT_ONCE`] are open at the same time.

mod stores;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use anstyle::Style;
use http::Version;
use http::uri::PathAndQuery;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use stores::{ReachedStore, StoreTask};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use url::Url;

use super::terminal::{BAD, BOLD, DIM, GOOD, NAME, WARN, out, styled};
use crate::clock::{self, UnixTime};
use crate::config::types::Config;
use crate::oauth::caller::IssuerName;
use crate::telemetry::error_chain::ErrorChain;
use crate::trust::introspection::{Introspection, NoAnswer};
use crate::trust::issuer::IssuerSettings;
use crate::trust::key_source::{FetchedKeys, IntrospectionEndpoint};
use crate::trust::refresher;
use crate::upstream::dial::{DialFault, DialRules, DialledServer, dial};
use crate::upstream::host::HostRule;
use crate::upstream::names::{DnsSettings, Name, NameLookup, keep_fresh};
use crate::upstream::protocol::UpstreamProtocol;
use crate::upstream::server::{Server, ServerAddress, ServerOrigin};
use crate::upstream::settings::{AnswerLimits, Probe, UpstreamSettings};
use crate::upstream::tls::{self, CurrentClientConfig, Tls};

/// All that was connected to, in the order of the file.
pub(super) struct Connections(Vec<Connection>);

struct Connection {
    kind: &'static str,
    /// Of the upstream, the issuer or the store.
    name: String,
    /// As the configuration addresses it.
    server: String,
    found: Result<Found, Unusable>,
}

enum Found {
    Dialled {
        /// `None` if only the proxy of an issuer connects to it, or the issuer is asked about its tokens.
        server: Option<DialledServer>,
        /// Of an issuer.
        keys: Option<usize>,
    },
    Store(ReachedStore),
}

struct Unusable {
    reason: String,
    remedy: String,
}

/// One of the connections to be made.
enum Task {
    Server {
        upstream: String,
        server: Server,
        rules: Box<DialRules>,
    },
    Issuer(Box<FetchedIssuer>),
    /// An issuer that is asked about its tokens.
    Introspection(IssuerName, Box<IntrospectionEndpoint>),
    Store(StoreTask),
}

/// An issuer whose keys are fetched.
struct FetchedIssuer {
    settings: IssuerSettings,
    source: FetchedKeys,
}

const AT_ONCE: usize = 16;
/// For upstreams with a longer `connect_timeout` too.
const MAX_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const DAY: u64 = 24 * 3600;
/// A certificate that ends sooner is marked.
const SOON: u64 = 14;

pub(super) fn connections(config: &Config) -> io::Result<Connections> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(Connections(runtime.block_on(connect_all(config))))
}

async fn connect_all(config: &Config) -> Vec<Connection> {
    // Dropped at the end, which ends the look-ups.
    let mut lookups = JoinSet::new();
    let lookup = Arc::new(NameLookup::new(config.dns.clone()));
    for name in &config.names {
        lookups.spawn(keep_fresh(Arc::clone(name), Arc::clone(&lookup)));
    }
    let (permits, mut connecting) = (Arc::new(Semaphore::new(AT_ONCE)), JoinSet::new());
    for (number, task) in tasks(config).into_iter().enumerate() {
        let permits = Arc::clone(&permits);
        connecting.spawn(async move {
            let _permit = permits.acquire_owned().await;
            (number, task.run().await)
        });
    }
    let mut done = connecting.join_all().await;
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, connection)| connection).collect()
}

fn tasks(config: &Config) -> Vec<Task> {
    let servers = config.upstreams.iter().flat_map(|upstream| {
        let rules = Box::new(rules(&upstream.settings));
        upstream.servers.iter().map(move |server| Task::Server {
            upstream: upstream.name.to_string(),
            server: server.clone(),
            rules: rules.clone(),
        })
    });
    let issuers = config.issuers.iter().filter_map(|issuer| {
        if let Some(endpoint) = issuer.source.introspected() {
            return Some(Task::Introspection(issuer.settings.name.clone(), Box::new(endpoint.clone())));
        }
        let (settings, source) = (issuer.settings.clone(), issuer.source.fetched()?.clone());
        Some(Task::Issuer(Box::new(FetchedIssuer { settings, source })))
    });
    servers.chain(issuers).chain(stores::tasks(config).map(Task::Store)).collect()
}

fn rules(settings: &UpstreamSettings) -> DialRules {
    let path = match settings.health_check.as_ref().map(|check| &check.probe) {
        Some(Probe::Http { path, .. }) => path.clone(),
        Some(Probe::Connect) | None => PathAndQuery::from_static("/"),
    };
    let connect_timeout = settings.connect_timeout.min(MAX_CONNECT_TIMEOUT);
    DialRules {
        host: settings.host.clone(),
        path,
        connect_timeout,
        limits: settings.answers,
        credential: settings.authorization.clone(),
    }
}

impl Task {
    async fn run(self) -> Connection {
        match self {
            Self::Server { upstream, server, rules } => {
                let written = written(&server);
                let found =
                    dialled(&server, &rules).await.map(|server| Found::Dialled { server: Some(server), keys: None });
                Connection { kind: "upstream", name: upstream, server: written, found }
            }
            Self::Issuer(issuer) => {
                let url = issuer.source.place.uri().map(Url::to_string);
                let server = url.unwrap_or_else(|| issuer.settings.metadata_issuer().to_owned());
                let name = issuer.settings.name.as_str().to_owned();
                let found = found_of_issuer(&issuer, &server).await;
                Connection { kind: "issuer", name, server, found }
            }
            Self::Introspection(issuer, endpoint) => {
                let (name, server) = (issuer.as_str().to_owned(), endpoint.url.to_string());
                let asked = Arc::new(Introspection::new(issuer, *endpoint, Handle::current())).probe().await;
                let remedy = || format!("check `introspection`, `ca` and `fetch` of `issuers.{name}`");
                let found = asked.map_err(|NoAnswer(why)| Unusable { reason: why.to_string(), remedy: remedy() });
                let found = found.map(|()| Found::Dialled { server: None, keys: None });
                Connection { kind: "issuer", name, server, found }
            }
            Self::Store(store) => store.run().await,
        }
    }
}

fn written(server: &Server) -> String {
    match (&server.place, &server.tls) {
        (ServerAddress::Socket(_), _) => server.place.to_string(),
        (_, Some(_)) => format!("https://{}", server.name()),
        (_, None) => format!("http://{}", server.name()),
    }
}

async fn dialled(server: &Server, rules: &DialRules) -> Result<DialledServer, Unusable> {
    let dialled = dial(server, rules).await;
    dialled.map_err(|fault| Unusable { reason: fault.to_string(), remedy: fault.remedy().to_owned() })
}

/// Dials the server first, unless there is a proxy, and then fetches the keys as the gateway does.
async fn found_of_issuer(issuer: &FetchedIssuer, url: &str) -> Result<Found, Unusable> {
    let server = match issuer.source.access.proxy {
        None => Some(dialled_issuer(issuer, url).await?),
        Some(_) => None,
    };
    let (keys, fetched) = refresher::fetch_once(&issuer.settings, &issuer.source).await;
    fetched.map_err(|error| unusable(ErrorChain(&error).to_string(), issuer))?;
    Ok(Found::Dialled { server, keys: Some(keys.keys().keys().count()) })
}

/// By HTTP/1.1, or by HTTP/2 if the server has no other.
async fn dialled_issuer(issuer: &FetchedIssuer, url: &str) -> Result<DialledServer, Unusable> {
    let dialled = dialled_by(UpstreamProtocol::Http1, issuer, url).await?;
    match dialled {
        Err(DialFault::Connect(_)) if url.starts_with("https") => {
            let again = dialled_by(UpstreamProtocol::Http2, issuer, url).await?;
            again.or(dialled)
        }
        Ok(_) | Err(_) => dialled,
    }
    .map_err(|fault| unusable(fault.to_string(), issuer))
}

async fn dialled_by(
    protocol: UpstreamProtocol,
    issuer: &FetchedIssuer,
    url: &str,
) -> Result<Result<DialledServer, DialFault>, Unusable> {
    let server = issuers_server(issuer, url, protocol).map_err(|reason| unusable(reason, issuer))?;
    let mut lookups = JoinSet::new();
    if let ServerAddress::Name(name, _) = &server.place {
        lookups.spawn(system_lookup(Arc::clone(name)));
    }
    let path = Url::parse(url).ok().and_then(|url| PathAndQuery::try_from(url.path().to_owned()).ok());
    let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
    let (connect_timeout, limits) = (Duration::from_secs(5), AnswerLimits::default());
    let rules = DialRules { host: HostRule::Upstream, path, connect_timeout, limits, credential: None };
    Ok(dial(&server, &rules).await)
}

/// Names of issuers are those of the system, without `dns.servers`.
async fn system_lookup(name: Arc<Name>) {
    let settings = DnsSettings { servers: Vec::new(), stale_for: Duration::ZERO };
    keep_fresh(name, Arc::new(NameLookup::new(settings))).await;
}

fn issuers_server(issuer: &FetchedIssuer, url: &str, protocol: UpstreamProtocol) -> Result<Server, String> {
    let url = Url::parse(url).map_err(|error| error.to_string())?;
    let origin = ServerOrigin::parse(&url.origin().ascii_serialization()).map_err(|fault| fault.to_string())?;
    if url.scheme() != "https" {
        return Ok(Server::tcp(origin, None, UpstreamProtocol::Http1));
    }
    let trusted = match &issuer.source.ca {
        Some(ca) => tls::roots(&ca.pem()).map_err(|fault| format!("the file of `ca` {fault}"))?,
        None => tls::system_roots(),
    };
    let config = tls::client_config(&trusted, None, protocol).map_err(|error| error.to_string())?;
    let name = ServerName::try_from(origin.host.clone()).map_err(|error| error.to_string())?;
    Ok(Server::tcp(origin, Some(Tls { config: CurrentClientConfig::new(config), name }), protocol))
}

fn unusable(reason: String, issuer: &FetchedIssuer) -> Unusable {
    let keys = if issuer.source.place.uri().is_some() { "`jwks_uri`" } else { "`issuer` and `jwks_uri`" };
    let name = issuer.settings.name.as_str();
    Unusable { reason, remedy: format!("check {keys}, `ca` and `fetch` of `issuers.{name}`") }
}

impl Connections {
    pub(super) fn has_failed(&self) -> bool {
        self.0.iter().any(|connection| connection.found.is_err())
    }

    /// A sentence about each that cannot be used.
    pub(super) fn failures(&self) -> impl Iterator<Item = String> {
        self.0.iter().filter_map(|connection| {
            let Connection { kind, name, server, found } = connection;
            let Unusable { reason, remedy } = found.as_ref().err()?;
            Some(format!("{kind} `{name}` cannot be used at {server}: {reason}; {remedy}"))
        })
    }

    pub(super) fn json(&self) -> Value {
        let now = clock::now();
        self.0.iter().map(|connection| connection.json(now)).collect()
    }

    pub(super) fn print(&self) {
        let now = clock::now();
        let width = |text: fn(&Connection) -> &str| self.0.iter().map(|each| text(each).chars().count()).max();
        let widths = [width(|each| &each.name), width(|each| &each.server)].map(Option::unwrap_or_default);
        out(format_args!("\n{}", styled(BOLD, "CONNECTIONS")));
        for connection in &self.0 {
            let pad = |text: &str, width: usize| " ".repeat(width - text.chars().count());
            let name = format!("{}{}", styled(NAME, &connection.name), pad(&connection.name, widths[0]));
            let server = format!("{}{}", connection.server, pad(&connection.server, widths[1]));
            out(format_args!("{name}  {server}  {}", connection.text(now)));
        }
    }
}

impl Connection {
    fn text(&self, now: UnixTime) -> String {
        let (server, keys) = match &self.found {
            Ok(Found::Dialled { server, keys }) => (server, keys),
            Ok(Found::Store(store)) => return [vec![styled(GOOD, "ok")], store.texts()].concat().join("  "),
            Err(Unusable { reason, remedy }) => return format!("{}  {reason}; {remedy}", styled(BAD, "failed")),
        };
        let keys = keys.map(|keys| counted(keys as u64, "key"));
        let Some(server) = server else {
            let how = if keys.is_some() { "through its proxy" } else { "answers about tokens" };
            let parts = [Some(styled(GOOD, "ok")), Some(how.to_owned()), keys];
            return parts.into_iter().flatten().collect::<Vec<_>>().join("  ");
        };
        let mut parts = vec![styled(GOOD, "ok"), server.address.clone()];
        match &server.tls {
            None => parts.push(styled(DIM, "clear text")),
            Some(tls) => {
                parts.push(tls.version.to_owned());
                if let Some(certificate) = &tls.certificate {
                    parts.push(subject(&certificate.subject).to_owned());
                    parts.push(match days_left(certificate.valid_until, now) {
                        None => "no end".to_owned(),
                        Some(days) => styled(if days < SOON { WARN } else { Style::new() }, counted(days, "day")),
                    });
                }
            }
        }
        parts.push(version(server.http).to_owned());
        parts.extend(keys);
        parts.push(format!("{} ms", server.took.as_millis()));
        parts.join("  ")
    }

    fn json(&self, now: UnixTime) -> Value {
        let mut report = json!({ (self.kind): self.name, "server": self.server, "ok": self.found.is_ok() });
        match &self.found {
            Ok(Found::Store(store)) => store.add_to(&mut report),
            Ok(Found::Dialled { server, keys }) => {
                if let Some(server) = server {
                    server_json(server, &mut report, now);
                }
                if let Some(keys) = keys {
                    report["keys"] = json!(keys);
                }
            }
            Err(Unusable { reason, remedy }) => {
                report["reason"] = json!(reason);
                report["remedy"] = json!(remedy);
            }
        }
        report
    }
}

fn server_json(server: &DialledServer, report: &mut Value, now: UnixTime) {
    report["address"] = json!(server.address);
    report["http"] = json!(version(server.http));
    report["duration_ms"] = json!(server.took.as_millis() as u64);
    if let Some(tls) = &server.tls {
        report["tls"] = json!(tls.version);
        if let Some(certificate) = &tls.certificate {
            report["certificate"] = json!(certificate.subject);
            report["days_left"] = json!(days_left(certificate.valid_until, now));
        }
    }
}

/// Whole days. `None` if the certificate has no end.
fn days_left(until: Option<UnixTime>, now: UnixTime) -> Option<u64> {
    until.map(|until| until.since(now).as_secs() / DAY)
}

fn subject(subject: &str) -> &str {
    if subject.is_empty() { "no subject" } else { subject }
}

fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}
