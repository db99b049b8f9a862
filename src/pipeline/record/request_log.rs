//! The facts of a request, as far as they are known, and the audit record made of them.

use std::rc::Rc;
use std::time::{Duration, Instant};

use http::header::AUTHORIZATION;
use http::{HeaderMap, Method};

use super::decided_by::DecidedBy;
use super::matched::MatchedRule;
use super::metrics::RequestOutcome;
use super::recorded_identity::RecordedIdentity;
use crate::audit::aggregate::{Decided, Kind};
use crate::audit::ledger::Synced;
use crate::audit::reason::Reason;
use crate::audit::record::{Decision, DecisionRecord};
use crate::clock::{self, UnixTime};
use crate::http1::target::OriginForm;
use crate::issuer::authorization_server::Issued;
use crate::network::counted_network;
use crate::oauth::caller::IssuerName;
use crate::oauth::discrepancy::Discrepancy;
use crate::oauth::identity::Identity;
use crate::pipeline::request::authority::Authority;
use crate::pipeline::request::canonical::CanonicalRequest;
use crate::pipeline::request::peer::Peer;
use crate::pipeline::request::request_id::RequestId;
use crate::pipeline::routing::series::SeriesId;
use crate::pipeline::routing::snapshot::SharedSnapshot;
use crate::trust::verify::Verified;

#[derive(Debug)]
pub(crate) struct RequestLog {
    decided_by: DecidedBy,
    peer: Rc<Peer>,
    started: Instant,
    pub(crate) now: UnixTime,
    pub(crate) request_id: RequestId,
    method: Option<Method>,
    target: Option<OriginForm>,
    authority: Option<Rc<Authority>>,
    pub(crate) matched: MatchedRule,
    /// The branch of its route's split, where it has one.
    pub(crate) branch: Option<usize>,
    pub(crate) identity: RecordedIdentity,
    decision: Decision,
    was_allowed: bool,
    reason: Option<Reason>,
    /// The first refusal that the route has only reported.
    reported: Option<Reason>,
    /// The rule of HTTP that the request or its answer breaks, or the fault of TLS with the upstream.
    pub(crate) rule: Option<&'static str>,
    /// Boxed to keep the record of other requests small.
    pub(crate) discrepancy: Option<Box<Discrepancy>>,
    /// How a limit was counted while the shared store was unreachable.
    pub(crate) ratelimit_mode: Option<&'static str>,
    pub(crate) status: Option<u16>,
}

impl RequestLog {
    pub(crate) fn new(snapshot: SharedSnapshot, peer: &Rc<Peer>, request_id: RequestId) -> Self {
        Self {
            decided_by: DecidedBy::Snapshot(snapshot),
            peer: Rc::clone(peer),
            started: clock::instant(),
            now: clock::now(),
            request_id,
            method: None,
            target: None,
            authority: None,
            matched: MatchedRule::Nothing,
            branch: None,
            identity: RecordedIdentity::Nobody,
            decision: Decision::Deny,
            was_allowed: false,
            reason: None,
            reported: None,
            rule: None,
            discrepancy: None,
            ratelimit_mode: None,
            status: None,
        }
    }

    /// The metrics series that the request counts in, by the snapshot that decides it.
    pub(super) fn series(&self) -> SeriesId {
        self.decided_by.series(self.matched)
    }

    /// The answer may last: its record needs no more than names of the snapshot.
    pub(crate) fn release_snapshot(&mut self) {
        self.decided_by.keep_names(self.matched, self.branch);
    }

    pub(super) fn peer(&self) -> &Peer {
        &self.peer
    }

