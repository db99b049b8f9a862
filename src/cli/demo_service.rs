//! The service of the demo: answers every request, without authentication.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

/// Binds the address and serves from its own thread until the process ends.
pub(super) fn start(address: SocketAddr) -> std::io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let listener = runtime.block_on(TcpListener::bind(address))?;
    std::thread::Builder::new().name("legacy".to_owned()).spawn(move || serve(&runtime, &listener))?;
    Ok(())
}

fn serve(runtime: &Runtime, listener: &TcpListener) {
    let local = tokio::task::LocalSet::new();
    local.block_on(runtime, async {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::task::spawn_local(async move {
                let service = service_fn(async |request| Ok::<_, Infallible>(answer(&request)));
                // A client may close its connection at any time.
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
}

fn answer(request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let (status, body) = match request.uri().path() {
        "/ping" => (StatusCode::OK, json!({ "pong": true })),
        path if path.starts_with("/orders") => {
            let header = |name: &str| {
                request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("(none)").to_owned()
            };
            let body = json!({
                "orders": [{ "id": 1, "item": "portcullis", "state": "raised" }],
                "the gateway says you are": header("x-auth-client-id"),
                "with scope": header("x-auth-scope"),
            });
            (StatusCode::OK, body)
        }
        _ => (StatusCode::NOT_FOUND, json!({ "error": "the service does not know this path" })),
    };
    let mut response = Response::new(Full::new(Bytes::from(format!("{body}\n"))));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
