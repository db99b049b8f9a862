//! The facts about a request that [`mod@super::decide`] reports to an observer. Decides nothing.

use http::Method;

use super::answer::broken_rule::broken_rule;
use super::answer::rejection::Rejection;
use super::answer::response_fields::ResponseFields;
use super::record::matched::MatchedRule;
use super::request::ambiguous::Ambiguous;
use super::request::canonical::CanonicalRequest;
use super::routing::route::Route;
use super::routing::snapshot::Snapshot;
use super::routing::table::lost::SoughtRequest;
use crate::http1::target::RequestTarget;
use crate::oauth::discrepancy::Discrepancy;
use crate::oauth::observer::{Observation, Outcome, Room};
use crate::server::received_request::ReceivedHead;

/// The path as it came, in its canonical form and decoded, or the rule that makes it ambiguous.
pub(super) fn observed_form(head: &ReceivedHead, request: &Result<CanonicalRequest, Ambiguous>) -> Vec<Observation> {
    let raw = match &head.target {
        RequestTarget::Origin(target) | RequestTarget::Absolute { path: target, .. } => target.path(),
        RequestTarget::Authority(_) | RequestTarget::Asterisk => "no path",
    };
    let noted = |subject, found: &str| Observation::noted(Room::Canonicalise, subject, found);
    match request {
        Err(ambiguous) => {
            let rule = format!("not ambiguous ({}): {ambiguous}", ambiguous.name());
            vec![Observation::checked(Room::Canonicalise, "canonical form", false, raw, rule)]
        }
        Ok(request) => {
            let mut observed = vec![noted("host", request.authority.host()), noted("path", request.path())];
            if raw != request.path() {
                observed.push(noted("path as it came", raw));
            }
            if request.decoded_path() != request.path() {
                observed.push(noted("path, decoded", request.decoded_path()));
            }
            observed
        }
    }
}

/// The route that takes the request, and why others that come close do not.
pub(super) fn observed_route(
    snapshot: &Snapshot,
    matched: MatchedRule,
    (request, head): (&CanonicalRequest, &ReceivedHead),
    found: &Result<&Route, Rejection>,
) -> Vec<Observation> {
    let (method, host, path) = (&request.method, request.authority.host(), request.decoded_path());
    let chosen = match found {
        Ok(route) => Observation::new(
            Room::Route,
            "route",
            Outcome::Passed,
            Discrepancy::new(format!("{} ({})", route.name, route.path), ""),
        ),
        Err(Rejection::MethodNotAllowed(allow)) => {
            let wanted = allow.to_str().unwrap_or_default();
            Observation::checked(Room::Route, "method", false, method.as_str(), wanted)
        }
        Err(rejection @ Rejection::Header(fault)) => {
            let rule = broken_rule(rejection).unwrap_or_default();
            let wanted = format!("fields that can be read in one way (the rule {rule})");
            Observation::checked(Room::Route, "header fields", false, fault.to_string(), wanted)
        }
        Err(_) => Observation::checked(Room::Route, "route", false, "none", "a route for this host and path"),
    };
    let place = match matched {
        MatchedRule::Route(index) => Some(index),
        MatchedRule::Nothing | MatchedRule::BuiltIn(_) | MatchedRule::Redirect => None,
    };
    let chosen = std::iter::once(chosen).chain(observed_fields(snapshot, request, head));
    let sought = SoughtRequest { method, host, path, headers: &head.headers };
    let lost = snapshot.routes.lost_routes(place, &sought).into_iter();
    let lost = lost.map(|lost| Observation::noted(Room::Route, format!("not {}", lost.name), lost.why));
    chosen.chain(lost).collect()
}

/// The header fields by which routes of the place are chosen, as the request has them.
fn observed_fields(
    snapshot: &Snapshot,
    request: &CanonicalRequest,
    head: &ReceivedHead,
) -> impl Iterator<Item = Observation> {
    let names = snapshot.routes.condition_names_at(request.authority.host(), request.decoded_path());
    names.iter().map(|name| {
        let values = head.headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
        let values: Vec<_> = values.collect();
        let found = if values.is_empty() { "absent".to_owned() } else { values.join(" and ") };
        Observation::noted(Room::Route, format!("field {name}"), found)
    })
}

/// The special requests that a route has rules for: of pages of other origins, and for other protocols.
pub(super) fn observed_cors_and_upgrade(
    route: &Route,
    fields: &ResponseFields,
    upgrades: bool,
    requested: Option<&Method>,
) -> Vec<Observation> {
    let mut observed = Vec::new();
    if route.cors.is_some() {
        let granted = fields.granted_origin.as_ref().and_then(|origin| origin.to_str().ok());
        let found = granted.map_or_else(
            || "no page of another origin may read the answer".to_owned(),
            |origin| format!("pages of {origin} may read the answer"),
        );
        observed.push(Observation::noted(Room::Route, "cors", found));
        let preflight = requested.map(|method| format!("about {method}: answered by the gateway"));
        observed.extend(preflight.map(|found| Observation::noted(Room::Route, "preflight", found)));
    }
    if upgrades {
        observed.push(Observation::noted(Room::Route, "upgrade", "a protocol other than HTTP, which the route allows"));
    }
    observed
}