    pub(super) fn shared_peer(&self) -> Rc<Peer> {
        Rc::clone(&self.peer)
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn method(&mut self, method: &Method) {
        self.method = Some(method.clone());
    }

    pub(crate) fn request(&mut self, request: &CanonicalRequest) {
        self.method = Some(request.method.clone());
        self.target = Some(request.target().clone());
        self.authority = Some(Rc::clone(&request.authority));
    }

    pub(crate) fn caller(&mut self, verified: &Rc<Verified>) {
        self.identity = RecordedIdentity::Caller(Rc::clone(verified));
    }

    /// Keeps the credentials of a request that is refused before they are verified.
    pub(crate) fn presented(&mut self, headers: &HeaderMap) {
        let fields = self.decided_by.snapshot().map(|snapshot| snapshot.trust.token_fields());
        let field = fields.and_then(|fields| fields.present(headers).next()).unwrap_or(&AUTHORIZATION);
        if let (RecordedIdentity::Nobody, Some(value)) = (&self.identity, headers.get(field)) {
            self.identity = RecordedIdentity::presented(value);
        }
    }

    pub(crate) fn client(&mut self, client: Identity) {
        self.identity = RecordedIdentity::Client(client);
    }

    pub(crate) fn asked_about(&mut self, client: Identity, token_id: Option<String>) {
        self.identity = RecordedIdentity::AskedAbout(client, token_id.map(String::into_boxed_str));
    }

    pub(crate) fn allowed(&mut self) {
        self.was_allowed = true;
        self.decision = if self.reported.is_some() { Decision::WouldDeny } else { Decision::Allow };
    }

    /// The route reports this refusal, and lets the request pass. The first one counts: it would have been the only one.
    pub(crate) fn reported(&mut self, reason: Reason, values: Option<Discrepancy>) {
        if self.reported.is_none() {
            self.reported = Some(reason);
            self.discrepancy = values.map(Box::new);
        }
    }

    pub(super) fn granted(&mut self, issued: Issued) {
        self.decision = Decision::Issue;
        self.identity = RecordedIdentity::Granted(Box::new(issued));
    }

    /// The least setting of the audit log at which this decision waits for the disk.
    pub(super) fn least_synced(&self) -> Synced {
        if self.decision == Decision::Issue { Synced::Grants } else { Synced::All }
    }

    /// Refused, or failed after it was allowed.
    pub(crate) fn ended_by(&mut self, reason: Reason) {
        self.decision = match (self.decision, reason.is_failure()) {
            (Decision::Deny, false) => Decision::Deny,
            (Decision::Allow | Decision::WouldDeny | Decision::Issue | Decision::Error, _) | (Decision::Deny, true) => {
                Decision::Error
            }
        };
        self.reason = Some(reason);
    }

    /// A stream that is not let in any more.
    pub(super) fn stream_ended(&mut self, (reason, values): (Reason, Option<Box<Discrepancy>>)) {
        self.ended_by(reason);
        if values.is_some() {
            self.discrepancy = values;
        }
    }

    /// The refusal that the route only reports.
    pub(crate) fn reported_reason(&self) -> Option<Reason> {
        self.reported
    }

    /// The refusal that the route has only reported, if the request has passed.
    fn would_deny(&self) -> Option<Reason> {
        self.reported.filter(|_| self.was_allowed)
    }

    pub(super) fn has_reason(&self) -> bool {
        self.reason.is_some()
    }

    /// Why it was refused or failed, so far.
    pub(crate) fn reason(&self) -> Option<Reason> {
        self.reason
    }

    /// The outcome for the metrics.
    pub(super) fn outcome(&self, duration: Duration) -> RequestOutcome<'_> {
        RequestOutcome {
            series: self.series(),
            issuer: self.identity.issuer_name(),
            decision: self.decision,
            reason: self.reason.or(self.would_deny()),
            would_deny: self.would_deny(),
            method: self.method.as_ref(),
            status: self.status,
            duration,
            branch: self.branch,
        }
    }

    /// The kind under which the request is counted if it has no line of its own.
    pub(super) fn kind(&self, committed: bool) -> Kind {
        let refused = matches!(self.decision, Decision::Deny | Decision::Error) && !self.was_allowed;
        let reason = self.reason.unwrap_or(Reason::Internal);
        match (refused, self.identity.is_known()) {
            // Any client can cause these, in any number.
            (true, false) => Kind::Unauthenticated(reason),
            _ if committed => Kind::Retracted(self.decision),
            (true, true) => Kind::Refused(reason),
            // It has its own line, however it ended: an upstream may have received it.
            (false, _) => Kind::Answered(self.decision),
        }
    }

    pub(super) fn decided(&self, kind: Kind) -> Decided<'_> {
        Decided { address: counted_network(self.peer.address), kind, time: self.now, config: self.decided_by.config() }
    }

    pub(super) fn record(&self, duration: Duration) -> DecisionRecord<'_> {
        DecisionRecord {
            time: self.now,
            decision: self.decision,
            reason: self.reason.or(self.would_deny()),
            would_deny: self.would_deny(),
            rule: self.rule,
            found: self.discrepancy.as_ref().map(|values| &*values.found),
            wanted: self.discrepancy.as_ref().map(|values| &*values.wanted),
            ratelimit_mode: self.ratelimit_mode,
            request_id: self.request_id.as_str(),
            config: self.decided_by.config(),
            client_address: self.peer.text(),
            peer_address: self.peer.socket(),
            method: self.method.as_ref().map(Method::as_str),
            host: self.authority.as_ref().map(|authority| authority.host()).filter(|host| !host.is_empty()),
            path: self.target.as_ref().map(OriginForm::path),
            route: self.decided_by.route(self.matched),
            upstream: self.decided_by.upstream(self.matched, self.branch),
            status: self.status,
            duration,
            identity: self.identity.written(self.decided_by.snapshot().map(|snapshot| &***snapshot)),
        }
    }

    /// The caller, where the route needs one.
    pub(super) fn verified_caller(&self) -> Option<Rc<Verified>> {
        self.identity.verified_caller()
    }

    /// The client that was authenticated or named by a verified token.
    pub(super) fn proven_client(&self) -> Option<(IssuerName, Identity)> {
        self.identity.proven_client()
    }
}
