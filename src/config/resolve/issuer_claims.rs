//! The keys of an issuer about the claims of its tokens: subject, audiences and scopes.

use super::super::decode::{Named, Required};
use super::super::raw::claim::{RawClaimRule, RawWantedValue};
use super::super::raw::issuer::{RawAudiences, RawClaimPath, RawIssuer, RawScopeClaim, RawSubjectClaim};
use super::super::raw::route::{RawAccess, RawRoute, RawRule};
use super::super::source::{At, Span};
use super::{Resolved, Resolver};
use crate::oauth::segment_pattern::SegmentPattern;
use crate::trust::audiences::AcceptedAudiences;
use crate::trust::scope_claim::{ClaimPath, ScopeClaim};

/// The claims that a key may name.
const MAX_CLAIMS: usize = 16;
/// The names in a path. The JSON of a token is nested no deeper.
const MAX_PARTS: usize = 16;
/// The routes that one message names.
const NAMED_ROUTES: usize = 5;

impl Resolver<'_> {
    pub(super) fn audiences(
        &mut self,
        raw: Option<&Required<RawAudiences>>,
        claim: Option<&At<String>>,
    ) -> Resolved<AcceptedAudiences> {
        if let Some(claim) = claim {
            self.not_empty(claim);
            if claim.value == "aud" {
                self.faults.at(claim.span, "`aud` is read anyway: name the claim that is there instead of it");
            }
        }
        let Some(raw) = raw else { return Ok(AcceptedAudiences::FederationOnly) };
        let raw = raw.as_ref().map_err(|reported| *reported)?;
        Ok(match &raw.value {
            RawAudiences::Listed(list) => AcceptedAudiences::Listed {
                accepted: self.literals(list, "`aud` is compared exactly").into_iter().map(|at| at.value).collect(),
                instead_of_aud: claim.map(|claim| claim.value.clone()),
            },
            RawAudiences::Unlimited => {
                if let Some(claim) = claim {
                    let message =
                        "`audience_claim` has no effect with `audiences: unlimited`: remove it, or list the audiences";
                    self.faults.at(claim.span, message);
                }
                AcceptedAudiences::Unlimited
            }
        })
    }

    pub(super) fn subject_claims(&mut self, raw: &RawIssuer) -> Vec<String> {
        let Some(At { value: RawSubjectClaim(list), span }) = &raw.subject_claim else { return vec!["sub".to_owned()] };
        if raw.spiffe.is_some() {
            self.faults.at(*span, "the subject of a JWT-SVID is its SPIFFE ID: remove this");
        }
        let claims: Vec<_> = list.items.iter().map(|name| (name.value.clone(), name.span)).collect();
        self.each_once(&claims);
        self.texts(list)
    }

    pub(super) fn scope_claim(&mut self, raw: &RawScopeClaim) -> ScopeClaim {
        let list = match raw {
            RawScopeClaim::Auto => return ScopeClaim::Auto,
            RawScopeClaim::Named(list) => list,
        };
        let mut claims = Vec::new();
        for path in &list.items {
            let claim = match &path.value {
                RawClaimPath::Text(text) => {
                    if text == "auto" {
                        let message = "`auto` stands alone: name each claim, or write `[auto]` in its place for a claim of this name";
                        self.faults.at(path.span, message);
                    }
                    self.not_empty(&At { value: text.clone(), span: path.span });
                    ClaimPath::Text(text.clone())
                }
                RawClaimPath::Parts(parts) => {
                    if parts.items.len() > MAX_PARTS {
                        self.faults.at(path.span, format!("expected at most {MAX_PARTS} names"));
                    }
                    ClaimPath::Parts(self.texts(parts))
                }
            };
            claims.push((claim, path.span));
        }
        self.each_once(&claims);
        ScopeClaim::Named(claims.into_iter().map(|(claim, _)| claim).collect())
    }

    /// An issuer whose tokens may be for any audience: other services get such tokens too, and can send them here. So
    /// each route that accepts it must restrict the callers in another way.
    pub(super) fn unlimited_audiences(&mut self, issuers: &Named<RawIssuer>, routes: &[At<RawRoute>]) {
        for (name, issuer) in &issuers.entries {
            let Ok(At { value: RawIssuer { audiences: Some(Ok(audiences)), .. }, .. }) = issuer else { continue };
            if !matches!(audiences.value, RawAudiences::Unlimited) {
                continue;
            }
            let open: Vec<String> = routes
                .iter()
                .filter(|route| lets_in_any(&route.value, &name.value))
                .map(|route| self.named_route(route))
                .collect();
            if open.is_empty() {
                continue;
            }
            let (first, more) = open.split_at(open.len().min(NAMED_ROUTES));
            let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
            let routes = if open.len() == 1 { "the route" } else { "the routes" };
            let message = format!(
                "with `unlimited`, any token of issuer `{}` can use {routes} {}{more}: give each of them \
                 `access.claims` that not all its tokens pass, `access.clients` or `access.audiences`, or list the \
                 audiences of the issuer",
                name.value,
                first.join(", "),
            );
            self.faults.at(audiences.span, message);
        }
    }

    /// The route as it is written in the file.
    fn named_route(&self, route: &At<RawRoute>) -> String {
        let path = route.value.path.as_ref().map_or(route.span, |path| path.span);
        let name = route.value.name.as_ref().map_or(path, |name| name.span);
        let line = self.source.line(name);
        match self.source.quote(name) {
            Some(quoted) => format!("{quoted} (line {line})"),
            None => format!("at line {line}"),
        }
    }

    fn not_empty(&mut self, text: &At<String>) {
        if text.value.is_empty() {
            self.faults.at(text.span, "this text is empty");
        }
    }

    fn each_once<C: PartialEq>(&mut self, claims: &[(C, Span)]) {
        for (index, (claim, span)) in claims.iter().enumerate() {
            if claims[..index].iter().any(|(earlier, _)| earlier == claim) {
                self.faults.at(*span, "this claim is listed twice");
            }
        }
        if let Some((_, span)) = claims.get(MAX_CLAIMS) {
            self.faults.at(*span, format!("expected at most {MAX_CLAIMS} claims"));
        }
    }
}

/// Whether any valid token of this issuer gets through, if no audience is checked.
fn lets_in_any(route: &RawRoute, issuer: &str) -> bool {
    let Ok(At { value: RawAccess::Rule { rule, .. }, .. }) = &route.access else { return false };
    let RawRule { issuers, audiences, claims, clients, scopes: _, bound: _ } = &**rule;
    let accepts = issuers.as_ref().is_none_or(|list| list.value.items.iter().any(|name| name.value == issuer));
    let is_narrowed = clients.is_some() || audiences.is_some();
    accepts && !is_narrowed && !claims.entries.iter().any(|(name, rule)| restricts(&name.value, rule))
}

/// Whether a rule for this claim keeps out any token of an issuer. All have its `iss`, and each text with as many
/// segments fits a glob of wildcards only.
fn restricts(claim: &str, rule: &Required<RawClaimRule>) -> bool {
    let fits_any = |value: &At<RawWantedValue>| match &value.value {
        RawWantedValue::Glob(glob) => SegmentPattern::parse(&glob.value).is_ok_and(|glob| glob.is_all_wildcards()),
        RawWantedValue::Plain(_) | RawWantedValue::Exact(_) => false,
    };
    claim != "iss" && rule.as_ref().map_or(true, |rule| !rule.value.0.items.iter().any(fits_any))
}
