//! The decisions of a gateway about one token: on the token itself, and at a route.
//!
//! They are made by the functions that a request goes through. A request gets one code for several causes; here the
//! operator sees which of them it is.

use std::net::IpAddr;
use std::rc::Rc;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};

use super::refusal::{Cause, Refusal};
use crate::clock::UnixTime;
use crate::oauth::observer::Unobserved;
use crate::pipeline::policy::authenticate::AuthenticateError;
use crate::pipeline::policy::authenticate::anew::authenticate_anew;
use crate::pipeline::policy::authorize::{Admitted, admit, authorize};
use crate::pipeline::policy::possession::ProvenCaller;
use crate::pipeline::routing::access::{Access, AccessRule, Forbidden, missing_scope};
use crate::pipeline::routing::route::Route;
use crate::pipeline::routing::snapshot::Snapshot;
use crate::trust::failed_check::{FailedCheck, TokenError};
use crate::trust::verify::{AllowedAudiences, Expectations, Verified};

/// A request with a token, as far as it is known.
pub(super) struct TokenRequest<'t> {
    pub(super) token: &'t str,
    /// The field that the token came in. `None`: that of its issuer.
    pub(super) field: Option<HeaderName>,
    pub(super) from: Option<IpAddr>,
    pub(super) now: UnixTime,
    /// The answer of its issuer about an opaque token.
    pub(super) answer: Option<Map<String, Value>>,
}

