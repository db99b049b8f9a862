//! The answers and tunnels of one worker that may last for hours, and the judgement of each under a new configuration.
//!
//! A configuration that is taken into use judges every open stream once, by the functions that decide a request: the
//! route is found again, then its address rule, the caller and the rule of access count. A stream that would not be let
//! in ends. Limits are not counted again, and time alone ends nothing here: a token that has expired since, or whose
//! key was replaced, was valid when the stream began. A public route tells no caller, so its stream ends if the route
//! asks for one.

use std::cell::{Cell, RefCell};
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};

use foldhash::{HashMap, HashMapExt as _};
use http::{HeaderMap, Method};
use tokio::task::yield_now;

use super::authenticate::own_client::check_held_client;
use super::authorize::{Admitted, admit, authorize};
use super::current_snapshot::CurrentSnapshot;
use super::possession::ProvenCaller;
use crate::clock;
use crate::oauth::observer::Unobserved;
use crate::pipeline::request::canonical::CanonicalRequest;
use crate::pipeline::request::peer::Peer;
use crate::pipeline::routing::access::{Access, AccessRule, Forbidden};
use crate::pipeline::routing::snapshot::{OpenStreamsRule, Snapshot};
use crate::pipeline::routing::table::RouteMatch;
use crate::trust::verify::Verified;

/// The open streams of a worker. Their number is bounded by the limits on tunnels and requests in flight.
#[derive(Debug)]
pub(crate) struct OpenStreams {
    open: RefCell<HashMap<u64, Rc<StreamState>>>,
    next: Cell<u64>,
}

/// One open stream. Dropping it removes it from its worker's list.
#[derive(Debug)]
pub(crate) struct OpenStream {
    all: Rc<OpenStreams>,
    number: u64,
    state: Rc<StreamState>,
}

/// A request whose answer may last for hours.
#[derive(Debug)]
pub(crate) struct BegunStream {
    pub(crate) request: CanonicalRequest,
    /// The header fields that chose its route, where routes have conditions.
    pub(crate) fields: Option<Box<HeaderMap>>,
    /// The protocol of a tunnel.
    pub(crate) protocol: Option<Box<str>>,
    pub(crate) is_grpc: bool,
}

/// The request of a stream, as far as it is needed to decide again.
#[derive(Debug)]
pub(crate) struct StreamRequest {
    pub(crate) request: CanonicalRequest,
    /// The header fields that chose its route, where routes have conditions on some. Others are not known any more, so
    /// that a new condition on one of those does not hold.
    pub(crate) fields: Option<Box<HeaderMap>>,
    /// The protocol of a tunnel.
    pub(crate) protocol: Option<Box<str>>,
    pub(crate) is_grpc: bool,
    pub(crate) peer: Rc<Peer>,
    /// `None` on a route that was public.
    pub(crate) caller: Option<Rc<Verified>>,
}

/// Why a new configuration does not let a stream in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamEnd {
    /// The caller counts no more, or there is none.
    Unauthenticated,
    /// No route takes the request, or its rules refuse the caller or the address.
    NotAllowed,
    /// The client may not call from the address.
    WrongAddress,
}

#[derive(Debug)]
struct StreamState {
    begun: StreamRequest,
    end: Cell<Option<StreamEnd>>,
    waker: RefCell<Option<Waker>>,
}

/// Streams that are judged before other tasks of the worker have a turn.
const AT_ONCE: usize = 128;

impl OpenStreams {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self { open: RefCell::new(HashMap::new()), next: Cell::new(0) })
    }

    /// Adds a stream that was let in under `snapshot`. If there is another one by now, it judges the stream at once.
    pub(crate) fn add(
        self: &Rc<Self>,
        begun: StreamRequest,
        snapshot: &Snapshot,
        current: &CurrentSnapshot,
    ) -> OpenStream {
        let state = Rc::new(StreamState { begun, end: Cell::new(None), waker: RefCell::default() });
        let newest = current.get();
        if !ptr::eq(Arc::as_ptr(&newest), snapshot) {
            state.recheck(&newest);
        }
        let number = self.next.replace(self.next.get() + 1);
        self.open.borrow_mut().insert(number, Rc::clone(&state));
        OpenStream { all: Rc::clone(self), number, state }
    }

    /// Judges the open streams under a snapshot that was taken into use.
    pub(crate) async fn recheck(&self, snapshot: &Snapshot) {
        if snapshot.open_streams == OpenStreamsRule::Keep {
            return;
        }
        let all: Vec<Rc<StreamState>> = self.open.borrow().values().map(Rc::clone).collect();
        for some in all.chunks(AT_ONCE) {
            some.iter().for_each(|stream| stream.recheck(snapshot));
            yield_now().await;
        }
    }
}

