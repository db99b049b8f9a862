//! Tokens that the gateway cannot read: their issuer is asked about them.
//!
//! A token goes to an introspection endpoint only where the route accepts its issuer, and the token is certainly no
//! other issuer's: it is no JWT, or a JWT that names this issuer. A JWT that names none goes there if the route accepts
//! no other issuer.

use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::HeaderName;
use serde_json::{Map, Value};

use super::checks::{check_audience, check_time};
use super::{AllowedIssuers, Expectations, TokenEvidence, Trust, Verified, VerifiedToken};
use crate::clock::UnixTime;
use crate::jose::claims::{Claims, ClaimsFault};
use crate::jose::token::unverified_claims;
use crate::oauth::CLIENT_SECRET_PREFIX;
use crate::oauth::observer::Observer;
use crate::trust::caller_claims::caller;
use crate::trust::claimed_caller::ClaimedCaller;
use crate::trust::entry_choice::{self, claimed_entry};
use crate::trust::failed_check::{FailedCheck, RefusedToken, TokenError};
use crate::trust::field_check::check_place;
use crate::trust::introspection::Introspection;
use crate::trust::introspection::answer::TokenAnswer;
use crate::trust::introspection::places::Asker;
use crate::trust::issuer::TrustedIssuer;
use crate::trust::passed_check::{self, report};

/// An issuer with its introspection endpoint.
pub(in crate::trust) type Introspecting<'t> = (&'t Arc<TrustedIssuer>, &'t Arc<Introspection>);

impl Trust {
    /// The endpoint that a request with this token is about to cause a request to.
    pub(crate) fn must_ask_about(&self, token: &str, expected: Expectations<'_>) -> Option<&Arc<Introspection>> {
        let (_, introspection) = self.introspecting(token, expected)?;
        (!introspection.knows(token)).then_some(introspection)
    }

    /// Whether one of these issuers is asked about its tokens.
    pub(crate) fn introspects_for(&self, expected: Expectations<'_>) -> bool {
        self.accepted_introspecting(expected).is_some()
    }

    /// The members of its issuer's answer about an opaque token, for an operator. `None`: no issuer is asked about it,
    /// or it is not active.
    pub(crate) async fn answer_about(&self, token: &str) -> Option<Map<String, Value>> {
        let (_, introspection) = self.introspecting(token, Expectations::any_route()).filter(|_| !is_jwt(token))?;
        match &*introspection.ask(token, None).await.ok()? {
            TokenAnswer::Active(active) => active.claims().ok().map(|claims| claims.all),
            TokenAnswer::Inactive => None,
        }
    }

    /// Whether a value in this field that is no token of another kind goes to an introspection endpoint.
    pub(crate) fn asks_about_others(&self, field: Option<&HeaderName>, expected: Expectations<'_>) -> bool {
        let accepted = self.accepted_introspecting(expected);
        accepted.is_some_and(|(issuer, _)| issuer.settings.token_field.as_ref() == field)
    }

    /// Whether a token that one issuer was asked about belongs to another one here. The answer of one
    /// about an opaque token does not count for the other.
    pub(crate) fn asks_another_about(&self, verified: &Verified, expected: Expectations<'_>) -> bool {
        let Some(VerifiedToken { evidence: TokenEvidence::Introspection(_), issuer, .. }) = verified.token() else {
            return false;
        };
        self.accepted_introspecting(expected).is_some_and(|(accepted, _)| !Arc::ptr_eq(accepted, issuer))
    }

    /// Checks the field of a token before its issuer is asked about it.
    pub(crate) fn check_field_of(
        &self,
        token: &str,
        field: Option<&HeaderName>,
        expected: Expectations<'_>,
    ) -> Result<(), FailedCheck> {
        let introspecting = self.introspecting(token, expected);
        introspecting.map_or(Ok(()), |(issuer, _)| check_place(field, issuer.settings.token_field.as_ref()))
    }

