//! The admin listener: liveness, readiness, metrics and the state of the issuers.
//!
//! Runs on the control plane's runtime and not on a worker's, so that it answers while the data plane is busy. It has
//! no authentication, so the configuration keeps it off public addresses. It answers only requests that name an IP
//! address, `localhost` or a configured name: otherwise a web page could point a name of its own at this listener and
//! read it (DNS rebinding).

use std::convert::Infallible;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Data of the admin pages. Each is computed for every request.
#[derive(Clone)]
pub(crate) struct Probes {
    pub(crate) hosts: Arc<Hosts>,
    /// `Ok` is ready, with remarks for the operator. `Err` is the reason for not being ready.
    pub(crate) ready: Arc<dyn Fn() -> Result<String, &'static str> + Send + Sync>,
    /// JSON.
    pub(crate) issuers: Arc<dyn Fn() -> String + Send + Sync>,
    pub(crate) metrics: Arc<dyn Fn() -> MetricsPage + Send + Sync>,
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

const MAX_CONNECTIONS: usize = 64;
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum age of a connection. It keeps connection slots free for probes.
const CONNECTION_AGE: Duration = Duration::from_secs(15);
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// Serves until dropped.
pub(crate) async fn serve(listener: TcpListener, probes: Probes) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match (accepted, Arc::clone(&slots).try_acquire_owned()) {
                (Ok((stream, _)), Ok(slot)) => {
                    let probes = probes.clone();
                    connections.spawn(async move {
                        let _slot = slot;
                        handle_connection(stream, probes).await;
                    });
                }
                (Ok(_), Err(_)) => {}
                (Err(_), _) => tokio::time::sleep(Duration::from_millis(100)).await,
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

async fn handle_connection(stream: TcpStream, probes: Probes) {
    let service = service_fn(move |request| {
        let probes = probes.clone();
        async move { Ok::<_, Infallible>(answer(&request, &probes).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    // A scraper that disconnects or takes too long is not an error.
    let _ = timeout(CONNECTION_AGE, builder.serve_connection(TokioIo::new(stream), service)).await;
}

async fn answer(request: &Request<Incoming>, probes: &Probes) -> Response<Full<Bytes>> {
    if !probes.hosts.allow(request.uri(), request.headers()) {
        let hint = "use an IP address, `localhost` or a name in `admin.hosts`\n".to_owned();
        return text(StatusCode::MISDIRECTED_REQUEST, hint);
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".to_owned());
    }
    match request.uri().path() {
        "/livez" => text(StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => match (probes.ready)() {
            Ok(remarks) => text(StatusCode::OK, format!("ok\n{remarks}")),
            Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
        },
        "/metrics" => match (probes.metrics)().await {
            Some(page) => {
                let mut response = text(StatusCode::OK, page);
                response.headers_mut().insert(CONTENT_TYPE, OPEN_METRICS);
                response
            }
            None => text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written\n".to_owned()),
        },
        "/issuers" => {
            let mut response = text(StatusCode::OK, (probes.issuers)());
            response.headers_mut().insert(CONTENT_TYPE, JSON);
            response
        }
        _ => text(StatusCode::NOT_FOUND, "try /livez, /readyz, /metrics or /issuers\n".to_owned()),
    }
}

fn text(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, TEXT);
    response
}