impl OpenStream {
    /// Whether the stream must end. Wakes the task of the last call when it must.
    pub(crate) fn poll_end(&self, context: &Context<'_>) -> Option<StreamEnd> {
        let end = self.end();
        let mut waker = self.state.waker.borrow_mut();
        if end.is_none() && !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
        end
    }

    pub(crate) fn end(&self) -> Option<StreamEnd> {
        self.state.end.get()
    }

    pub(crate) fn is_grpc(&self) -> bool {
        self.state.begun.is_grpc
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.all.open.borrow_mut().remove(&self.number);
    }
}

impl StreamState {
    fn recheck(&self, snapshot: &Snapshot) {
        if snapshot.open_streams == OpenStreamsRule::Keep || self.end.get().is_some() {
            return;
        }
        if let Err(end) = self.begun.judge(snapshot) {
            self.end.set(Some(end));
            if let Some(waker) = self.waker.take() {
                waker.wake();
            }
        }
    }
}

impl StreamRequest {
    /// The steps of the corridor, without those that count.
    fn judge(&self, snapshot: &Snapshot) -> Result<(), StreamEnd> {
        let (request, path) = (&self.request, self.request.decoded_path());
        snapshot.routes.check_path_forms(request).map_err(|_| StreamEnd::NotAllowed)?;
        // Over HTTP/1.1 a WebSocket begins with a GET (RFC 8441 §5).
        let method = if request.method == Method::CONNECT { &Method::GET } else { &request.method };
        let none = HeaderMap::new();
        let fields = self.fields.as_deref().unwrap_or(&none);
        let RouteMatch::Route(route, _) = snapshot.routes.find(method, request.authority.host(), path, fields) else {
            return Err(StreamEnd::NotAllowed);
        };
        let is_opened = self.protocol.as_deref().is_none_or(|protocol| route.upgrades.opens(protocol));
        if snapshot.built_in(path, request.authority.host()).is_some() || !is_opened {
            return Err(StreamEnd::NotAllowed);
        }
        let direct = self.peer.without_trust(&snapshot.trusted_proxies);
        let from = direct.as_ref().unwrap_or(&self.peer).source_address().certain();
        let admitted = admit(route, from).map_err(|_| StreamEnd::NotAllowed)?;
        let rule = match admitted.access() {
            Access::Public => return Ok(()),
            Access::Protected(rule) => rule,
        };
        let judged = self.judge_caller(&admitted, rule, snapshot);
        // Address rules hold where a route only reports what its rule refuses.
        judged.or_else(|end| {
            if admitted.only_reports(clock::now()) && end != StreamEnd::WrongAddress { Ok(()) } else { Err(end) }
        })
    }

    fn judge_caller(&self, admitted: &Admitted<'_>, rule: &AccessRule, snapshot: &Snapshot) -> Result<(), StreamEnd> {
        let caller = self.caller.as_ref().ok_or(StreamEnd::Unauthenticated)?;
        let checked = caller.recheck(rule.expectations()).and_then(|()| check_held_client(caller, snapshot));
        if !snapshot.trust.knows(caller) || checked.is_err() {
            return Err(StreamEnd::Unauthenticated);
        }
        let own_clients = snapshot.oauth.as_ref().map(|oauth| &*oauth.server);
        let caller = ProvenCaller::without_request(caller, rule.bound).map_err(|_| StreamEnd::Unauthenticated)?;
        let permit = authorize(admitted, rule, caller, own_clients, &mut Unobserved);
        permit.map(drop).map_err(|forbidden| match forbidden {
            Forbidden::AddressNotAllowed { .. } => StreamEnd::WrongAddress,
            Forbidden::MissingScope { .. } | Forbidden::ClaimMismatch(_) | Forbidden::ClientNotAllowed(_) => {
                StreamEnd::NotAllowed
            }
        })
    }
}
