//! What is known of a request so far, and its line in the audit log at the end.
//!
//! A trail is opened with the request and closed with its answer. Dropped unclosed, because the client hung up or because of
//! a fault of ours, it leaves its line all the same.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::header::CONNECTION;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::canonical::CanonicalRequest;
use super::headers::X_REQUEST_ID;
use super::limit_headers::announce;
use super::limits::{LimitCount, RateLimit};
use super::peer::Peer;
use super::request_id::RequestId;
use super::route::Route;
use super::snapshot::{BuiltIn, OwnIssuer};
use super::worker::{SharedSnapshot, Worker};
use super::worker_metrics::{RequestOutcome, side_name};
use crate::audit::aggregate::{Decided, Kind};
use crate::audit::ledger::{LineSlot, Synced, Unavailable};
use crate::audit::reason::Reason;
use crate::audit::record::{Decision, DecisionRecord, Described, RecordIdentity as Written};
use crate::clock::{self, UnixTime};
use crate::issuer::authorization_server::Issued;
use crate::oauth::caller::IssuerName;
use crate::oauth::identity::Identity;
use crate::server::connection_limiter::network;
use crate::trust::verify::Verified;

/// More limits on one route are a configuration error.
pub(crate) const MAX_LIMITS: usize = 8;

#[derive(Debug)]
pub(crate) struct RequestLog {
    worker: Rc<Worker>,
    snapshot: SharedSnapshot,
    peer: Rc<Peer>,
    started: Instant,
    pub(crate) now: UnixTime,
    pub(crate) request_id: RequestId,
    method: Option<Method>,
    target: Option<PathAndQuery>,
    pub(crate) place: MatchedRule,
    /// Which of its route's upstreams it went to, where there are several.
    pub(crate) side: Option<usize>,
    /// Whose pages may read the answer, where the route says so.
    pub(crate) granted_origin: Option<HeaderValue>,
    who: RecordedIdentity,
    counts: [Option<LimitCount>; MAX_LIMITS],
    decision: Decision,
    was_allowed: bool,
    reason: Option<Reason>,
    status: Option<u16>,
    slot: Option<LineSlot>,
    /// Its line is on the disk already; another is written only if there is more to say.
    committed: bool,
    open: bool,
    /// The request asks for another protocol than HTTP: if the answer is no, nobody can be sure who reads on in which.
    pub(crate) asks_to_switch: bool,
}

/// Which rule the request came under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum MatchedRule {
    Nowhere,
    BuiltIn(BuiltIn),
    Redirect,
    Route(usize),
}

/// Whom the record is about.
#[derive(Debug)]
enum RecordedIdentity {
    Nobody,
    Caller(Rc<Verified>),
    /// Merely said so.
    Claimed {
        issuer: Option<IssuerName>,
        client: Option<Identity>,
    },
    /// A client of ours that has proved who it is, at the token or the revocation endpoint.
    Client(Identity),
    Granted(Box<Issued>),
}

impl RequestLog {
    pub(crate) fn begin(worker: &Rc<Worker>, snapshot: SharedSnapshot, peer: &Rc<Peer>) -> Box<Self> {
        worker.begin(peer);
        Box::new(Self {
            worker: Rc::clone(worker),
            snapshot,
            peer: Rc::clone(peer),
            started: clock::instant(),
            now: clock::now(),
            request_id: worker.next_request_id(),
            method: None,
            target: None,
            place: MatchedRule::Nowhere,
            side: None,
            granted_origin: None,
            who: RecordedIdentity::Nobody,
            counts: [None; MAX_LIMITS],
            decision: Decision::Deny,
            was_allowed: false,
            reason: None,
            status: None,
            slot: None,
            committed: false,
            open: true,
            asks_to_switch: false,
        })
    }

    pub(crate) fn request(&mut self, request: &CanonicalRequest) {
        self.method = Some(request.method.clone());
        self.target = Some(request.target().clone());
    }

    pub(crate) fn caller(&mut self, verified: &Rc<Verified>) {
        self.who = RecordedIdentity::Caller(Rc::clone(verified));
    }

    pub(crate) fn claimed(&mut self, issuer: Option<IssuerName>, client: Option<Identity>) {
        self.who = RecordedIdentity::Claimed { issuer, client };
    }

    pub(crate) fn client(&mut self, client: Identity) {
        self.who = RecordedIdentity::Client(client);
    }

    /// Keeps a place in the audit log; nothing protected goes on without one.
    pub(crate) fn reserve(&mut self) -> Result<(), Unavailable> {
        self.slot = self.worker.ledger().reserve()?;
        Ok(())
    }

