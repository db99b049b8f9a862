//! The answers and tunnels of one worker that may last for hours, and the judgement of each under a new configuration
//! and after a change of its client.
//!
//! A configuration that is taken into use judges every open stream once, by the functions that decide a request: the
//! route is found again, then its address rule, the caller and the rule of access count. A stream that would not be let
//! in ends. Limits are not counted again, and time alone ends nothing here: a token that has expired since, or whose
//! key was replaced, was valid when the stream began. A public route tells no caller, so its stream ends if the route
//! asks for one.
//!
//! A client in the database that is changed, disabled or deleted has its streams judged again, whatever a configuration
//! says about reloads: the client must exist and may call from the address. Scopes are those of the token.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
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
use super::stream_client::{ClientVerdict, StreamClient};
use crate::audit::reason::Reason;
use crate::clock;
use crate::issuer::stored_clients::ClientStoreUnavailable;
use crate::oauth::discrepancy::Discrepancy;
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
    /// The client of some stream must be judged.
    has_due_client: Cell<bool>,
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

/// Why a stream is not let in any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StreamEnd {
    /// By a new configuration the caller counts no more, or there is none.
    Unauthenticated,
    /// By a new configuration no route takes the request, or its rules refuse the caller or the address.
    NotAllowed,
    /// By a new configuration the client may not call from the address.
    WrongAddress,
    /// Its client is not in the database any more, or disabled.
    UnknownClient(Box<Discrepancy>),
    /// Its client in the database was changed, and may not call from the address.
    ClientAddress(Box<Discrepancy>),
}

#[derive(Debug)]
struct StreamState {
    begun: StreamRequest,
    client: StreamClient,
    end: RefCell<Option<StreamEnd>>,
    waker: RefCell<Option<Waker>>,
}

/// Streams that are judged before other tasks of the worker have a turn.
const AT_ONCE: usize = 128;
/// Clients that cannot be looked up before a pass over the streams ends.
const MOST_FAILURES: usize = 4;

impl OpenStreams {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self { open: RefCell::new(HashMap::new()), next: Cell::new(0), has_due_client: Cell::new(false) })
    }

    /// Adds a stream that was let in under `snapshot`. If there is another one by now, it judges the stream at once.
    pub(crate) fn add(
        self: &Rc<Self>,
        begun: StreamRequest,
        snapshot: &Snapshot,
        current: &CurrentSnapshot,
    ) -> OpenStream {
        let newest = current.get();
        let client = StreamClient::new(begun.caller.as_deref(), begun.from(&newest), &newest);
        let state = Rc::new(StreamState { begun, client, end: RefCell::default(), waker: RefCell::default() });
        if !ptr::eq(Arc::as_ptr(&newest), snapshot) {
            state.recheck(&newest);
        }
        if state.has_due_client(&newest) {
            self.has_due_client.set(true);
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
        for some in self.all().chunks(AT_ONCE) {
            some.iter().for_each(|stream| stream.recheck(snapshot));
            yield_now().await;
        }
    }

    pub(crate) fn has_due_client(&self) -> bool {
        self.has_due_client.get()
    }

    /// Judges the streams whose clients in the database have changed. Asks the database one question after the other,
    /// and only about clients that are not held. A stream whose client cannot be looked up stays as it is.
    pub(crate) async fn recheck_clients(&self, snapshot: &Snapshot) -> Result<(), ClientStoreUnavailable> {
        self.has_due_client.set(false);
        let mut failures = 0;
        for some in self.all().chunks(AT_ONCE) {
            for stream in some.iter().filter(|stream| stream.has_due_client(snapshot)) {
                failures += usize::from(stream.recheck_client(snapshot).await.is_err());
                if stream.has_due_client(snapshot) {
                    self.has_due_client.set(true);
                }
                if failures >= MOST_FAILURES {
                    return Err(ClientStoreUnavailable);
                }
            }
            yield_now().await;
        }
        if failures == 0 { Ok(()) } else { Err(ClientStoreUnavailable) }
    }

    fn all(&self) -> Vec<Rc<StreamState>> {
        self.open.borrow().values().map(Rc::clone).collect()
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
        self.state.end.borrow().clone()
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

impl StreamEnd {
    /// The reason in the audit log, with the values.
    pub(crate) fn reason(&self) -> (Reason, Option<Box<Discrepancy>>) {
        match self {
            Self::Unauthenticated | Self::NotAllowed | Self::WrongAddress => (Reason::ReloadClosed, None),
            Self::UnknownClient(values) => (Reason::UnknownClient, Some(values.clone())),
            Self::ClientAddress(values) => (Reason::AddressNotAllowed, Some(values.clone())),
        }
    }
}

impl StreamState {
    fn recheck(&self, snapshot: &Snapshot) {
        if snapshot.open_streams == OpenStreamsRule::Keep || self.has_ended() {
            return;
        }
        // Before the judgement, so that a change of the client meanwhile is noticed.
        self.client.renew(self.begun.caller.as_deref(), snapshot);
        if let Err(end) = self.begun.judge(snapshot) {
            self.must_end(end);
        }
    }

    fn has_due_client(&self, snapshot: &Snapshot) -> bool {
        let stored = snapshot.oauth.as_ref().and_then(|oauth| oauth.server.stored_clients());
        stored.is_some_and(|stored| self.client.is_due(stored.number)) && !self.has_ended()
    }

    async fn recheck_client(&self, snapshot: &Snapshot) -> Result<(), ClientStoreUnavailable> {
        let Some(caller) = &self.begun.caller else { return Ok(()) };
        let end = match self.client.judge(caller, self.begun.from(snapshot), snapshot).await {
            Ok(()) => return Ok(()),
            Err(ClientVerdict::Unavailable) => return Err(ClientStoreUnavailable),
            Err(ClientVerdict::Unknown(values)) => StreamEnd::UnknownClient(values),
            Err(ClientVerdict::WrongAddress(values)) => StreamEnd::ClientAddress(values),
        };
        if self.begun.is_let_in_after(&end, snapshot) {
            self.client.settle();
        } else {
            self.must_end(end);
        }
        Ok(())
    }

    fn must_end(&self, end: StreamEnd) {
        self.end.borrow_mut().get_or_insert(end);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn has_ended(&self) -> bool {
        self.end.borrow().is_some()
    }
}

impl StreamRequest {
    /// The steps of the corridor, without those that count.
    fn judge(&self, snapshot: &Snapshot) -> Result<(), StreamEnd> {
        let admitted = self.admitted(snapshot)?;
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

    /// Whether the route lets a stream in although its client may not keep it: it is public by now, or only reports.
    fn is_let_in_after(&self, end: &StreamEnd, snapshot: &Snapshot) -> bool {
        self.admitted(snapshot).is_ok_and(|admitted| match admitted.access() {
            Access::Public => true,
            Access::Protected(_) => admitted.only_reports(clock::now()) && !matches!(end, StreamEnd::ClientAddress(_)),
        })
    }

    /// The route of the request, if it is let in from its address.
    fn admitted<'s>(&self, snapshot: &'s Snapshot) -> Result<Admitted<'s>, StreamEnd> {
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
        admit(route, self.from(snapshot)).map_err(|_| StreamEnd::NotAllowed)
    }

    /// `None` is an uncertain address.
    fn from(&self, snapshot: &Snapshot) -> Option<IpAddr> {
        let direct = self.peer.without_trust(&snapshot.trusted_proxies);
        direct.as_ref().unwrap_or(&self.peer).source_address().certain()
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
