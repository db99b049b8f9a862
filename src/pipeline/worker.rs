//! One worker: a thread, a runtime, and everything that its requests share and no other thread sees.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tracing::debug;

use super::answer::AnswerBody;
use super::corridor::walk;
use super::in_flight::InFlightByAddress;
use super::load::LoadMonitor;
use super::mirror::Mirrors;
use super::peer::{AddressTrust, ListenerMode, Peer};
use super::request_id::{RequestId, RequestIds};
use super::request_log::RequestLog;
use super::snapshot::Snapshot;
use super::tunnels::Tunnels;
use super::worker_metrics::WorkerMetrics;
use crate::audit::ledger::Ledger;
use crate::audit::reason::Reason;
use crate::network::Networks;
use crate::server::accept::Accepted;
use crate::server::connection::{ConnectionEnd, Driven, Protocols};
use crate::server::connection_limiter::{ConnectionLimiter, ConnectionPermit};
use crate::server::drain::Drain;
use crate::server::guard::{Guard, TimeoutKind, Watch};
use crate::server::handshakes::{HandshakeProgress, Handshakes};
use crate::server::limits::WorkerLimits;
use crate::server::proxy_header;
use crate::server::socket::Socket;
use crate::server::tls::HttpVersion;
use crate::telemetry::metrics::WorkerReport;
use crate::trust::token_cache::{CachedToken, TokenCache};
use crate::trust::verify::Verified;
use crate::upstream::pin_limit::PinLimit;
use crate::upstream::pools::Pools;

/// A worker's own handle to the current snapshot: cloning it touches no other core.
pub(crate) type SharedSnapshot = Rc<Arc<Snapshot>>;

/// Asks a worker for its counts.
pub(crate) type ReportRequest = oneshot::Sender<WorkerReport>;

#[derive(Debug)]
pub(crate) struct Worker {
    published: Arc<ArcSwap<Snapshot>>,
    current: RefCell<SharedSnapshot>,
    tokens: RefCell<TokenCache>,
    /// Counts snapshots: what a connection remembers is of one.
    generation: Cell<u64>,
    token_hits: Cell<u64>,
    token_misses: Cell<u64>,
    pools: Rc<Pools>,
    mirrors: Rc<Mirrors>,
    ledger: Rc<Ledger>,
    guard: Rc<Guard>,
    handshakes: Rc<Handshakes>,
    protocols: Protocols,
    metrics: RefCell<WorkerMetrics>,
    ids: RequestIds,
    crowd: Rc<InFlightByAddress>,
    /// Requests under way from one address.
    max_per_address: usize,
    pressure: LoadMonitor,
    tunnels: Rc<Tunnels>,
}

/// How often a full worker makes room for newcomers, and for how many.
const MAKE_ROOM_EVERY: Duration = Duration::from_millis(100);
const MAKE_ROOM_FOR: usize = 16;

/// How a listener's connections come in.
#[derive(Clone, Debug)]
pub(crate) struct ListenerRuntime {
    pub(crate) tls: Option<Arc<ServerConfig>>,
    pub(crate) entrance: ListenerMode,
    /// Every connection begins with a PROXY header, from a trusted proxy.
    pub(crate) proxy_protocol: bool,
}

impl Worker {
    pub(crate) fn new(
        published: Arc<ArcSwap<Snapshot>>,
        ledger: Rc<Ledger>,
        share: WorkerLimits,
        pressure: LoadMonitor,
        pin_limit: Arc<PinLimit>,
    ) -> Self {
        let current = published.load_full();
        let limits = &current.limits;
        Self {
            guard: Guard::new(limits),
            handshakes: Handshakes::new(share.handshakes, limits.handshake_timeout),
            protocols: Protocols::new(
                limits,
                current.routes.routes().iter().any(|route| route.upgrades.has_websocket()),
            ),
            current: RefCell::new(Rc::new(Arc::clone(&current))),
            published,
            tokens: RefCell::new(TokenCache::new()),
            generation: Cell::new(0),
            token_hits: Cell::new(0),
            token_misses: Cell::new(0),
            pools: Rc::new(Pools::new(pin_limit)),
            mirrors: Rc::default(),
            ledger,
            metrics: RefCell::default(),
            ids: RequestIds::new(),
            crowd: Rc::default(),
            max_per_address: share.in_flight_per_address,
            pressure,
            tunnels: Tunnels::new(share.tunnels, share.tunnels_per_address),
        }
    }

    /// Serves one connection to its end.
    pub(crate) async fn serve(self: Rc<Self>, gate: Rc<ListenerRuntime>, accepted: Accepted) {
        let Accepted { stream, peer: socket, mut place, handshake } = accepted;
        let progress = handshake.progress();
        let arrival = self.arrive(&gate, (stream, &progress), socket.ip(), &mut place);
        // Boxed, so that an idle connection does not keep the room that its handshake took.
        let Some((driven, peer)) = Box::pin(handshake.complete(arrival)).await else {
            return;
        };
        self.record_end(driven.await, &peer);
    }