    /// Keeps a place if there is room, for what is answered all the same.
    pub(crate) fn reserve_if_roomy(&mut self) {
        self.slot = self.worker.ledger().reserve_optional();
    }

    /// For what is protected: where the configuration has it so, waits until the line about this answer is on the disk. Where
    /// that can't be, the answer must not go out.
    pub(crate) async fn commit(&mut self, status: StatusCode) -> Result<(), Unavailable> {
        let synced = self.worker.ledger().synced();
        let waits = synced >= if self.decision == Decision::Issue { Synced::Grants } else { Synced::All };
        let Some(slot) = self.slot.take_if(|_| waits) else { return Ok(()) };
        self.status = Some(status.as_u16());
        self.committed = true;
        let duration = self.started.elapsed();
        let commit = slot.commit(|buffer| self.record(duration).write(buffer));
        commit.await
    }

    pub(crate) fn allowed(&mut self) {
        self.was_allowed = true;
        self.decision = Decision::Allow;
    }

    pub(crate) fn granted(&mut self, issued: Issued) {
        self.decision = Decision::Issue;
        self.worker.metrics(|metrics| metrics.secret_used(&issued.client, issued.secret, self.now));
        self.who = RecordedIdentity::Granted(Box::new(issued));
    }

    /// Refused, or failed after it was allowed.
    pub(crate) fn ended_by(&mut self, reason: Reason) {
        self.decision = match (self.decision, reason.is_failure()) {
            (Decision::Deny, false) => Decision::Deny,
            (Decision::Allow | Decision::Issue | Decision::Error, _) | (Decision::Deny, true) => Decision::Error,
        };
        self.reason = Some(reason);
    }

    /// The answer's body could not be sent to its end.
    pub(crate) fn broke_off(&mut self, reason: Reason) {
        self.ended_by(reason);
        self.close();
    }

    pub(crate) fn counted(&mut self, index: usize, count: LimitCount) {
        self.worker.metrics(|metrics| metrics.counted(self.place, index, count));
        if let Some(place) = self.counts.get_mut(index) {
            *place = Some(count);
        }
    }

    /// Adds what the route has its answers say.
    pub(crate) fn apply_response_rules(&self, headers: &mut HeaderMap, is_refusal: bool) {
        if let Some(route) = self.route() {
            route.apply_response_rules(headers, is_refusal, self.granted_origin.as_ref());
        }
    }

    /// Adds what every answer carries.
    pub(crate) fn sign(&mut self, status: u16, headers: &mut HeaderMap) {
        self.status = Some(status);
        headers.insert(X_REQUEST_ID, self.request_id.header());
        if self.asks_to_switch && status != StatusCode::SWITCHING_PROTOCOLS {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        announce(self.limits(), &self.counts, headers);
    }

    /// Writes the line, once.
    pub(crate) fn close(&mut self) {
        if !std::mem::replace(&mut self.open, false) {
            return;
        }
        let duration = self.started.elapsed();
        if !self.committed || self.reason.is_some() {
            let slot = match (self.slot.take(), self.kind()) {
                (Some(slot), Kind::Answered(_) | Kind::Refused(_)) => Some(slot),
                (slot, kind) => self.worker.ledger().slot_or_aggregate(&self.decided(kind), slot),
            };
            if let Some(slot) = slot {
                slot.write(|buffer| self.record(duration).write(buffer));
            }
        }
        let ending = RequestOutcome {
            place: self.place,
            issuer: self.issuer_name(),
            decision: self.decision,
            reason: self.reason,
            method: self.method.as_ref(),
            status: self.status,
            duration,
            side: self.side,
        };
        self.worker.metrics(|metrics| metrics.ended(&ending));
    }

    /// What is counted where there is no line of its own.
    fn kind(&self) -> Kind {
        let refused = matches!(self.decision, Decision::Deny | Decision::Error) && !self.was_allowed;
        let is_known = match self.who {
            RecordedIdentity::Nobody | RecordedIdentity::Claimed { .. } => false,
            RecordedIdentity::Caller(_) | RecordedIdentity::Client(_) | RecordedIdentity::Granted(_) => true,
        };
        let reason = self.reason.unwrap_or(Reason::Internal);
        match (refused, is_known) {
            // Anyone can bring it about as often as they like.
            (true, false) => Kind::Unauthenticated(reason),
            _ if self.committed => Kind::Retracted(self.decision),
            (true, true) => Kind::Refused(reason),
            // It has its own line, however it ended: an upstream may have had it.
            (false, _) => Kind::Answered(self.decision),
        }
    }

    fn decided(&self, kind: Kind) -> Decided<'_> {
        Decided { address: network(self.peer.address), kind, time: self.now, config: &self.snapshot.config }
    }

