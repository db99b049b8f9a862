//! The whole way of a rehearsed request: each check of each room, and what comes out.
//!
//! What the service or the caller would get is made by the functions that make it for a real request.

use std::rc::Rc;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, Method, Response};

use super::{Rehearsal, RehearsedRequest};
use crate::audit::reason::Reason;
use crate::http1::fault::WireFault;
use crate::oauth::discrepancy::Discrepancy;
use crate::oauth::observer::{Observation, Room, Trace};
use crate::pipeline::answer::broken_rule::broken_rule;
use crate::pipeline::answer::content::Content;
use crate::pipeline::answer::fixed_answer;
use crate::pipeline::answer::forward::{ForwardContext, ask_for_trailers, upstream_request};
use crate::pipeline::answer::found_and_wanted::found_and_wanted;
use crate::pipeline::answer::rejection::Rejection;
use crate::pipeline::answer::response_fields::ResponseFields;
use crate::pipeline::corridor::{Destination, add_fields, choose_destination};
use crate::pipeline::decide::{DecideContext, DecidedRequest, Permitted, decide};
use crate::pipeline::record::open_request::OpenRequest;
use crate::pipeline::request::peer::Peer;
use crate::pipeline::request::request_id::RequestId;
use crate::pipeline::routing::route::Route;
use crate::pipeline::routing::target::RouteTarget;
use crate::server::received_request::ReceivedHead;
use crate::upstream::body::request_body::RequestBody;
use crate::upstream::service::Upstream;
use crate::upstream::written_head::WrittenHead;

/// The way of one request, and its end.
#[derive(Debug)]
pub(crate) struct Walk {
    /// The route or endpoint that takes it. `None`: no rule does.
    pub(crate) rule: Option<String>,
    pub(crate) observations: Vec<Observation>,
    /// The refusal that the route only reports.
    pub(crate) would_deny: Option<Reason>,
    pub(crate) end: WalkEnd,
}

#[derive(Debug)]
pub(crate) enum WalkEnd {
    Forwarded(ForwardedRequest),
    /// The gateway itself answers.
    Answered(GivenAnswer),
    /// An endpoint of the gateway answers, and decides by the body.
    Endpoint,
    Refused {
        reason: Reason,
        values: Option<Discrepancy>,
        answer: GivenAnswer,
    },
}

/// The request that a service gets.
#[derive(Debug)]
pub(crate) struct ForwardedRequest {
    pub(crate) upstream: String,
    /// The share of each upstream, where the route has several and the caller does not decide which.
    pub(crate) split: Option<String>,
    pub(crate) servers: Vec<String>,
    pub(crate) head: WrittenHead,
    /// The upstream that gets a copy, and the percentage of requests.
    pub(crate) mirror: Option<(String, u32)>,
    /// The seconds that the gateway waits for the first byte of the response.
    pub(crate) timeout_s: f64,
}

/// An answer of the gateway, with all its fields.
#[derive(Debug)]
pub(crate) struct GivenAnswer {
    pub(crate) status: u16,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: String,
}

/// Stands for the value of `X-Request-Id`.
pub(crate) const NEW_ID: &str = "(new for each request)";
const CALLERS_TOKEN: &str = "(the credentials of the caller)";
/// Header values of the configuration are often credentials.
const SET_BY_ROUTE: &str = "(set by the route)";

impl Rehearsal {
    /// Walks the whole way of a request, and observes it.
    pub(crate) fn walk(&self, request: RehearsedRequest) -> Walk {
        let RehearsedRequest { mut head, peer, has_body } = request;
        let mut open = OpenRequest::begin(&self.worker.recorder, Rc::clone(&self.snapshot), &peer);
        let (mut fields, mut trace) = (ResponseFields::default(), Trace::default());
        let context = DecideContext { current: &self.worker.current, snapshot: &self.snapshot, peer: &peer };
        let for_head = head.method == Method::HEAD;
        let decided = decide(context, &mut open, &mut fields, &mut head, has_body, &mut trace);
        let decided = self.runtime.block_on(decided);
        let route = open.log.matched.route(&self.snapshot);
        let rule = open.log.matched.name(&self.snapshot).map(str::to_owned);
        let ended = decided.and_then(|decided| match decided {
            DecidedRequest::Answered(answer) => Ok(Err(answer)),
            DecidedRequest::BuiltIn(..) => Ok(Ok(WalkEnd::Endpoint)),
            DecidedRequest::Permitted(permitted) => self.carry_out(permitted, &peer, &mut open, head),
        });
        let (request_id, reason) = (open.log.request_id.clone(), open.log.reason());
        let would_deny = open.log.reported_reason();
        let mut given = |mut answer: Response<Content>, is_refusal| {
            if for_head {
                answer = Content::without_body(answer);
            }
            add_fields(&self.snapshot, &mut open, &fields, &mut answer, is_refusal);
            GivenAnswer::of(&answer, &request_id)
        };
        let end = match (ended, reason) {
            (Ok(Ok(end)), _) => end,
            (Ok(Err(answer)), None) => WalkEnd::Answered(given(answer, false)),
            // A preflight that grants nothing.
            (Ok(Err(answer)), Some(reason)) => WalkEnd::Refused { reason, values: None, answer: given(answer, false) },
            (Err(rejection), _) => {
                let (reason, values) = (rejection.reason(), found_and_wanted(&rejection));
                WalkEnd::Refused {
                    reason,
                    values,
                    answer: given(rejection.into_response(route, false, &request_id), true),
                }
            }
        };
        Walk { rule, observations: trace.0, would_deny, end }
    }

