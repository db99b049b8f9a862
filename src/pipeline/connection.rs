//! A connection from its handshake to its end: its requests are answered by [`corridor`](super::corridor).

use std::convert::Infallible;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tracing::debug;

use super::answer::body::AnswerBody;
use super::corridor::handle;
use super::record::open_request::OpenRequest;
use super::request::peer::{ListenerMode, Peer};
use super::worker::Worker;
use crate::audit::reason::Reason;
use crate::server::accept::Accepted;
use crate::server::connection::{ConnectionEnd, Driven};
use crate::server::connection_limiter::ConnectionPermit;
use crate::server::exchange_guard::ExchangeGuard;
use crate::server::handshakes::HandshakeProgress;
use crate::server::proxy_header;
use crate::server::socket::Socket;
use crate::server::tls::HttpVersion;
use crate::server::watch::{TimeoutKind, Watch};

/// What a listener's connections have in common.
#[derive(Clone, Debug)]
pub(crate) struct ListenerRuntime {
    pub(crate) tls: Option<Arc<ServerConfig>>,
    pub(crate) listener_mode: ListenerMode,
    /// Every connection begins with a PROXY header, from a trusted proxy.
    pub(crate) proxy_protocol: bool,
}

/// Serves one connection to its end.
pub(crate) async fn serve(worker: Rc<Worker>, listener: Rc<ListenerRuntime>, accepted: Accepted) {
    let Accepted { stream, peer: socket, mut permit, handshake } = accepted;
    let progress = handshake.progress();
    let arrival = establish(&worker, &listener, (stream, &progress), socket.ip(), &mut permit);
    // Boxed, so that an idle connection does not keep the memory of its handshake.
    let Some((driven, peer)) = Box::pin(handshake.complete(arrival)).await else {
        return;
    };
    record_end(&worker, driven.await, &peer);
}

/// The handshake: finds the peer and the protocol. `None` where the connection is closed.
async fn establish(
    worker: &Rc<Worker>,
    listener: &ListenerRuntime,
    (mut stream, progress): (TcpStream, &HandshakeProgress),
    socket: IpAddr,
    permit: &mut ConnectionPermit,
) -> Option<(Driven, Rc<Peer>)> {
    let snapshot = worker.current.get();
    let trusted = &snapshot.trusted_proxies;
    let peer = if listener.proxy_protocol {
        if !trusted.contains(socket) {
            debug!(network.peer.address = %socket, "only trusted proxies may connect here: closed");
            return None;
        }
        progress.first_byte(&stream).await?;
        let header = proxy_header::read(&mut stream).await.ok()?;
        let peer = Peer::from_proxy_header(socket, header, listener.listener_mode.clone(), trusted);
        if !permit.recount_as(peer.address) {
            debug!(client.address = %peer.address, "too many connections: refused one");
            return None;
        }
        peer
    } else {
        Peer::new(socket, listener.listener_mode.clone(), trusted)
    };
    let peer = peer.counted_in(&worker.in_flight, trusted);
    let driven = match &listener.tls {
        None => drive(worker, Socket(stream), HttpVersion::Http1, &peer),
        Some(config) => {
            progress.first_byte(&stream).await?;
            let stream = TlsAcceptor::from(Arc::clone(config)).accept(Socket(stream)).await.ok()?;
            let protocol = HttpVersion::agreed(stream.get_ref().1.alpn_protocol());
            drive(worker, stream, protocol, &peer)
        }
    };
    Some((driven, peer))
}

fn drive<T>(worker: &Rc<Worker>, stream: T, protocol: HttpVersion, peer: &Rc<Peer>) -> Driven
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let watch = worker.guard.watch(protocol == HttpVersion::Http2);
    let service = {
        let (worker, peer, watch) = (Rc::clone(worker), Rc::clone(peer), Rc::clone(&watch));
        service_fn(move |request| answer(Rc::clone(&worker), Rc::clone(&peer), &watch, request))
    };
    worker.protocols.serve(stream, protocol, watch, service)
}

fn answer(
    worker: Rc<Worker>,
    peer: Rc<Peer>,
    watch: &Rc<Watch>,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<AnswerBody>, Infallible>> + use<> {
    let (exchange, watch) = (ExchangeGuard::begin_with(watch, &request), Rc::clone(watch));
    async move {
        let mut answer = handle(worker, peer, exchange, request).await;
        watch.announce_close(&mut answer);
        Ok(answer)
    }
}

/// What hyper refused before it was a request has its audit line too.
fn record_end(worker: &Worker, ended: ConnectionEnd, peer: &Rc<Peer>) {
    let reason = match ended {
        ConnectionEnd::Malformed => Reason::BadRequest,
        ConnectionEnd::TooLarge => Reason::TooLarge,
        ConnectionEnd::Flooded => Reason::RateLimited,
        ConnectionEnd::Overdue(TimeoutKind::Head) => Reason::Timeout,
        ConnectionEnd::Closed
        | ConnectionEnd::Overdue(TimeoutKind::FirstRequest | TimeoutKind::Idle | TimeoutKind::Write) => return,
    };
    let mut request = OpenRequest::begin(&worker.recorder, worker.current.get(), peer);
    request.refused(reason, None);
    request.close();
}