    fn record(&self, duration: std::time::Duration) -> DecisionRecord<'_> {
        DecisionRecord {
            time: self.now,
            decision: self.decision,
            reason: self.reason,
            request_id: self.request_id.as_str(),
            config: &self.snapshot.config,
            client_address: self.peer.text(),
            peer_address: self.peer.socket(),
            method: self.method.as_ref().map(Method::as_str),
            path: self.target.as_ref().map(PathAndQuery::path),
            route: self.route_name(),
            upstream: self.side.map(|side| side_name(&self.snapshot, self.place, side)),
            status: self.status,
            duration,
            identity: self.identity(),
        }
    }

    fn identity(&self) -> Written<'_> {
        let described = match &self.who {
            RecordedIdentity::Caller(verified) => {
                return Written::Written(verified.audit_part.get_or_init(|| describe(verified).written()));
            }
            RecordedIdentity::Nobody => Described::default(),
            RecordedIdentity::Claimed { issuer, client } => Described {
                issuer: issuer.as_ref().map(IssuerName::as_str),
                client: client.as_ref().map(Identity::as_str),
                ..Described::default()
            },
            RecordedIdentity::Client(client) => Described {
                verified: true,
                issuer: Some(IssuerName::OWN),
                client: Some(client.as_str()),
                ..Described::default()
            },
            RecordedIdentity::Granted(issued) => Described {
                verified: true,
                issuer: Some(IssuerName::OWN),
                client: Some(issued.client.as_str()),
                subject: Some(issued.client.as_str()),
                scope: Some(&issued.scope),
                token_id: Some(&issued.token_id),
                key_id: Some(&issued.key_id),
            },
        };
        Written::Described(described)
    }

    fn issuer_name(&self) -> Option<&IssuerName> {
        match &self.who {
            RecordedIdentity::Caller(verified) => Some(&verified.caller.issuer),
            RecordedIdentity::Claimed { issuer, .. } => issuer.as_ref(),
            RecordedIdentity::Nobody | RecordedIdentity::Client(_) | RecordedIdentity::Granted(_) => None,
        }
    }

    fn route(&self) -> Option<&Route> {
        match self.place {
            MatchedRule::Route(index) => self.snapshot.routes.routes().get(index).map(|route| &**route),
            MatchedRule::Nowhere | MatchedRule::BuiltIn(_) | MatchedRule::Redirect => None,
        }
    }

    fn route_name(&self) -> Option<&str> {
        match self.place {
            MatchedRule::Nowhere => None,
            MatchedRule::BuiltIn(built_in) => Some(built_in.name()),
            MatchedRule::Redirect => Some(REDIRECT),
            MatchedRule::Route(index) => self.snapshot.routes.routes().get(index).map(|route| route.name.as_str()),
        }
    }

    /// Whether what was asked for may be a gRPC service: one of HTTP/1.1 is not, nor are our own endpoints.
    pub(crate) fn may_be_grpc(&self) -> bool {
        match self.place {
            MatchedRule::Nowhere => true,
            MatchedRule::Route(index) => {
                self.snapshot.routes.routes().get(index).is_some_and(|route| route.target.may_speak_http2())
            }
            MatchedRule::BuiltIn(_) | MatchedRule::Redirect => false,
        }
    }

    fn limits(&self) -> &[Arc<RateLimit>] {
        match self.place {
            MatchedRule::Route(index) => self.snapshot.routes.routes().get(index).map_or(&[], |route| &route.limits),
            MatchedRule::BuiltIn(BuiltIn::Token | BuiltIn::Revocation) => {
                self.snapshot.oauth.as_ref().map_or(&[], |oauth: &OwnIssuer| &oauth.token_limits)
            }
            MatchedRule::BuiltIn(BuiltIn::Jwks | BuiltIn::Metadata) | MatchedRule::Nowhere | MatchedRule::Redirect => {
                &[]
            }
        }
    }
}

impl Drop for RequestLog {
    fn drop(&mut self) {
        if self.open {
            self.ended_by(if std::thread::panicking() { Reason::Internal } else { Reason::ClientGone });
            self.close();
        }
        self.worker.end(&self.peer);
    }
}

pub(crate) const REDIRECT: &str = "(redirect)";

fn describe(verified: &Verified) -> Described<'_> {
    Described {
        verified: true,
        issuer: Some(verified.caller.issuer.as_str()),
        client: verified.caller.client.as_ref().map(Identity::as_str),
        subject: Some(verified.caller.subject.as_str()),
        scope: verified.caller.scope_header.to_str().ok(),
        token_id: verified.claims.token_id.as_deref(),
        key_id: verified.key.key_id.as_deref(),
    }
}
