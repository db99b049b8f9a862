//! From an accepted socket to requests: the PROXY header, TLS, then HTTP.
//!
//! The caller decides which proxies are trusted, answers the requests, and records the end.

use std::error::Error;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http_body::Body;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tracing::debug;

use super::accept::Accepted;
use super::client_stream::ClientStream;
use super::connection_end::ConnectionEnd;
use super::connection_limiter::ConnectionPermit;
use super::exchange_guard::ExchangeGuard;
use super::handshakes::HandshakeProgress;
use super::listener::ListenerId;
use super::mutual_tls::TlsClient;
use super::protocols::Driven;
use super::proxy_header::{self, ProxyHeader};
use super::received_request::Received;
use super::socket::Socket;
use super::tls::{HttpVersion, ListenerTls};
use super::worker_connections::WorkerConnections;
use crate::clock;

/// The protocols below HTTP that the connections of a listener use.
#[derive(Clone, Debug)]
pub(crate) struct ListenerTransport {
    pub(crate) listener: ListenerId,
    pub(crate) tls: Option<Arc<ListenerTls>>,
    /// Every connection begins with a PROXY header, from a trusted proxy.
    pub(crate) proxy_protocol: bool,
}

/// The caller's part of a connection whose peer is known.
#[derive(Debug)]
pub(crate) struct Session<A, E> {
    /// Answers a request. Cloned for each.
    pub(crate) answer: A,
    /// Records the end of a connection whose handshake has ended.
    pub(crate) record_end: E,
}

/// The part of a connection that only its handshake needs.
struct Arrival {
    stream: TcpStream,
    socket: IpAddr,
    permit: ConnectionPermit,
    progress: Rc<HandshakeProgress>,
}

/// A connection whose handshake has ended.
struct Established<E> {
    driven: Driven,
    record_end: E,
    permit: ConnectionPermit,
}

/// Serves one connection to its end.
///
/// `is_trusted` is called for the sender of a PROXY header. `begin_session` gets the address of the socket, the PROXY
/// header if the listener requires one, and the client of the handshake if the listener asks for its certificate.
pub(crate) fn serve_connection<A, E, Fut, B>(
    connections: Rc<WorkerConnections>,
    transport: ListenerTransport,
    accepted: Accepted,
    is_trusted: impl FnOnce(IpAddr) -> bool,
    begin_session: impl FnOnce(IpAddr, Option<ProxyHeader>, Option<TlsClient>) -> Session<A, E>,
) -> impl Future<Output = ()>
where
    A: FnOnce(ExchangeGuard, Received) -> Fut + Clone + 'static,
    E: FnOnce(ConnectionEnd),
    Fut: Future<Output = Response<B>> + 'static,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let Accepted { stream, peer, permit, handshake } = accepted;
    let arrival = Arrival { stream, socket: peer.ip(), permit, progress: handshake.progress() };
    // Boxed, so that an idle connection does not keep the memory of its handshake.
    let established =
        Box::pin(handshake.complete(establish(connections, transport, arrival, is_trusted, begin_session)));
    async move {
        // The connection is counted until its end has been recorded.
        let Some(Established { driven, record_end, permit: _permit }) = established.await else {
            return;
        };
        record_end(driven.await);
    }
}

/// The handshake: finds the client and the protocol. `None` where the connection is closed.
async fn establish<A, E, Fut, B>(
    connections: Rc<WorkerConnections>,
    transport: ListenerTransport,
    mut arrival: Arrival,
    is_trusted: impl FnOnce(IpAddr) -> bool,
    begin_session: impl FnOnce(IpAddr, Option<ProxyHeader>, Option<TlsClient>) -> Session<A, E>,
) -> Option<Established<E>>
where
    A: FnOnce(ExchangeGuard, Received) -> Fut + Clone + 'static,
    Fut: Future<Output = Response<B>> + 'static,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let header = if transport.proxy_protocol { Some(arrival.read_proxy_header(is_trusted).await?) } else { None };
    let Arrival { stream, socket, permit, progress } = arrival;
    let (stream, protocol, tls_client) = match transport.tls {
        None => (ClientStream::Plain(Socket(stream)), HttpVersion::Http1, None),
        Some(tls) => {
            progress.first_byte(&stream).await?;
            // Boxed to keep the futures small that it is moved through.
            let config = tls.current();
            let accepted = TlsAcceptor::from(Arc::clone(&config.server)).accept(Socket(stream)).await;
            let logged = accepted.inspect_err(|error| {
                debug!(network.peer.address = %socket, %error, "a TLS handshake failed: closed");
            });
            let stream = Box::new(logged.ok()?);
            let session = stream.get_ref().1;
            let authorities = config.authorities.as_ref();
            let client = authorities.map(|authorities| TlsClient::of(session, authorities, clock::now())).transpose();
            let client = client.inspect_err(|fault| {
                debug!(network.peer.address = %socket, error = %fault, "a TLS session was not resumed: closed");
            });
            let protocol = HttpVersion::agreed(session.alpn_protocol());
            (ClientStream::Tls(stream), protocol, client.ok()?)
        }
    };
    let Session { answer, record_end } = begin_session(socket, header, tls_client);
    let watch = connections.guard.watch(protocol == HttpVersion::Http2, transport.listener);
    let driven = connections.protocols().serve(stream, protocol, watch, answer);
    Some(Established { driven, record_end, permit })
}

impl Arrival {
    /// Reads the PROXY header, and counts the connection for the client that it names.
    async fn read_proxy_header(&mut self, is_trusted: impl FnOnce(IpAddr) -> bool) -> Option<ProxyHeader> {
        let socket = self.socket;
        if !is_trusted(socket) {
            debug!(network.peer.address = %socket, "only trusted proxies may connect here: closed");
            return None;
        }
        self.progress.first_byte(&self.stream).await?;
        let header = proxy_header::read(&mut self.stream).await.ok()?;
        let address = match header {
            ProxyHeader::Client(address) => address,
            ProxyHeader::Itself | ProxyHeader::Unknown => socket,
        };
        self.permit.recount_as(address).then_some(header)
    }
}

#[cfg(test)]
mod tests;
