//! What is known of a request so far, and its line in the audit log at the end.
//!
//! A trail is opened with the request and closed with its answer. Dropped unclosed, because the client hung up or because of
//! a fault of ours, it leaves its line all the same.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::canonical::CanonicalRequest;
use super::headers::X_REQUEST_ID;
use super::limits::{Count, Limit};
use super::peer::Peer;
use super::snapshot::{BuiltIn, OwnIssuer};
use super::tally::Ending;
use super::worker::{SharedSnapshot, Worker};
use crate::audit::ledger::{Slot, Unavailable};
use crate::audit::reason::Reason;
use crate::audit::record::{Decision, Described, Identity as Written, Record};
use crate::clock::{self, UnixTime};
use crate::issuer::authorization_server::Issued;
use crate::oauth::caller::IssuerName;
use crate::oauth::identity::Identity;
use crate::server::guard::Exchange;
use crate::trust::verify::Verified;

/// More limits on one route are a configuration error.
pub(crate) const MAX_LIMITS: usize = 8;

#[derive(Debug)]
pub(crate) struct Trail {
    worker: Rc<Worker>,
    snapshot: SharedSnapshot,
    peer: Rc<Peer>,
    started: Instant,
    pub(crate) now: UnixTime,
    pub(crate) request_id: RequestId,
    method: Option<Method>,
    target: Option<PathAndQuery>,
    pub(crate) place: Place,
    who: Who,
    counts: [Option<Count>; MAX_LIMITS],
    decision: Decision,
    reason: Option<Reason>,
    status: Option<u16>,
    slot: Option<Slot>,
    open: bool,
    _exchange: Option<Exchange>,
}

/// Which rule the request came under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    Nowhere,
    BuiltIn(BuiltIn),
    Redirect,
    Route(usize),
}

/// Whom the record is about.
#[derive(Debug)]
enum Who {
    Nobody,
    Caller(Rc<Verified>),
    /// Merely said so.
    Claimed {
        issuer: Option<IssuerName>,
        client: Option<Identity>,
    },
    /// A client of ours that has proved who it is, at the token endpoint.
    Client(Identity),
    Granted(Box<Issued>),
}

/// 32 characters, unlike any other of this process or another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestId([u8; 32]);

/// Makes request ids: half random, drawn once, half counted.
#[derive(Debug)]
pub(crate) struct RequestIds {
    prefix: u64,
    next: Cell<u64>,
}

const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");

impl Trail {
    pub(crate) fn begin(
        worker: &Rc<Worker>,
        snapshot: SharedSnapshot,
        peer: &Rc<Peer>,
        exchange: Option<Exchange>,
    ) -> Box<Self> {
        worker.begin();
        Box::new(Self {
            worker: Rc::clone(worker),
            snapshot,
            peer: Rc::clone(peer),
            started: clock::instant(),
            now: clock::now(),
            request_id: worker.next_request_id(),
            method: None,
            target: None,
            place: Place::Nowhere,
            who: Who::Nobody,
            counts: [None; MAX_LIMITS],
            decision: Decision::Deny,
            reason: None,
            status: None,
            slot: None,
            open: true,
            _exchange: exchange,
        })
    }

    pub(crate) fn request(&mut self, request: &CanonicalRequest) {
        self.method = Some(request.method.clone());
        self.target = Some(request.target().clone());
    }

    pub(crate) fn caller(&mut self, verified: &Rc<Verified>) {
        self.who = Who::Caller(Rc::clone(verified));
    }

    pub(crate) fn claimed(&mut self, issuer: Option<IssuerName>, client: Option<Identity>) {
        self.who = Who::Claimed { issuer, client };
    }

    pub(crate) fn client(&mut self, client: Identity) {
        self.who = Who::Client(client);
    }

    /// Keeps a place in the audit log; nothing protected goes on without one.
    pub(crate) fn reserve(&mut self) -> Result<(), Unavailable> {
        self.slot = self.worker.ledger().reserve()?;
        Ok(())
    }

    /// Keeps a place if there is room, for what is answered all the same.
    pub(crate) fn reserve_if_roomy(&mut self) {
        self.slot = self.worker.ledger().reserve_if_roomy();
    }

    pub(crate) fn allowed(&mut self) {
        self.decision = Decision::Allow;
    }

    pub(crate) fn granted(&mut self, issued: Issued) {
        self.decision = Decision::Issue;
        self.who = Who::Granted(Box::new(issued));
    }

