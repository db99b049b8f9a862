//! A client that sends exactly the given requests: HTTP/1.1 or HTTP/2, over TLS or plain, on one connection or on many.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Gateway;

/// Opens a connection per request, unless [`Client::connect`] is used.
#[derive(Clone)]
pub(crate) struct Client {
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
}

/// One connection that is kept open. Bodies are whole, unless it was made for bodies of another kind.
pub(crate) enum Connection<B = Full<Bytes>> {
    Http1(http1::SendRequest<B>),
    Http2(http2::SendRequest<B>),
}

/// An answer with its whole body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Client {
    /// HTTP/1.1 over TLS to the gateway's first listener.
    pub(crate) fn new(gateway: &Gateway) -> Self {
        Self { address: gateway.address(), tls: Some(tls(&gateway.certificate(), &[b"http/1.1"])) }
    }

    /// HTTP/2 over TLS to the gateway's first listener.
    pub(crate) fn http2(gateway: &Gateway) -> Self {
        Self { address: gateway.address(), tls: Some(tls(&gateway.certificate(), &[b"h2"])) }
    }

    /// HTTP/1.1 in clear text.
    pub(crate) fn plain(address: SocketAddr) -> Self {
        Self { address, tls: None }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(request("GET", path)).await
    }

    pub(crate) async fn get_with(&self, path: &str, token: &str) -> Answer {
        self.send(with_token(request("GET", path), token)).await
    }

    /// A token request in a form, with Basic credentials.
    pub(crate) async fn token(&self, client: &str, secret: &str, form: &str) -> Answer {
        let mut request = request("POST", "/oauth/token");
        let headers = request.headers_mut();
        headers.insert("authorization", basic(client, secret));
        headers.insert("content-type", HeaderValue::from_static("application/x-www-form-urlencoded"));
        *request.body_mut() = Full::from(format!("grant_type=client_credentials&{form}"));
        self.send(request).await
    }

    /// The access token that a client is granted.
    pub(crate) async fn granted(&self, client: &str, secret: &str, form: &str) -> String {
        let answer = self.token(client, secret, form).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["access_token"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        self.connect().await.send(request).await
    }

    pub(crate) async fn connect(&self) -> Connection {
        self.try_connect().await.unwrap()
    }

    pub(crate) async fn try_connect(&self) -> std::io::Result<Connection> {
        self.connect_for().await
    }

    /// For bodies of another kind.
    pub(crate) async fn connect_for<B>(&self) -> std::io::Result<Connection<B>>
    where
        B: Body<Data: Send, Error: std::error::Error + Send + Sync> + Send + Unpin + 'static,
    {
        match &self.tls {
            None => Connection::http1(self.tcp().await?).await,
            Some(_) => Box::pin(Self::over(self.tls().await?)).await,
        }
    }

    /// Over an existing stream, with the protocol that was negotiated.
    pub(crate) async fn over<B>(stream: TlsStream<TcpStream>) -> std::io::Result<Connection<B>>
    where
        B: Body<Data: Send, Error: std::error::Error + Send + Sync> + Send + Unpin + 'static,
    {
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        if http2 { Connection::http2(stream).await } else { Connection::http1(stream).await }
    }

    /// The TCP connection, for tests that write raw bytes.
    pub(crate) async fn tcp(&self) -> std::io::Result<TcpStream> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// The TLS stream, for tests that write raw bytes.
    pub(crate) async fn tls(&self) -> std::io::Result<TlsStream<TcpStream>> {
        self.tls_on(self.tcp().await?).await
    }

    /// The same on an existing connection.
    pub(crate) async fn tls_on(&self, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        let connector = TlsConnector::from(self.tls.clone().unwrap());
        Box::pin(connector.connect(ServerName::try_from("localhost").unwrap(), stream)).await
    }
}

impl<B> Connection<B>
where
    B: Body<Data: Send, Error: std::error::Error + Send + Sync> + Send + Unpin + 'static,
{
    async fn http1<T>(stream: T) -> std::io::Result<Self>
    where
        T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let handshake = http1::Builder::new().max_headers(1000).handshake(TokioIo::new(stream));
        let (sender, connection) = handshake.await.map_err(std::io::Error::other)?;
        tokio::task::spawn(connection);
        Ok(Self::Http1(sender))
    }

    async fn http2<T>(stream: T) -> std::io::Result<Self>
    where
        T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (sender, connection) = handshake.await.map_err(std::io::Error::other)?;
        tokio::task::spawn(connection);
        Ok(Self::Http2(sender))
    }

    pub(crate) async fn send(&mut self, request: Request<B>) -> Answer {
        self.try_send(request).await.unwrap()
    }

    pub(crate) async fn try_send(&mut self, request: Request<B>) -> hyper::Result<Answer> {
        let response = self.begin(request).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
    }

    /// The answer's head. Its body has not been read.
    pub(crate) async fn begin(&mut self, request: Request<B>) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(in_origin_form(request)).await
            }
            Self::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }

    /// True once the gateway has closed it.
    pub(crate) async fn is_closed(&mut self) -> bool {
        match self {
            Self::Http1(sender) => sender.ready().await.is_err(),
            Self::Http2(sender) => sender.ready().await.is_err(),
        }
    }

    /// Waits until the gateway has closed it.
    pub(crate) async fn closed(&mut self) {
        while !self.is_closed().await {
            // hyper does not report the end of an idle connection. Its task must run to notice it.
            tokio::task::yield_now().await;
        }
    }
}

impl Answer {
    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name} in {self:?}")).to_str().unwrap()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    #[track_caller]
    pub(crate) fn request_id(&self) -> &str {
        self.header("x-request-id")
    }
}

/// A request to `https://localhost` without a body; change it as you like.
pub(crate) fn request(method: &str, path: &str) -> Request<Full<Bytes>> {
    let request = Request::builder().method(method).uri(format!("https://localhost{path}")).header("host", "localhost");
    request.body(Full::default()).unwrap()
}

/// As clients write it over HTTP/1.1, where `Host` has the authority (RFC 9112 §3.2.1).
fn in_origin_form<B>(mut request: Request<B>) -> Request<B> {
    let host = request.headers().get("host").and_then(|host| host.to_str().ok());
    if let Some(target) = request.uri().path_and_query().cloned()
        && request.uri().authority().map(|authority| authority.as_str()) == host
    {
        *request.uri_mut() = target.into();
    }
    request
}

pub(crate) fn with_token(mut request: Request<Full<Bytes>>, token: &str) -> Request<Full<Bytes>> {
    request.headers_mut().insert("authorization", HeaderValue::try_from(format!("Bearer {token}")).unwrap());
    request
}

pub(crate) fn with_header(mut request: Request<Full<Bytes>>, name: &'static str, value: &str) -> Request<Full<Bytes>> {
    request.headers_mut().append(name, HeaderValue::try_from(value).unwrap());
    request
}

pub(crate) fn with_body(mut request: Request<Full<Bytes>>, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    *request.body_mut() = Full::new(body.into());
    request
}

pub(crate) fn basic(user: &str, password: &str) -> HeaderValue {
    use base64::Engine;
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    HeaderValue::try_from(format!("Basic {encoded}")).unwrap()
}

/// Trusts this certificate alone.
pub(crate) fn tls(certificate: &[u8], alpn: &[&[u8]]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(certificate).map(Result::unwrap));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}