    /// The end of a request that the server does not read, because it breaks a rule of HTTP.
    pub(crate) fn malformed(&self, fault: WireFault) -> Walk {
        let (rejection, request_id) = (Rejection::Wire(fault), self.worker.recorder.request_ids.next());
        let rule = broken_rule(&rejection).unwrap_or_default();
        let observed =
            Observation::checked(Room::Canonicalise, "HTTP/1.1", false, fault.to_string(), format!("the rule {rule}"));
        let reason = rejection.reason();
        let mut answer = rejection.into_response(None, false, &request_id);
        ResponseFields::default().add_standard_headers(&request_id, answer.status(), answer.headers_mut());
        let end = WalkEnd::Refused { reason, values: None, answer: GivenAnswer::of(&answer, &request_id) };
        Walk { rule: None, observations: vec![observed], would_deny: None, end }
    }

    /// The request that the service gets, or the answer of the gateway.
    fn carry_out(
        &self,
        permitted: Permitted<'_>,
        from: &Peer,
        open: &mut OpenRequest,
        head: ReceivedHead,
    ) -> Result<Result<WalkEnd, Response<Content>>, Rejection> {
        let Permitted { permit, request, handshake, call, chosen_by: _ } = permitted;
        let to = match choose_destination(&permit, from, &mut open.log, &head) {
            _ if !call.may_be_forwarded => return Ok(Err(fixed_answer::answer_options())),
            Destination::Own(own) => return Ok(Err(fixed_answer::answer(own, &permit.route().path, &request)?)),
            Destination::Upstream(to) => to,
        };
        let (request_id, limits) = (&open.log.request_id, &self.snapshot.limits);
        let (pools, mirrors) = (&self.worker.pools, &self.worker.mirrors);
        let (trust, conditions) = (&self.snapshot.trust, self.snapshot.routes.condition_fields());
        let context =
            ForwardContext { to, pools, mirrors, from, request: &request, request_id, limits, trust, conditions, call };
        let (body, _) = RequestBody::whole(bytes::Bytes::new());
        let mut outgoing = upstream_request(&permit, &context, head, body)?;
        match handshake {
            Some(mut handshake) => handshake.add_request_fields(&mut outgoing.headers),
            None => ask_for_trailers(&mut outgoing, &context),
        }
        let route = permit.route();
        let set = set_by_route(route, &outgoing.headers);
        let Some(server) = to.servers.first() else { return Err(Rejection::NoRoute) };
        let mut head = WrittenHead::of(outgoing, to, server)?;
        let credentials = trust.token_fields().all().map(HeaderName::as_str).chain([AUTHORIZATION.as_str()]);
        let replaces = |name: &str| to.settings.authorization.as_ref().is_some_and(|ours| ours.name() == name);
        credentials.filter(|name| !replaces(name)).for_each(|name| head.replace(name, CALLERS_TOKEN));
        set.iter().filter(|name| !replaces(name)).for_each(|name| head.replace(name, SET_BY_ROUTE));
        head.replace("x-request-id", NEW_ID);
        Ok(Ok(WalkEnd::Forwarded(ForwardedRequest::new(route, to, head))))
    }
}

/// The fields whose values the route sets.
fn set_by_route(route: &Route, headers: &HeaderMap) -> Vec<String> {
    let rules = route.request_headers.set.iter().chain(&route.request_headers.add);
    let present = rules.filter(|(name, _)| headers.contains_key(name));
    present.map(|(name, _)| name.as_str().to_owned()).collect()
}

impl ForwardedRequest {
    fn new(route: &Route, to: &Upstream, head: WrittenHead) -> Self {
        let split = match &route.target {
            RouteTarget::Split(split) => Some(split.to_string()),
            RouteTarget::Upstream(_) | RouteTarget::Own(_) => None,
        };
        let mirror = route.mirror.as_ref().map(|rule| (rule.upstream.name.to_string(), rule.percent));
        let timeout = route.timeout.unwrap_or(to.settings.response_timeout);
        let servers = to.servers.iter().map(|server| server.name().into_owned()).collect();
        Self { upstream: to.name.to_string(), split, servers, head, mirror, timeout_s: timeout.as_secs_f64() }
    }
}

impl GivenAnswer {
    fn of(answer: &Response<Content>, request_id: &RequestId) -> Self {
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        // Limits are not counted: what is left of them is not known.
        let fields = answer.headers().iter().filter(|(name, _)| *name != "ratelimit");
        let fields = fields.map(|(name, value)| match name.as_str() {
            "x-request-id" => (name.to_string(), NEW_ID.to_owned()),
            _ => (name.to_string(), text(value.as_bytes())),
        });
        let body = match answer.body() {
            Content::Whole(Some(bytes)) => text(bytes).replace(request_id.as_str(), NEW_ID),
            Content::Whole(None) | Content::Streamed(_) | Content::Tunnel(_) => String::new(),
        };
        Self { status: answer.status().as_u16(), fields: fields.collect(), body }
    }
}
