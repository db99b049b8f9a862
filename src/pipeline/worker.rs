//! One worker: a thread, a runtime, and everything that its requests share and no other thread sees.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};

use super::answer::AnswerBody;
use super::corridor::walk;
use super::peer::{Entrance, Peer};
use super::request_id::{RequestId, RequestIds};
use super::snapshot::Snapshot;
use super::tally::Tally;
use super::trail::Trail;
use crate::audit::ledger::Ledger;
use crate::audit::reason::Reason;
use crate::server::accept::Accepted;
use crate::server::connection::{Driven, Ended, Protocols, handshake};
use crate::server::drain::Drain;
use crate::server::guard::{Guard, Overdue, Watch};
use crate::server::tls::Protocol;
use crate::telemetry::metrics::Report;
use crate::trust::token_cache::TokenCache;
use crate::trust::verify::Verified;
use crate::upstream::pool::Pools;

/// A worker's own handle to the current snapshot: cloning it touches no other core.
pub(crate) type SharedSnapshot = Rc<Arc<Snapshot>>;

/// Asks a worker for its counts.
pub(crate) type ReportRequest = oneshot::Sender<Report>;

#[derive(Debug)]
pub(crate) struct Worker {
    published: Arc<ArcSwap<Snapshot>>,
    current: RefCell<SharedSnapshot>,
    tokens: RefCell<TokenCache>,
    token_hits: Cell<u64>,
    token_misses: Cell<u64>,
    pools: Rc<Pools>,
    ledger: Rc<Ledger>,
    guard: Rc<Guard>,
    protocols: Protocols,
    tally: RefCell<Tally>,
    ids: RequestIds,
    in_flight: Cell<usize>,
    max_in_flight: usize,
}

/// How a listener's connections come in.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    pub(crate) tls: Option<Arc<ServerConfig>>,
    pub(crate) entrance: Entrance,
}

impl Worker {
    pub(crate) fn new(published: Arc<ArcSwap<Snapshot>>, ledger: Rc<Ledger>, max_in_flight: usize) -> Self {
        let current = published.load_full();
        let limits = &current.limits;
        Self {
            guard: Guard::new(limits),
            protocols: Protocols::new(limits),
            current: RefCell::new(Rc::new(Arc::clone(&current))),
            published,
            tokens: RefCell::new(TokenCache::new()),
            token_hits: Cell::new(0),
            token_misses: Cell::new(0),
            pools: Rc::default(),
            ledger,
            tally: RefCell::default(),
            ids: RequestIds::new(),
            in_flight: Cell::new(0),
            max_in_flight,
        }
    }

    /// Serves one connection to its end.
    pub(crate) async fn serve(self: Rc<Self>, gate: Rc<Gate>, accepted: Accepted) {
        let Accepted { stream, peer, place: _place } = accepted;
        let peer = Rc::new(Peer::new(peer.ip(), gate.entrance.clone()));
        let driven = match &gate.tls {
            None => self.converse(stream, Protocol::Http1, &peer),
            Some(config) => {
                let deadline = self.snapshot().limits.handshake_timeout;
                // Boxed, so that an idle connection does not keep the room that its handshake took.
                let Some(stream) = Box::pin(handshake(stream, Arc::clone(config), deadline)).await else {
                    return;
                };
                let protocol = Protocol::agreed(stream.get_ref().1.alpn_protocol());
                self.converse(stream, protocol, &peer)
            }
        };
        self.record_end(driven.await, &peer);
    }

    fn converse<T>(self: &Rc<Self>, stream: T, protocol: Protocol, peer: &Rc<Peer>) -> Driven
    where
        T: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let watch = self.guard.watch(protocol == Protocol::Http2);
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
        let exchange = watch.begin();
        async move { Ok(walk(self, peer, exchange, request).await) }
    }

    /// What hyper refused before it was a request has its line too.
    fn record_end(self: &Rc<Self>, ended: Ended, peer: &Rc<Peer>) {
        let reason = match ended {
            Ended::Malformed => Reason::BadRequest,
            Ended::TooLarge => Reason::TooLarge,
            Ended::Overdue(Overdue::Head) => Reason::Timeout,
            Ended::Plainly | Ended::Overdue(Overdue::FirstRequest | Overdue::Idle | Overdue::Write) => return,
        };
        let mut trail = Trail::begin(self, self.snapshot(), peer);
        trail.ended_by(reason);
        trail.close();
    }

    /// Keeps the deadlines of connections.
    pub(crate) async fn keep_watch(self: Rc<Self>) {
        Rc::clone(&self.guard).keep_watch().await;
    }

    /// Hands the stages of the drain on to connections.
    pub(crate) async fn pass_on(self: Rc<Self>, drain: Drain) {
        Rc::clone(&self.guard).pass_on(drain).await;
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
    pub(crate) async fn tell_folded(self: Rc<Self>) {
        Rc::clone(&self.ledger).tell_folded().await;
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
        }
        Rc::clone(&current)
    }

    pub(crate) fn is_overloaded(&self) -> bool {
        self.in_flight.get() > self.max_in_flight
    }

    pub(crate) fn remembered(&self, token: &[u8]) -> Option<Rc<Verified>> {
        let remembered = self.tokens.borrow().get(token).cloned();
        let counter = if remembered.is_some() { &self.token_hits } else { &self.token_misses };
        counter.set(counter.get() + 1);
        remembered
    }

    pub(crate) fn remember(&self, token: &[u8], verified: Rc<Verified>) {
        self.tokens.borrow_mut().insert(token, verified);
    }

    pub(crate) fn forget(&self, token: &[u8]) {
        self.tokens.borrow_mut().remove(token);
    }

    pub(crate) fn pools(&self) -> &Pools {
        &self.pools
    }

    pub(crate) fn ledger(&self) -> &Rc<Ledger> {
        &self.ledger
    }

    pub(crate) fn next_request_id(&self) -> RequestId {
        self.ids.next()
    }

    pub(crate) fn tally(&self, count: impl FnOnce(&mut Tally)) {
        count(&mut self.tally.borrow_mut());
    }

    pub(crate) fn begin(&self) {
        self.in_flight.set(self.in_flight.get() + 1);
    }

    pub(crate) fn end(&self) {
        self.in_flight.set(self.in_flight.get() - 1);
    }

    fn counts(&self) -> Report {
        Report {
            cached_tokens: self.tokens.borrow().len() as u64,
            token_cache_hits: self.token_hits.get(),
            token_cache_misses: self.token_misses.get(),
            idle_upstream_connections: self.pools.idle() as u64,
            in_flight: self.in_flight.get() as u64,
            ..self.tally.borrow().report(&self.snapshot())
        }
    }
}
