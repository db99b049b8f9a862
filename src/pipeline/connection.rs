//! A connection to a client: its peer, its requests, which [`corridor`](super::corridor) answers, and the record of its
//! end.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::corridor::handle;
use super::record::open_request::OpenRequest;
use super::request::origin_part::BelievedParts;
use super::request::peer::{ListenerMode, Peer};
use super::worker::Worker;
use crate::audit::reason::Reason;
use crate::clock;
use crate::server::accept::Accepted;
use crate::server::connection::{ListenerTransport, Session, serve_connection};
use crate::server::connection_end::ConnectionEnd;
use crate::server::exchange_guard::ExchangeGuard;
use crate::server::mutual_tls::TlsClient;
use crate::server::proxy_header::ProxyHeader;
use crate::server::received_request::Received;
use crate::server::watch::TimeoutKind;

/// The settings of a listener that its connections share. A connection keeps those that it began with, except for what
/// proves who its clients are: the statements that count, and the authorities of certificates.
#[derive(Clone, Debug)]
pub(crate) struct ListenerRuntime {
    pub(crate) transport: ListenerTransport,
    pub(crate) listener_mode: ListenerMode,
    /// The statements of `trusted_proxies` that count.
    pub(crate) believed: BelievedParts,
}

/// A worker's own handle to the present settings of a listener: cloning it touches no other core.
pub(crate) type CurrentListener = Rc<Arc<ArcSwap<ListenerRuntime>>>;

/// Serves one connection to its end.
pub(crate) fn serve(
    worker: &Rc<Worker>,
    current: &CurrentListener,
    accepted: Accepted,
) -> impl Future<Output = ()> + use<> {
    let current = Rc::clone(current);
    let ListenerRuntime { transport, listener_mode, believed } = ListenerRuntime::clone(&current.load());
    let listener = transport.listener;
    let connections = Rc::clone(&worker.connections);
    let worker = Rc::clone(worker);
    let snapshot = worker.current.get();
    let is_trusted = {
        let snapshot = snapshot.clone();
        move |address: IpAddr| snapshot.trusted_proxies.contains(address)
    };
    let begin_session = move |socket: IpAddr, header: Option<ProxyHeader>, tls_client: Option<TlsClient>| {
        let trusted = &snapshot.trusted_proxies;
        let peer = match header {
            Some(header) => Peer::from_proxy_header(socket, header, listener_mode, trusted),
            None => Peer::new(socket, listener_mode, trusted),
        };
        let mut peer = peer.with_tls_client(tls_client);
        (peer.listener, peer.believed) = (listener, believed);
        let peer = peer.counted_in(&worker.in_flight, trusted);
        let record_end = {
            let (worker, peer) = (Rc::clone(&worker), Rc::clone(&peer));
            move |end| record_end(&worker, end, &peer)
        };
        let answer = move |exchange: ExchangeGuard, received: Received| {
            let peer = under_present_settings(&current, peer);
            handle(worker, peer, exchange, received)
        };
        Session { answer, record_end }
    };
    serve_connection(connections, transport, accepted, is_trusted, begin_session)
}

/// A reload counts for the requests of open connections too.
fn under_present_settings(current: &CurrentListener, peer: Rc<Peer>) -> Rc<Peer> {
    if !peer.follows_listener() {
        return peer;
    }
    let settings = current.load();
    let tls = settings.transport.tls.as_ref();
    let accepts = |client: &TlsClient| tls.is_some_and(|tls| tls.accepts(client, clock::now()));
    peer.under(settings.believed, accepts).map_or(peer, Rc::new)
}

/// Input over HTTP/2 that was refused before it was a request has its audit line too, and so has a head that never
/// ended.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn size<F: Future>(_: impl Fn(&Rc<Worker>, &CurrentListener, Accepted) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_idle_connection_keeps_little_more_than_its_stream() {
        let size = size(serve);
        assert!(size <= 96, "{size} bytes");
    }
}