impl TokenRequest<'_> {
    /// The decision on the token alone. It must be for some route, or for the gateway by its issuer's audiences.
    pub(super) async fn verdict(&self, snapshot: &Snapshot) -> Result<Verified, Refusal> {
        let verified = self.authenticate(snapshot, Expectations::any_route()).await?;
        check_any_audience(&verified, snapshot, self.now)?;
        Ok(verified)
    }

    /// The decision of a protected route. `None` for a public one.
    pub(super) async fn decision(&self, snapshot: &Snapshot, route: &Route) -> Option<Result<(), Refusal>> {
        match &route.access {
            Access::Public => None,
            Access::Protected(rule) => Some(self.decide(snapshot, route, rule).await.map_err(|mut refusal| {
                if route.only_reports(self.now) && !matches!(refusal.cause, Cause::Address) {
                    let until = route.report_until.map(UnixTime::to_the_second).unwrap_or_default();
                    refusal.text += &format!(" (until {until} the route only reports this, and the request passes)");
                }
                refusal
            })),
        }
    }

    async fn authenticate(&self, snapshot: &Snapshot, expected: Expectations<'_>) -> Result<Verified, Refusal> {
        let of_issuer = snapshot.trust.field_of(self.token).unwrap_or(&AUTHORIZATION);
        let field = self.field.as_ref().unwrap_or(of_issuer);
        let scheme = if field == AUTHORIZATION { "Bearer " } else { "" };
        let Ok(credentials) = HeaderValue::try_from(format!("{scheme}{}", self.token)) else {
            let (found, wanted) = ("a token with an illegal character", "letters, digits and -._~+/= only");
            return Err(FailedCheck::new(TokenError::Malformed, found, wanted).into());
        };
        let headers = HeaderMap::from_iter([(field.clone(), credentials)]);
        authenticate_anew(snapshot, expected, &headers, self.now).await.map_err(|error| {
            let is_about_field = match &error {
                AuthenticateError::Missing { .. } => true,
                AuthenticateError::Refused(refused) => {
                    refused.reason == TokenError::IssuerNotAllowed && field != of_issuer
                }
                AuthenticateError::Ambiguous(_)
                | AuthenticateError::Clock
                | AuthenticateError::TooManyFailures { .. } => false,
            };
            let refusal = Refusal::from(error);
            if is_about_field { Refusal { cause: Cause::Field, ..refusal } } else { refusal }
        })
    }

    async fn decide(&self, snapshot: &Snapshot, route: &Route, rule: &AccessRule) -> Result<(), Refusal> {
        let admitted = admit(route, self.from).map_err(|forbidden| self.refusal(forbidden, rule, None))?;
        let caller = Rc::new(self.authenticate(snapshot, rule.expectations()).await?);
        self.authorize(snapshot, (&admitted, rule), &caller)
    }

    fn authorize(
        &self,
        snapshot: &Snapshot,
        (admitted, rule): (&Admitted<'_>, &AccessRule),
        caller: &Rc<Verified>,
    ) -> Result<(), Refusal> {
        let own = snapshot.oauth.as_ref().map(|oauth| &*oauth.server);
        let proven = ProvenCaller::without_request(caller, rule.bound)?;
        let authorized = authorize(admitted, rule, proven, own, &mut Unobserved);
        authorized.map(drop).map_err(|forbidden| self.refusal(forbidden, rule, Some(caller)))
    }

    /// `caller` is `None` before the token is looked at.
    fn refusal(&self, forbidden: Forbidden, rule: &AccessRule, caller: Option<&Verified>) -> Refusal {
        let values = Box::new(forbidden.discrepancy());
        let refused = |reason, meaning: &str, cause| {
            let text = format!("{meaning}: {values}");
            Refusal { values: Some(values.clone()), ..Refusal::by_route(reason, text, cause) }
        };
        match forbidden {
            Forbidden::MissingScope { all_of, any_of, .. } => {
                let wanted = all_of.iter().chain(any_of.iter()).map(|scope| scope.as_str().to_owned()).collect();
                let is_own = caller.is_some_and(Verified::is_own);
                let is_static = caller.is_some_and(|caller| caller.token().is_none());
                let cause = match (is_own, is_static) {
                    (true, _) => Cause::OwnScope,
                    (false, true) => Cause::StaticScope,
                    (false, false) => Cause::Scope(wanted),
                };
                refused("missing_scope", &missing_scope(&all_of, &any_of), cause)
            }
            Forbidden::ClaimMismatch(_) => {
                let values = caller.and_then(Verified::claims);
                let broken = rule.claims.iter().filter(|claim| caller.is_some() && !claim.holds(values));
                let claims: Vec<_> = broken.collect();
                let paths: Vec<String> = claims.iter().map(|claim| format!("`{}`", claim.path)).collect();
                let text = format!("the route requires another value of the claim {}", paths.join(", "));
                let first = claims.first().map(|claim| claim.path.clone()).unwrap_or_default();
                refused("claim_mismatch", &text, Cause::Claim(first))
            }
            Forbidden::AddressNotAllowed { from: None, list } => {
                let text = format!("the caller must have an address {list}, {UNKNOWN_ADDRESS}");
                Refusal::by_route("address_not_allowed", text, Cause::Address)
            }
            Forbidden::AddressNotAllowed { from: Some(_), .. } => {
                refused("address_not_allowed", "the caller may not use the route from this address", Cause::Address)
            }
            Forbidden::ClientNotAllowed(_) => {
                refused("client_not_allowed", "the route's `clients` does not contain the client", Cause::Client)
            }
        }
    }
}

const UNKNOWN_ADDRESS: &str = "which is not known: give it with --from ADDRESS";

/// A route accepts the token's audience, or its issuer does.
fn check_any_audience(verified: &Verified, snapshot: &Snapshot, now: UnixTime) -> Result<(), FailedCheck> {
    let instant = tokio::time::Instant::now();
    let mut rules = snapshot.routes.routes().iter().filter_map(|route| match &route.access {
        Access::Public => None,
        Access::Protected(rule) => Some(rule.expectations()),
    });
    let is_for_another = |reason| matches!(reason, TokenError::BadAudience | TokenError::IssuerNotAllowed);
    let accepts =
        |expected| !verified.revalidate(expected, now, instant).is_err_and(|check| is_for_another(check.reason));
    if rules.any(accepts) {
        return Ok(());
    }
    let of_issuer = Expectations { audiences: AllowedAudiences::OfIssuer, ..Expectations::any_route() };
    match verified.revalidate(of_issuer, now, instant) {
        Err(check) if check.reason == TokenError::BadAudience => Err(check),
        Ok(()) | Err(_) => Ok(()),
    }
}
