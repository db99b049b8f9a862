//! The admin listener (liveness, readiness, metrics and the state of the issuers) and the listener for probes alone.
//!
//! Both run on the control plane's runtime and not on a worker's, so that they answer while the data plane is busy.
//! Both have no authentication. The admin listener admits only peers of the configured networks, by the address of the
//! socket. It answers only requests that name an IP address, `localhost` or a configured name: otherwise a web page
//! could point a name of its own at this listener and read it (DNS rebinding).

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::warn;

/// Data of the admin pages. Each is computed for every request.
#[derive(Clone)]
pub(crate) struct Probes {
    /// `Ok` is ready, with remarks for the operator. `Err` is the reason for not being ready.
    pub(crate) ready: Arc<dyn Fn() -> Result<String, String> + Send + Sync>,
    /// JSON.
    pub(crate) issuers: Arc<dyn Fn() -> String + Send + Sync>,
    /// JSON.
    pub(crate) config: Arc<dyn Fn() -> String + Send + Sync>,
    pub(crate) metrics: Arc<dyn Fn() -> MetricsPage + Send + Sync>,
}

/// The rules of a listener.
pub(crate) struct AdminRules {
    pub(crate) pages: AdminPages,
    /// Whether a peer may connect.
    pub(crate) admits: Arc<dyn Fn(IpAddr) -> bool + Send + Sync>,
    /// `None`: any name. Probes reveal nothing that a page could use.
    pub(crate) hosts: Option<Arc<Hosts>>,
}

/// The pages that a listener serves: each value has those of the values before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum AdminPages {
    /// `/livez`, and `/readyz` without remarks.
    Probes,
    /// `/metrics`, and the remarks of `/readyz`.
    Metrics,
    /// `/config` and `/issuers`.
    All,
}

impl AdminPages {
    /// For a request to another path.
    const fn hint(self) -> &'static str {
        match self {
            Self::Probes => "try /livez or /readyz\n",
            Self::Metrics => "try /livez, /readyz or /metrics; other pages are served on a loopback address only\n",
            Self::All => "try /livez, /readyz, /metrics, /config or /issuers\n",
        }
    }
}

/// The names, besides `localhost`, that a request may use: lower case, without a trailing dot.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hosts(pub(crate) Vec<String>);

impl Hosts {
    /// Whether a request names this listener, exactly once in its header; an absolute target must name it as well.
    fn allow(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let mut fields = headers.get_all(HOST).iter();
        let field = fields.next().and_then(|field| field.to_str().ok());
        let is_single = fields.next().is_none();
        is_single
            && field.is_some_and(|host| self.contains(host))
            && uri.authority().is_none_or(|a| self.contains(a.as_str()))
    }

    /// `authority` is a host and perhaps a port (RFC 9110 §7.2).
    fn contains(&self, authority: &str) -> bool {
        let (host, port) = match authority.rsplit_once(':') {
            // The colons of an IPv6 literal are before its closing bracket.
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            Some(_) | None => (authority, None),
        };
        if port.is_some_and(|port| !port.bytes().all(|byte| byte.is_ascii_digit()) || port.parse::<u16>().is_err()) {
            return false;
        }
        if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            return address.parse::<Ipv6Addr>().is_ok();
        }
        let name = host.strip_suffix('.').unwrap_or(host);
        let is_own = |own: &str| name.eq_ignore_ascii_case(own);
        host.parse::<Ipv4Addr>().is_ok() || is_own("localhost") || self.0.iter().any(|own| is_own(own))
    }
}

/// A future that makes a page.
pub(crate) type MetricsPage = std::pin::Pin<Box<dyn Future<Output = Option<String>> + Send>>;

/// One more closes the oldest.
const MAX_CONNECTIONS: usize = 64;
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum age of a connection. It keeps connection slots free for probes.
const CONNECTION_AGE: Duration = Duration::from_secs(15);
const LOG_INTERVAL: Duration = Duration::from_secs(1);
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// Connections of peers that are not admitted, since the last log event.
struct RefusedPeers {
    count: u64,
    last: Option<IpAddr>,
    log_at: Instant,
}