    /// The handshake: who is there, and in which protocol.
    async fn arrive(
        self: &Rc<Self>,
        gate: &ListenerRuntime,
        (mut stream, progress): (TcpStream, &HandshakeProgress),
        socket: IpAddr,
        place: &mut ConnectionPermit,
    ) -> Option<(Driven, Rc<Peer>)> {
        let snapshot = self.snapshot();
        let trusted = &snapshot.trusted_proxies;
        let peer = if gate.proxy_protocol {
            if !trusted.contains(socket) {
                debug!(network.peer.address = %socket, "only trusted proxies may connect here: closed");
                return None;
            }
            progress.first_byte(&stream).await?;
            let introduction = proxy_header::read(&mut stream).await.ok()?;
            let peer = Peer::from_proxy_header(socket, introduction, gate.entrance.clone(), trusted);
            if !place.pass_to(peer.address) {
                debug!(client.address = %peer.address, "too many connections: refused one");
                return None;
            }
            peer
        } else {
            Peer::new(socket, gate.entrance.clone(), trusted)
        };
        let peer = self.counted(peer, trusted);
        let driven = match &gate.tls {
            None => self.converse(Socket(stream), HttpVersion::Http1, &peer),
            Some(config) => {
                progress.first_byte(&stream).await?;
                let stream = TlsAcceptor::from(Arc::clone(config)).accept(Socket(stream)).await.ok()?;
                let protocol = HttpVersion::agreed(stream.get_ref().1.alpn_protocol());
                self.converse(stream, protocol, &peer)
            }
        };
        Some((driven, peer))
    }