    /// Refused, or failed after it was allowed.
    pub(crate) fn ended_by(&mut self, reason: Reason) {
        self.decision = match (self.decision, reason_is_ours(reason)) {
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

    pub(crate) fn counted(&mut self, index: usize, count: Count) {
        self.worker.tally(|tally| tally.counted(self.place, index, count));
        if let Some(place) = self.counts.get_mut(index) {
            *place = Some(count);
        }
    }

    /// Adds what every answer carries.
    pub(crate) fn sign(&mut self, status: u16, headers: &mut HeaderMap) {
        self.status = Some(status);
        headers.insert(X_REQUEST_ID, self.request_id.header());
        let limits = self.limits();
        if !limits.is_empty() {
            let (policy, left) = (rate_limit_policy(limits), self.rate_limit(limits));
            headers.insert(RATE_LIMIT_POLICY, policy);
            if let Some(left) = left {
                headers.insert(RATE_LIMIT, left);
            }
        }
    }

    /// Writes the line, once.
    pub(crate) fn close(&mut self) {
        if !std::mem::replace(&mut self.open, false) {
            return;
        }
        let duration = self.started.elapsed();
        let slot = self.slot.take().or_else(|| self.worker.ledger().reserve_if_roomy());
        if let Some(slot) = slot {
            slot.write(|buffer| self.record(duration).write(buffer));
        }
        let ending = Ending {
            place: self.place,
            issuer: self.issuer_name(),
            decision: self.decision,
            reason: self.reason,
            method: self.method.as_ref(),
            status: self.status,
            duration,
        };
        self.worker.tally(|tally| tally.ended(&ending));
    }

    fn record(&self, duration: std::time::Duration) -> Record<'_> {
        Record {
            time: self.now,
            decision: self.decision,
            reason: self.reason,
            request_id: self.request_id.as_str(),
            config: &self.snapshot.config,
            client_address: self.peer.forwarded_for.to_str().unwrap_or_default(),
            method: self.method.as_ref().map(Method::as_str),
            path: self.target.as_ref().map(PathAndQuery::path),
            route: self.route_name(),
            status: self.status,
            duration,
            identity: self.identity(),
        }
    }

    fn identity(&self) -> Written<'_> {
        let described = match &self.who {
            Who::Caller(verified) => {
                return Written::Written(verified.audit_part.get_or_init(|| describe(verified).written()));
            }
            Who::Nobody => Described::default(),
            Who::Claimed { issuer, client } => Described {
                issuer: issuer.as_ref().map(IssuerName::as_str),
                client: client.as_ref().map(Identity::as_str),
                ..Described::default()
            },
            Who::Client(client) => Described {
                verified: true,
                issuer: Some(IssuerName::OWN),
                client: Some(client.as_str()),
                ..Described::default()
            },
            Who::Granted(issued) => Described {
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
            Who::Caller(verified) => Some(&verified.caller.issuer),
            Who::Claimed { issuer, .. } => issuer.as_ref(),
            Who::Nobody | Who::Client(_) | Who::Granted(_) => None,
        }
    }

    fn route_name(&self) -> Option<&str> {
        match self.place {
            Place::Nowhere => None,
            Place::BuiltIn(built_in) => Some(built_in.name()),
            Place::Redirect => Some(REDIRECT),
            Place::Route(index) => self.snapshot.routes.routes().get(index).map(|route| route.name.as_str()),
        }
    }

    fn limits(&self) -> &[std::sync::Arc<Limit>] {
        match self.place {
            Place::Route(index) => self.snapshot.routes.routes().get(index).map_or(&[], |route| &route.limits),
            Place::BuiltIn(BuiltIn::Token) => {
                self.snapshot.oauth.as_ref().map_or(&[], |oauth: &OwnIssuer| &oauth.token_limits)
            }
            Place::BuiltIn(BuiltIn::Jwks | BuiltIn::Metadata) | Place::Nowhere | Place::Redirect => &[],
        }
    }

    fn rate_limit(&self, limits: &[std::sync::Arc<Limit>]) -> Option<HeaderValue> {
        let counted = limits.iter().zip(&self.counts).filter_map(|(limit, count)| Some((limit, count.as_ref()?)));
        let text = list(
            counted.map(|(limit, count)| (&*limit.name, [("r", count.remaining.into()), ("t", seconds(count.wait))])),
        );
        if text.is_empty() { None } else { HeaderValue::from_maybe_shared(bytes::Bytes::from(text)).ok() }
    }
}

impl Drop for Trail {
    fn drop(&mut self) {
        if self.open {
            self.ended_by(if std::thread::panicking() { Reason::Internal } else { Reason::ClientGone });
            self.close();
        }
        self.worker.end();
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

/// `RateLimit-Policy` of draft-ietf-httpapi-ratelimit-headers-11: quota and window of each limit.
fn rate_limit_policy(limits: &[std::sync::Arc<Limit>]) -> HeaderValue {
    let text = list(limits.iter().map(|limit| {
        let window = limit.rate.period * limit.rate.burst.get() / limit.rate.amount.get();
        (&*limit.name, [("q", limit.rate.burst.get().into()), ("w", seconds(window).max(1))])
    }));
    HeaderValue::from_maybe_shared(bytes::Bytes::from(text)).unwrap_or(HeaderValue::from_static(""))
}

/// A list of strings with integer parameters (RFC 9651 §3.1).
fn list<'l>(items: impl Iterator<Item = (&'l str, [(&'static str, u64); 2])>) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(64);
    for (name, [first, second]) in items {
        let separator = if text.is_empty() { "" } else { ", " };
        // Writing into a String does not fail.
        let _ = write!(text, "{separator}\"{name}\";{}={};{}={}", first.0, first.1, second.0, second.1);
    }
    text
}

/// Rounded up, so that who comes back then is let in.
pub(crate) fn seconds(duration: std::time::Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

/// Faults of ours or of the upstream, as against refusals.
fn reason_is_ours(reason: Reason) -> bool {
    match reason {
        Reason::UpstreamConnect
        | Reason::UpstreamTimeout
        | Reason::UpstreamProtocol
        | Reason::UpstreamReset
        | Reason::Overload
        | Reason::AuditUnavailable
        | Reason::ClientGone
        | Reason::Internal
        | Reason::KeysUnavailable => true,
        Reason::NoToken
        | Reason::Malformed
        | Reason::UnknownIssuer
        | Reason::IssuerNotAllowed
        | Reason::TypeNotAllowed
        | Reason::AlgNotAllowed
        | Reason::UnknownKid
        | Reason::BadSignature
        | Reason::Expired
        | Reason::NotYetValid
        | Reason::BadAudience
        | Reason::MissingClaim
        | Reason::MissingScope
        | Reason::ClaimMismatch
        | Reason::ClientNotAllowed
        | Reason::NoRoute
        | Reason::MethodNotAllowed
        | Reason::RateLimited
        | Reason::InvalidClient
        | Reason::InvalidRequest
        | Reason::InvalidScope
        | Reason::InvalidTarget
        | Reason::UnsupportedGrant
        | Reason::BadRequest
        | Reason::TooLarge
        | Reason::Timeout => false,
    }
}

impl RequestIds {
    pub(crate) fn new() -> Self {
        let mut prefix = [0; 8];
        // Without randomness ids are still unlike each other within a worker.
        let _ = aws_lc_rs::rand::fill(&mut prefix);
        Self { prefix: u64::from_le_bytes(prefix), next: Cell::new(0) }
    }

    pub(crate) fn next(&self) -> RequestId {
        let number = self.next.get();
        self.next.set(number.wrapping_add(1));
        let mut text = [0; 32];
        hex(self.prefix, &mut text[..16]);
        hex(number, &mut text[16..]);
        RequestId(text)
    }
}

impl RequestId {
    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    pub(crate) fn header(&self) -> HeaderValue {
        HeaderValue::from_bytes(&self.0).unwrap_or(HeaderValue::from_static(""))
    }
}

fn hex(number: u64, text: &mut [u8]) {
    for (index, digit) in text.iter_mut().enumerate() {
        let nibble = number >> (60 - 4 * index) & 15;
        *digit = b"0123456789abcdef"[nibble as usize];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_32_characters_and_never_the_same() {
        let ids = RequestIds::new();
        let (first, second) = (ids.next(), ids.next());
        assert_eq!(first.as_str().len(), 32);
        assert_ne!(first.as_str(), second.as_str());
        assert!(second.as_str().ends_with("0000000000000001"));
        assert_ne!(RequestIds::new().next().as_str(), first.as_str());
    }

    #[test]
    fn waits_are_rounded_up() {
        use std::time::Duration;
        assert_eq!([0, 1, 1000, 1001].map(|ms| seconds(Duration::from_millis(ms))), [0, 1, 1, 2]);
    }
}