impl RefusedPeers {
    fn add(&mut self, peer: IpAddr, now: Instant) {
        if self.count == 0 {
            self.log_at = now + LOG_INTERVAL;
        }
        self.count += 1;
        self.last = Some(peer);
    }

    fn log(&mut self) {
        let (count, last) = (std::mem::take(&mut self.count), self.last.take());
        let address = last.map(|last| last.to_string());
        warn!(
            count,
            network.peer.address = address,
            "connections to the admin listener were closed: the addresses are not in `admin.allow_from`"
        );
    }
}

/// The open connections, the oldest first.
#[derive(Default)]
struct ConnectionsByAge(VecDeque<AbortHandle>);

impl ConnectionsByAge {
    /// Closes the oldest connection if there are as many as there may be: peers that open connections and send nothing
    /// must not keep a probe from its answer.
    fn make_room(&mut self) {
        self.0.retain(|connection| !connection.is_finished());
        if self.0.len() >= MAX_CONNECTIONS
            && let Some(oldest) = self.0.pop_front()
        {
            oldest.abort();
        }
    }
}

/// Serves until dropped.
pub(crate) async fn serve(listener: TcpListener, changing: Arc<ArcSwap<AdminRules>>, probes: Probes) {
    let mut connections = JoinSet::new();
    let mut by_age = ConnectionsByAge::default();
    let mut refused = RefusedPeers { count: 0, last: None, log_at: Instant::now() };
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted.map(|accepted| (accepted, changing.load_full())) {
                // Refused peers take no room.
                Ok(((_, peer), rules)) if !(rules.admits)(peer.ip()) => refused.add(peer.ip(), Instant::now()),
                Ok(((stream, _), rules)) => {
                    by_age.make_room();
                    let handled = handle_connection(stream, rules, probes.clone());
                    by_age.0.push_back(connections.spawn(handled));
                },
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            },
            () = sleep_until(refused.log_at), if refused.count > 0 => refused.log(),
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

async fn handle_connection(stream: TcpStream, rules: Arc<AdminRules>, probes: Probes) {
    let service = service_fn(move |request| {
        let (rules, probes) = (Arc::clone(&rules), probes.clone());
        async move { Ok::<_, Infallible>(answer(&request, &rules, &probes).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    // A scraper that disconnects or takes too long is not an error.
    let _ = timeout(CONNECTION_AGE, builder.serve_connection(TokioIo::new(stream), service)).await;
}

async fn answer(request: &Request<Incoming>, rules: &AdminRules, probes: &Probes) -> Response<Full<Bytes>> {
    if rules.hosts.as_ref().is_some_and(|hosts| !hosts.allow(request.uri(), request.headers())) {
        let hint = "use an IP address, `localhost` or a name in `admin.hosts`\n".to_owned();
        return text(StatusCode::MISDIRECTED_REQUEST, hint);
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".to_owned());
    }
    match request.uri().path() {
        "/livez" => text(StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => match (probes.ready)() {
            Ok(remarks) if rules.pages >= AdminPages::Metrics => text(StatusCode::OK, format!("ok\n{remarks}")),
            Ok(_) => text(StatusCode::OK, "ok\n".to_owned()),
            Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
        },
        "/metrics" if rules.pages >= AdminPages::Metrics => match (probes.metrics)().await {
            Some(page) => {
                let mut response = text(StatusCode::OK, page);
                response.headers_mut().insert(CONTENT_TYPE, OPEN_METRICS);
                response
            }
            None => text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written\n".to_owned()),
        },
        "/config" if rules.pages == AdminPages::All => json((probes.config)()),
        "/issuers" if rules.pages == AdminPages::All => json((probes.issuers)()),
        _ => text(StatusCode::NOT_FOUND, rules.pages.hint().to_owned()),
    }
}

fn json(text: String) -> Response<Full<Bytes>> {
    let mut response = self::text(StatusCode::OK, text);
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

fn text(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, TEXT);
    response
}
