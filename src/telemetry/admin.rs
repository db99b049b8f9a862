//! The admin listener: liveness, readiness, metrics and the state of the issuers.
//!
//! It runs on the control plane's runtime, so that it answers while the workers are busy. It has no authentication; the
//! configuration therefore refuses public addresses for it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Data of the admin pages. Each is computed anew for every request.
#[derive(Clone)]
pub(crate) struct Probes {
    /// Remarks for the page if ready, or the reason why the gateway is not ready.
    pub(crate) ready: Arc<dyn Fn() -> Result<String, &'static str> + Send + Sync>,
    /// JSON.
    pub(crate) issuers: Arc<dyn Fn() -> String + Send + Sync>,
    pub(crate) metrics: Arc<dyn Fn() -> MetricsPage + Send + Sync>,
}

/// A metrics page that is being collected.
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
    // A scraper that hangs up or takes too long is not an error.
    let _ = timeout(CONNECTION_AGE, builder.serve_connection(TokioIo::new(stream), service)).await;
}

async fn answer(request: &Request<Incoming>, probes: &Probes) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".to_owned());
    }
    match request.uri().path() {
        "/livez" => text(StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => match (probes.ready)() {
            Ok(remarks) => text(StatusCode::OK, format!("ok\n{remarks}")),
            Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
        },
        "/metrics" => match (probes.metrics)().await {
            Some(page) => {
                let mut response = text(StatusCode::OK, page);
                response.headers_mut().insert(CONTENT_TYPE, OPEN_METRICS);
                response
            }
            None => text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics can't be written\n".to_owned()),
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
