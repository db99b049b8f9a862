//! Issuers over TLS that see how they are asked: by HTTP/1.1 or HTTP/2, with which fields, directly or by a proxy.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, Version};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::TcpStream;

use super::authority::{Authority, listen_by_tls};
use super::issuer::Key;
use super::upstream::listen;
use super::wire::Wire;

pub(crate) const OPENID: &str = "/.well-known/openid-configuration";

/// An issuer with the certificate of an authority.
pub(crate) struct Secure {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Asked>>>,
}

/// A request as the issuer received it.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) version: Version,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// A status and a document.
pub(crate) type Answer = (u16, String);

impl Secure {
    /// For this name, by these protocols.
    pub(crate) async fn start(
        authority: &Authority,
        name: &str,
        alpn: &[&[u8]],
        answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let (seen, answer) = (Arc::new(Mutex::new(Vec::new())), Arc::new(answer));
        let log = Arc::clone(&seen);
        let address = listen_by_tls(authority.issue(&[name]).config(alpn, None), move |stream| {
            let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
            async move {
                let service = service_fn(move |request: Request<Incoming>| {
                    let (version, path) = (request.version(), request.uri().path().to_owned());
                    let asked = Asked { version, path, headers: request.headers().clone() };
                    let (status, body) = answer(&asked);
                    log.lock().unwrap().push(asked);
                    let response = Response::builder().status(status).body(Full::<Bytes>::from(body)).unwrap();
                    async { Ok::<_, Infallible>(response) }
                });
                let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                let stream = TokioIo::new(stream);
                if is_http2 {
                    let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await;
                } else {
                    let _ = http1::Builder::new().serve_connection(stream, service).await;
                }
            }
        })
        .await;
        Self { address, seen }
    }

    /// All requests so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.seen.lock().unwrap().clone()
    }
}

/// The documents of an issuer with this key: metadata at `/.well-known/openid-configuration`, keys at `/jwks`.
pub(crate) fn documents(key: &Key, issuer: &str, jwks_uri: &str) -> impl Fn(&Asked) -> Answer + Send + Sync + 'static {
    let metadata = json!({ "issuer": issuer, "jwks_uri": jwks_uri }).to_string();
    let keys = json!({ "keys": [key.jwk()] }).to_string();
    move |asked| match asked.path.as_str() {
        OPENID => (200, metadata.clone()),
        "/jwks" => (200, keys.clone()),
        _ => (404, String::new()),
    }
}

/// A proxy that opens tunnels by CONNECT, all to one address.
#[derive(Clone)]
pub(crate) struct Tunnels {
    to: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Tunnels {
    pub(crate) fn to(to: SocketAddr) -> Self {
        Self { to, heads: Arc::default() }
    }

    /// The address in clear text.
    pub(crate) async fn listen(&self) -> SocketAddr {
        let tunnels = self.clone();
        listen(move |stream| tunnels.clone().serve(stream)).await
    }

    /// The address over TLS, as `localhost`.
    pub(crate) async fn listen_by_tls(&self, authority: &Authority) -> SocketAddr {
        let tunnels = self.clone();
        listen_by_tls(authority.issue(&["localhost"]).config(&[], None), move |stream| tunnels.clone().serve(stream))
            .await
    }

    /// The requests that the proxy has read.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    async fn serve<T: AsyncRead + AsyncWrite + Unpin>(self, stream: T) {
        let mut wire = Wire::new(stream);
        let Some(head) = wire.head().await else { return };
        self.heads.lock().unwrap().push(head);
        let Ok(mut issuer) = TcpStream::connect(self.to).await else { return };
        wire.send("HTTP/1.1 200 OK\r\n\r\n").await;
        let _ = copy_bidirectional(&mut wire.stream, &mut issuer).await;
    }
}