    fn converse<T>(self: &Rc<Self>, stream: T, protocol: HttpVersion, peer: &Rc<Peer>) -> Driven
    where
        T: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let watch = self.guard.watch(protocol == HttpVersion::Http2);
        let service = {
            let (worker, peer, watch) = (Rc::clone(self), Rc::clone(peer), Rc::clone(&watch));
            service_fn(move |request| Rc::clone(&worker).answer(Rc::clone(&peer), &watch, request))
        };
        self.protocols.serve(stream, protocol, watch, service)
    }

    fn answer(
        self: Rc<Self>,
        peer: Rc<Peer>,
        watch: &Rc<Watch>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<AnswerBody>, Infallible>> + use<> {
        let exchange = watch.begin_with(&request);
        async move { Ok(walk(self, peer, exchange, request).await) }
    }

    /// What hyper refused before it was a request has its line too.
    fn record_end(self: &Rc<Self>, ended: ConnectionEnd, peer: &Rc<Peer>) {
        let reason = match ended {
            ConnectionEnd::Malformed => Reason::BadRequest,
            ConnectionEnd::TooLarge => Reason::TooLarge,
            ConnectionEnd::Flooded => Reason::RateLimited,
            ConnectionEnd::Overdue(TimeoutKind::Head) => Reason::Timeout,
            ConnectionEnd::Plainly
            | ConnectionEnd::Overdue(TimeoutKind::FirstRequest | TimeoutKind::Idle | TimeoutKind::Write) => return,
        };
        let mut log = RequestLog::begin(self, self.snapshot(), peer);
        log.ended_by(reason);
        log.close();
    }

    /// Keeps the deadlines of connections.
    pub(crate) async fn run_timeouts(self: Rc<Self>) {
        Rc::clone(&self.guard).run_timeouts().await;
    }

    /// Takes on less while the event loop lags.
    pub(crate) async fn monitor_load(self: Rc<Self>) {
        self.pressure.run_timeouts().await;
    }

    pub(crate) fn handshakes(&self) -> &Rc<Handshakes> {
        &self.handshakes
    }

    /// Hands the stages of the drain on to connections.
    pub(crate) async fn propagate_drain(self: Rc<Self>, drain: Drain) {
        let handshakes = Rc::clone(&self.handshakes).follow(drain.clone());
        tokio::join!(Rc::clone(&self.guard).propagate_drain(drain), handshakes);
    }

    /// While newcomers wait because the limit on all connections is reached, ends stalled handshakes and the connections that have been
    /// idle for longest: otherwise idle connections would lock all others out until they are closed for their age.
    pub(crate) async fn make_room(self: Rc<Self>, places: Arc<ConnectionLimiter>) {
        loop {
            sleep(MAKE_ROOM_EVERY).await;
            if places.are_waited_for() {
                self.handshakes.end_stalled(MAKE_ROOM_FOR);
                self.guard.end_idle(MAKE_ROOM_FOR);
            }
        }
    }

    /// Ends upstream connections that idle.
    pub(crate) async fn sweep_pools(self: Rc<Self>) {
        Rc::clone(&self.pools).sweep().await;
    }

    /// Hands audit lines to the writer.
    pub(crate) async fn hand_over_lines(self: Rc<Self>) {
        Rc::clone(&self.ledger).hand_over().await;
    }

    /// Tells what was refused too often to be told each.
    pub(crate) async fn flush_aggregates(self: Rc<Self>) {
        Rc::clone(&self.ledger).flush_aggregates().await;
    }

    /// Answers who asks for counts, as long as anyone can.
    pub(crate) async fn report(self: Rc<Self>, mut requests: mpsc::Receiver<ReportRequest>) {
        while let Some(request) = requests.recv().await {
            // Who has stopped waiting needs no answer.
            let _ = request.send(self.counts());
        }
    }

    /// The current snapshot, of which a request keeps the one it began with.
    pub(crate) fn snapshot(&self) -> SharedSnapshot {
        let published = self.published.load();
        let mut current = self.current.borrow_mut();
        if !Arc::ptr_eq(&published, &current) {
            *current = Rc::new(Arc::clone(&published));
            self.generation.set(self.generation.get() + 1);
            // A token dies with its issuer's configuration. Here, and not at every hit.
            self.tokens.borrow_mut().keep(|verified| published.trust.holds(&verified.issuer));
        }
        Rc::clone(&current)
    }

    pub(crate) fn pressure(&self) -> &LoadMonitor {
        &self.pressure
    }

    /// Whether there is too much under way to take on one more request, in all or from this peer.
    pub(crate) fn is_overloaded(&self, peer: &Peer) -> bool {
        let here = peer.share.as_ref().map_or(0, |share| share.under_way());
        self.pressure.is_too_much() || here > self.max_per_address
    }

    /// Counts the peer's requests with others of its address. Trusted proxies that speak for themselves are not counted: who
    /// keeps them from saying for whom they speak can't be told from who doesn't.
    pub(crate) fn counted(&self, mut peer: Peer, trusted: &Networks) -> Rc<Peer> {
        let exempt = peer.knowledge == AddressTrust::Certain && trusted.contains(peer.address);
        peer.share = (!exempt).then(|| self.crowd.share(peer.address));
        Rc::new(peer)
    }

    /// Who this token was found good for. Most connections bring the same one again and again, which costs no look into the cache.
    pub(crate) fn remembered(&self, token: &[u8], peer: &Peer) -> Option<Rc<Verified>> {
        let generation = self.generation.get();
        let mut last = peer.last_caller.borrow_mut();
        let found = match &*last {
            Some((of, known)) if *of == generation && *known.token == *token => Some(Rc::clone(&known.verified)),
            Some(_) | None => {
                let known = self.tokens.borrow().get(token).cloned();
                known.map(|known| Rc::clone(&last.insert((generation, known)).1.verified))
            }
        };
        let counter = if found.is_some() { &self.token_hits } else { &self.token_misses };
        counter.set(counter.get() + 1);
        found
    }

    pub(crate) fn remember(&self, token: &[u8], verified: Rc<Verified>) {
        // A request that began before the last change may bring one that is no good any more.
        if self.snapshot().trust.holds(&verified.issuer) {
            self.tokens.borrow_mut().insert(CachedToken { token: token.into(), verified });
        }
    }

    pub(crate) fn forget(&self, token: &[u8], peer: &Peer) {
        self.tokens.borrow_mut().remove(token);
        peer.last_caller.take();
    }

    pub(crate) fn pools(&self) -> &Pools {
        &self.pools
    }

    /// For what outlives the request that it comes from.
    pub(crate) fn shared_pools(&self) -> &Rc<Pools> {
        &self.pools
    }

    pub(crate) fn mirrors(&self) -> &Rc<Mirrors> {
        &self.mirrors
    }

    pub(crate) fn tunnels(&self) -> &Rc<Tunnels> {
        &self.tunnels
    }

    pub(crate) fn ledger(&self) -> &Rc<Ledger> {
        &self.ledger
    }

    pub(crate) fn next_request_id(&self) -> RequestId {
        self.ids.next()
    }

    pub(crate) fn metrics(&self, count: impl FnOnce(&mut WorkerMetrics)) {
        count(&mut self.metrics.borrow_mut());
    }

    pub(crate) fn begin(&self, peer: &Peer) {
        self.pressure.begin();
        peer.share.iter().for_each(|share| share.begin());
    }

    pub(crate) fn end(&self, peer: &Peer) {
        self.pressure.end();
        peer.share.iter().for_each(|share| share.end());
    }

    fn counts(&self) -> WorkerReport {
        let mut report = WorkerReport {
            cached_tokens: self.tokens.borrow().len() as u64,
            cached_bytes: self.tokens.borrow().bytes(),
            token_cache_hits: self.token_hits.get(),
            token_cache_misses: self.token_misses.get(),
            idle_upstream_connections: self.pools.idle() as u64,
            in_flight: self.pressure.in_flight() as u64,
            mirrored: self.mirrors.counts(),
            tunnels: self.tunnels.open() as u64,
            ..self.metrics.borrow().report(&self.snapshot())
        };
        self.pools.report(&mut report);
        report
    }
}