    /// The issuer that is asked about this token.
    pub(in crate::trust) fn introspecting(&self, token: &str, expected: Expectations<'_>) -> Option<Introspecting<'_>> {
        let found = self.accepted_introspecting(expected)?;
        if token.starts_with(CLIENT_SECRET_PREFIX) {
            return None;
        }
        if !is_jwt(token) {
            return Some(found);
        }
        let claims = unverified_claims(token).filter(|_| has_parts_of_jwt(token))?;
        let entry = claimed_entry(self.issuers(), |issuer| &issuer.settings, &claims);
        let is_its_own = match (entry, entry_choice::issuer(&claims)) {
            (Some(entry), _) => Arc::ptr_eq(entry, found.0),
            (None, Some(_)) => false,
            (None, None) => claims.get("iss").is_none_or(Value::is_null) && self.is_only_one(found.0, expected),
        };
        is_its_own.then_some(found)
    }

    /// The one issuer with introspection that is accepted. The configuration allows no second one at a route.
    fn accepted_introspecting(&self, expected: Expectations<'_>) -> Option<Introspecting<'_>> {
        if !self.introspects {
            return None;
        }
        let is_accepted = |issuer: &&Arc<TrustedIssuer>| match expected.issuers {
            AllowedIssuers::All => true,
            AllowedIssuers::Only(names) => names.contains(&issuer.settings.name),
        };
        let accepted = self.issuers().iter().filter(is_accepted);
        let mut introspecting = accepted.filter_map(|issuer| Some((issuer, issuer.introspection.as_ref()?)));
        introspecting.next().filter(|_| introspecting.next().is_none())
    }

    fn is_only_one(&self, issuer: &TrustedIssuer, expected: Expectations<'_>) -> bool {
        match expected.issuers {
            AllowedIssuers::All => self.issuers().len() == 1,
            AllowedIssuers::Only(names) => names.iter().all(|name| *name == issuer.settings.name),
        }
    }

    /// Asks about a token, and checks the answer like the claims of a JWT.
    pub(super) async fn verify_introspected(
        &self,
        (issuer, introspection): Introspecting<'_>,
        (token, asker): (&str, Option<Asker>),
        expected: Expectations<'_>,
        now: UnixTime,
        observer: &mut impl Observer,
    ) -> Result<Verified, RefusedToken> {
        let name = &issuer.settings.name;
        let unread = || Some(ClaimedCaller::of_entry(name, &Map::new()));
        let asked = introspection.ask(token, asker).await;
        let asked = asked.map_err(|why| FailedCheck::introspection_unavailable(name, &why.0));
        let asked = asked.and_then(|answer| match &*answer {
            TokenAnswer::Active(active) => Ok((active.until, active.claims()?)),
            TokenAnswer::Inactive => Err(FailedCheck::inactive(name)),
        });
        let asked = report(observer, "introspection", asked, |_| passed_check::active(name));
        let (until, mut claims) = asked.map_err(|check| check.of(unread()))?;
        let completed = issuer.settings.audiences.complete(&mut claims).map_err(FailedCheck::from);
        let checked = completed.and_then(|()| check_answer(issuer, &claims, expected, now, observer));
        let found = checked.and_then(|()| {
            let caller = caller(&issuer.settings, &claims).map_err(FailedCheck::from);
            report(observer, "caller", caller, passed_check::caller)
        });
        let fail = |check: FailedCheck| check.of(Some(ClaimedCaller::of_entry(name, &claims.all)));
        let caller = found.map_err(fail)?;
        let version = self.check_revocations(issuer, &caller, &claims, observer).map_err(fail)?;
        Ok(self.accepted(issuer, claims, caller, TokenEvidence::Introspection(until), version))
    }
}

fn check_answer(
    issuer: &TrustedIssuer,
    claims: &Claims,
    expected: Expectations<'_>,
    now: UnixTime,
    observer: &mut impl Observer,
) -> Result<(), FailedCheck> {
    report(observer, "iss", check_iss(issuer, claims), |()| passed_check::entry(issuer, claims))?;
    report(observer, "typ", check_kind(issuer, claims), |()| passed_check::kind())?;
    let accepted = check_audience(issuer, claims, expected);
    report(observer, "aud", accepted, |accepted| passed_check::audience(issuer, claims, *accepted))?;
    check_time(claims, issuer.settings.clock_skew, now, observer)
}

/// An answer that names an issuer is about a token of this one.
fn check_iss(issuer: &TrustedIssuer, claims: &Claims) -> Result<(), FailedCheck> {
    match &claims.issuer {
        Some(found) if found != issuer.settings.issuer.as_str() => Err(FailedCheck::answer_of_issuer(issuer, found)),
        Some(_) | None => Ok(()),
    }
}

/// Checks that it is an access token: servers answer about refresh tokens and ID tokens as well. `token_type` is that of
/// RFC 6749 §5.1; some servers name the kind of token in `token_use` or `typ`.
fn check_kind(issuer: &TrustedIssuer, claims: &Claims) -> Result<(), FailedCheck> {
    let is_type = |text: &str| ["bearer", "dpop"].iter().any(|known| text.eq_ignore_ascii_case(known));
    for (name, wanted) in [("token_type", "Bearer or DPoP"), ("token_use", "access_token"), ("typ", "an access token")]
    {
        let text = match claims.all.get(name) {
            None | Some(Value::Null) => continue,
            Some(Value::String(text)) => text.as_str(),
            Some(other) => return Err(ClaimsFault::wrong_type(name, other, "a string").into()),
        };
        let is_good = match name {
            "token_use" => matches!(text, "access_token" | "access"),
            "typ" => is_type(text) || issuer.settings.types.accept(Some(text)),
            _ => is_type(text),
        };
        if !is_good {
            return Err(FailedCheck::other_kind(name, text, wanted));
        }
        if name == "token_type" && text.eq_ignore_ascii_case("dpop") && claims.confirmation.key.is_none() {
            return Err(FailedCheck::new(
                TokenError::Malformed,
                "token_type=DPoP without cnf.jkt",
                "the key in cnf.jkt",
            ));
        }
    }
    Ok(())
}

/// Whether a token has the form of a JWT, signed or encrypted, whole, cut off or misspelt: one of its parts is a JSON
/// object in base64.
fn is_jwt(token: &str) -> bool {
    token.starts_with("eyJ") || (token.contains('.') && token.split('.').any(is_encoded_object))
}

/// Whether the claims of a JWT are where they should be: in the second of three parts, behind a header. Otherwise a
/// header may be taken for claims.
fn has_parts_of_jwt(token: &str) -> bool {
    let mut parts = token.split('.');
    parts.next().is_some_and(is_encoded_object) && parts.count() == 2
}

/// Whether this decodes to the beginning of a JSON object, in any alphabet of base64, behind white space or a byte order
/// mark. Looks at its first characters only, so that random text is hardly ever taken for one.
fn is_encoded_object(part: &str) -> bool {
    let known = part.bytes().filter_map(|byte| match byte {
        b'+' => Some(b'-'),
        b'/' => Some(b'_'),
        other => (other.is_ascii_alphanumeric() || matches!(other, b'-' | b'_')).then_some(other),
    });
    let known: Vec<u8> = known.collect();
    let whole = known.len() - if known.len() % 4 == 1 { 1 } else { 0 };
    let decoded = known.get(..whole).and_then(|known| BASE64URL_LENIENT.decode(known).ok()).unwrap_or_default();
    let text = decoded.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&decoded).trim_ascii_start();
    let Some(members) = text.strip_prefix(b"{") else { return false };
    match members.trim_ascii_start() {
        [] => decoded.len() > 1,
        [b'}', ..] => true,
        [b'"', name @ ..] => name.iter().take(4).all(|byte| (b' '..=b'~').contains(byte)),
        _ => false,
    }
}

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Accepts padding, and any last bits.
const BASE64URL_LENIENT: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jwt_is_known_by_its_header_whatever_follows() {
        for jwt in ["eyJhbGciOiJub25lIn0.e30.", "eyJ", "eyJhbGciOiJkaXIifQ....", "eyAg.x", "ewo.x.y", "IHsiYSI6MX0.b.c"]
        {
            assert!(is_jwt(jwt), "{jwt}");
        }
        for opaque in ["", "abc", "a.b.c", "ory_at_x.y", "ey.ey.ey", "2YotnFZFEjr1zCsicMWpAA", "e30", ".....", "x.eyz_"]
        {
            assert!(!is_jwt(opaque), "{opaque}");
        }
    }

    #[test]
    fn a_misspelt_jwt_is_a_jwt() {
        const JWT: &str = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJodHRwczovL2NvcnAuZXhhbXBsZSJ9.c2ln";
        let (header, rest) = JWT.split_once('.').unwrap();
        for misspelt in [
            format!("77u/{header}.{rest}"),
            format!("77u_{header}=.{rest}"),
            format!("{header}==.{rest}"),
            format!("{header}A.{rest}"),
            format!("x{header}.{rest}"),
            format!(".{JWT}"),
            format!("a.{JWT}"),
            format!("=eyJ.{rest}"),
            JWT[1..].to_owned(),
            rest.to_owned(),
            "77u_eyJhbGciOiJFUzI1NiJ9.x".to_owned(),
            "CgogeyAiYWxnIjoxfQ.x".to_owned(),
            "x.CXsKICJpc3MiOiJ4In0".to_owned(),
        ] {
            assert!(is_jwt(&misspelt), "{misspelt}");
        }
    }
}
