//! Finds the caller of a request. Takes the header; gives a caller whose token was verified.
//!
//! An absent token, an invalid token and a token that cannot be verified now are three outcomes. A token is read from
//! `Authorization` and the fields that issuers are configured for, never from the query, the body or a cookie. It counts
//! only in the field of its issuer.

pub(crate) mod anew;
pub(crate) mod own_client;

use std::rc::Rc;
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::current_snapshot::CurrentSnapshot;
use super::static_callers::{PresentedStatic, check_static, count_failure};
use crate::clock::UnixTime;
use crate::oauth::bound::TokenBinding;
use crate::oauth::discrepancy::Discrepancy;
use crate::oauth::observer::{Observation, Observer, Outcome, Room};
use crate::pipeline::request::peer::Peer;
use crate::pipeline::routing::access::AccessRule;
use crate::pipeline::routing::snapshot::Snapshot;
use crate::trust::failed_check::{FailedCheck, RefusedToken, TokenError};
use crate::trust::introspection::places::Asker;
use crate::trust::passed_check::{self, report};
use crate::trust::token_fields::TokenFields;
use crate::trust::verify::{Expectations, Verified};
use own_client::check_client;

#[derive(Debug)]
pub(crate) enum AuthenticateError {
    /// No credentials: a challenge without an error code (RFC 6750 §3.1). `found` says what there was instead.
    Missing {
        found: &'static str,
        /// Those in which a token may come, too.
        fields: TokenFields,
        /// The binding that the token must have.
        bound: TokenBinding,
    },
    /// More than one `Authorization`, or credentials in several fields: it is unclear which ones count.
    Ambiguous(Box<Discrepancy>),
    /// A token that is not valid, or that can't be verified now.
    Refused(RefusedToken),
    /// The clock of this machine can't be right.
    Clock,
    /// The address has presented too many values that are no static tokens, or has too many tokens asked about.
    TooManyFailures { wait: Duration },
}

impl AuthenticateError {
    /// The values found and wanted, for the operator. `None` if the request is not the cause.
    pub(crate) fn discrepancy(&self) -> Option<Discrepancy> {
        match self {
            Self::Missing { found, fields, bound } => Some(Discrepancy::new(*found, fields.wanted(*bound))),
            Self::Ambiguous(values) => Some((**values).clone()),
            Self::Refused(refused) => Some((*refused.values).clone()),
            Self::Clock | Self::TooManyFailures { .. } => None,
        }
    }
}

/// The cause of a refusal may be a mistake or an attack. The caller learns in neither case which check failed.
pub(crate) async fn authenticate<'h>(
    current: &CurrentSnapshot,
    snapshot: &'h Snapshot,
    rule: &AccessRule,
    peer: &Peer,
    headers: &'h HeaderMap,
    now: UnixTime,
    observer: &mut impl Observer,
) -> Result<PresentedCaller<'h>, AuthenticateError> {
    let mut presented = presented(snapshot, headers, now);
    if let Err(AuthenticateError::Missing { bound, .. }) = &mut presented {
        *bound = rule.bound;
    }
    observer.observe(|| observed_credentials(&presented));
    let presented = presented?;
    let Presented { token, scheme, .. } = presented;
    let caller = find_caller((current, snapshot), rule, peer, presented, now, observer).await?;
    Ok(PresentedCaller { caller, token, scheme })
}

async fn find_caller(
    (current, snapshot): (&CurrentSnapshot, &Snapshot),
    rule: &AccessRule,
    peer: &Peer,
    presented: Presented<'_>,
    now: UnixTime,
    observer: &mut impl Observer,
) -> Result<Rc<Verified>, AuthenticateError> {
    let Presented { token, field, .. } = presented;
    let (expected, connection) = (rule.expectations(), &*peer.cache);
    if !snapshot.trust.static_tokens().is_empty() {
        match PresentedStatic::of(snapshot.trust.static_tokens(), token, field) {
            PresentedStatic::Token(place, token) => {
                let verified = current.static_callers.get(place, token);
                let checked = check_static(&verified, field, expected, now);
                let checked =
                    report(observer, "static token", checked, |()| passed_check::static_token(&verified.caller));
                checked.map_err(|check| verified.refused(check))?;
                token.used(now);
                return Ok(verified);
            }
            // It may be a token of an issuer that is asked about it.
            PresentedStatic::Unknown if snapshot.trust.asks_about_others(field, expected) => {}
            PresentedStatic::Unknown => return Err(unknown_static(count_failure(snapshot, peer.address))),
            PresentedStatic::Other => {}
        }
    }
    if let Some(verified) = current_caller((current, snapshot), token, expected, peer) {
        observer.observe(|| Observation::noted(Room::Authenticate, "token", "verified before"));
        let checked = verified.check_field(field);
        let checked = checked.and_then(|()| verified.revalidate(expected, now, tokio::time::Instant::now()));
        let checked = match checked {
            Ok(()) => check_client(&verified, snapshot).await,
            refused @ Err(_) => refused,
        };
        return match checked {
            Ok(()) => Ok(verified),
            Err(check) => {
                if is_final(check.reason) {
                    current.forget(token, connection);
                }
                Err(AuthenticateError::Refused(verified.refused(check)))
            }
        };
    }
    let asking = legal(token).ok().and_then(|text| Some((text, snapshot.trust.must_ask_about(text, expected)?)));
    let asker = asking.map(|(text, of)| current.inactive_tokens.may_ask(of, text, peer.address)).transpose();
    let asker = asker.map_err(|wait| AuthenticateError::TooManyFailures { wait })?;
    // Boxed to keep the common future small: most tokens are known.
    let verified = Box::pin(verify(snapshot, (presented, asker), expected, now, observer)).await;
    match &verified {
        Ok(_) if asker.is_some() => current.inactive_tokens.found_active(peer.address),
        Err(AuthenticateError::Refused(refused)) if asker.is_some() && refused.reason == TokenError::Inactive => {
            current.inactive_tokens.found_inactive(peer.address);
        }
        Ok(_) | Err(_) => {}
    }
    let verified = Rc::new(verified?);
    current.remember(token, Rc::clone(&verified));
    Ok(verified)
}

/// The caller that this token was verified for, unless an issuer has to be asked about it: its own again, or another one.
fn current_caller(
    (current, snapshot): (&CurrentSnapshot, &Snapshot),
    token: &[u8],
    expected: Expectations<'_>,
    peer: &Peer,
) -> Option<Rc<Verified>> {
    let verified = current.verified(token, snapshot, &peer.cache)?;
    let is_of_other = snapshot.trust.asks_another_about(&verified, expected);
    if is_of_other || verified.must_be_asked_about(tokio::time::Instant::now()) {
        current.forget(token, &peer.cache);
        return None;
    }
    Some(verified)
}

/// True if the token will never be valid again, at any route.
fn is_final(reason: TokenError) -> bool {
    match reason {
        TokenError::Expired | TokenError::UnknownKid | TokenError::Revoked | TokenError::UnknownClient => true,
        TokenError::Malformed
        | TokenError::TooManyScopes
        | TokenError::UnknownIssuer
        | TokenError::IssuerNotAllowed
        | TokenError::TypeNotAllowed
        | TokenError::AlgNotAllowed
        | TokenError::MissingClaim
        | TokenError::BadAudience
        | TokenError::NotYetValid
        | TokenError::KeysUnavailable
        | TokenError::BadSignature
        | TokenError::Proof(_)
        | TokenError::IntrospectionUnavailable
        | TokenError::StoreUnavailable
        | TokenError::Inactive
        | TokenError::NotProven
        | TokenError::NotBound
        | TokenError::StaticTokenEnded
        | TokenError::UnknownStaticToken => false,
    }
}

/// `counted` is the count of the failure.
fn unknown_static(counted: Result<(), Duration>) -> AuthenticateError {
    match counted {
        Ok(()) => AuthenticateError::Refused(FailedCheck::unknown_static_token().of(None)),
        Err(wait) => AuthenticateError::TooManyFailures { wait },
    }
}

impl From<RefusedToken> for AuthenticateError {
    fn from(refused: RefusedToken) -> Self {
        Self::Refused(refused)
    }
}

/// A verified caller, with the credentials as the request has them. Whether it has the key of the token is not checked.
#[derive(Debug)]
pub(crate) struct PresentedCaller<'h> {
    pub(crate) caller: Rc<Verified>,
    pub(crate) token: &'h [u8],
    pub(crate) scheme: TokenScheme,
}

/// How a token is presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenScheme {
    /// As a bearer token, also in a field of its own.
    Bearer,
    /// With a proof (RFC 9449 §7.1).
    Dpop,
}

/// A token, before its characters are checked, and its field. `None`: `Authorization`.
#[derive(Clone, Copy, Debug)]
struct Presented<'h> {
    token: &'h [u8],
    scheme: TokenScheme,
    field: Option<&'h HeaderName>,
}

fn presented<'h>(
    snapshot: &'h Snapshot,
    headers: &'h HeaderMap,
    now: UnixTime,
) -> Result<Presented<'h>, AuthenticateError> {
    let (fields, max_bytes) = (snapshot.trust.token_fields(), snapshot.limits.token_bytes);
    let presented =
        if fields.is_empty() { of_authorization(headers, max_bytes)? } else { only_token(fields, headers, max_bytes)? };
    if now.is_plausible() { Ok(presented) } else { Err(AuthenticateError::Clock) }
}

async fn verify(
    snapshot: &Snapshot,
    (Presented { token, field, .. }, asker): (Presented<'_>, Option<Asker>),
    expected: Expectations<'_>,
    now: UnixTime,
    observer: &mut impl Observer,
) -> Result<Verified, AuthenticateError> {
    let text = legal(token)?;
    let placed = snapshot.trust.check_field_of(text, field, expected);
    placed.map_err(|check| AuthenticateError::Refused(check.of(None)))?;
    let verified = snapshot.trust.verify_of((text, asker), expected, now, observer).await;
    let verified = verified.map_err(AuthenticateError::Refused)?;
    let in_field = report(observer, "header field", verified.check_field(field), |()| {
        let name = field.map_or(AUTHORIZATION.as_str(), HeaderName::as_str);
        Discrepancy::new(format!("a token in {name}"), format!("a token in {name}"))
    });
    let mut checked = in_field;
    if checked.is_ok() && verified.is_own() {
        let known = check_client(&verified, snapshot).await;
        let values = |_: &()| *FailedCheck::unknown_client(verified.caller.client.as_ref()).values;
        checked = report(observer, "client", known, values);
    }
    checked.map_err(|check| AuthenticateError::Refused(verified.refused(check)))?;
    Ok(verified)
}

/// The credentials of a request. The token is not shown.
fn observed_credentials(presented: &Result<Presented<'_>, AuthenticateError>) -> Observation {
    match presented {
        Ok(Presented { token, field, .. }) => {
            let name = field.map_or(AUTHORIZATION.as_str(), HeaderName::as_str);
            Observation::noted(Room::Authenticate, "credentials", format!("a token of {} bytes in {name}", token.len()))
        }
        Err(error) => {
            let values =
                error.discrepancy().unwrap_or_else(|| Discrepancy::new("the clock of this machine is wrong", ""));
            Observation::new(Room::Authenticate, "credentials", Outcome::Failed, values)
        }
    }
}

/// The token of a request that has credentials in one of the fields or in `Authorization`, and not in several.
fn only_token<'h>(
    fields: &'h TokenFields,
    headers: &'h HeaderMap,
    max_bytes: usize,
) -> Result<Presented<'h>, AuthenticateError> {
    let authorization = of_authorization(headers, max_bytes);
    let mut present = fields.present(headers);
    let Some(field) = present.next() else {
        return match authorization {
            Ok(presented) => Ok(presented),
            Err(AuthenticateError::Missing { found, bound, .. }) => {
                Err(AuthenticateError::Missing { found, fields: fields.clone(), bound })
            }
            Err(error) => Err(error),
        };
    };
    let mut values = headers.get_all(field).iter();
    let token = values.next().map(HeaderValue::as_bytes).unwrap_or_default();
    let has_other = !matches!(authorization, Err(AuthenticateError::Missing { .. }));
    if let Some(other) = present.next().or(has_other.then_some(&AUTHORIZATION)) {
        return Err(ambiguous(format!("credentials in {field} and {other}")));
    }
    if values.next().is_some() {
        return Err(ambiguous(format!("more than one {field}")));
    }
    Ok(Presented { token: of_legal_length(token, max_bytes)?, scheme: TokenScheme::Bearer, field: Some(field) })
}

/// The token of a `Bearer` or `DPoP` credential (RFC 6750 §2.1, RFC 9449 §7.1), before its characters are checked.
fn of_authorization(headers: &HeaderMap, max_bytes: usize) -> Result<Presented<'_>, AuthenticateError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or_else(|| missing("no Authorization"))?.as_bytes();
    if values.next().is_some() {
        return Err(ambiguous("more than one Authorization"));
    }
    let name = value.split(|byte| *byte == b' ').next().unwrap_or_default();
    let scheme = match name {
        name if name.eq_ignore_ascii_case(b"bearer") => TokenScheme::Bearer,
        name if name.eq_ignore_ascii_case(b"dpop") => TokenScheme::Dpop,
        // Credentials of another scheme, such as the service's own Basic login, count as none.
        other => return Err(missing(other_credentials(other))),
    };
    let after = value.get(name.len()..).unwrap_or_default();
    let spaces = after.iter().take_while(|byte| **byte == b' ').count();
    let token = of_legal_length(after.get(spaces..).unwrap_or_default(), max_bytes)?;
    Ok(Presented { token, scheme, field: None })
}

fn of_legal_length(token: &[u8], max_bytes: usize) -> Result<&[u8], AuthenticateError> {
    match token.len() {
        0 => Err(malformed("an empty token", "a token")),
        length if length > max_bytes => {
            let wanted = format!("a token of at most {max_bytes} bytes (limits.token_bytes)");
            Err(malformed(format!("a token of {length} bytes"), wanted))
        }
        _ => Ok(token),
    }
}

/// Names the scheme only if it is a known one: without a scheme, the first word may be the token itself.
fn other_credentials(scheme: &[u8]) -> &'static str {
    const KNOWN: [(&str, &str); 5] = [
        ("basic", "Authorization of the scheme Basic"),
        ("digest", "Authorization of the scheme Digest"),
        ("negotiate", "Authorization of the scheme Negotiate"),
        ("ntlm", "Authorization of the scheme NTLM"),
        ("token", "Authorization of the scheme Token"),
    ];
    let known = KNOWN.iter().find(|(name, _)| scheme.eq_ignore_ascii_case(name.as_bytes()));
    known.map_or("Authorization of another scheme, or of none", |(_, found)| found)
}

/// The text of a token with legal characters only.
fn legal(token: &[u8]) -> Result<&str, AuthenticateError> {
    let legal = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'=');
    match token.iter().position(|byte| !legal(byte)) {
        None => std::str::from_utf8(token).map_err(|_| illegal_at(0)),
        Some(at) => Err(illegal_at(at)),
    }
}

fn illegal_at(at: usize) -> AuthenticateError {
    malformed(format!("a token with an illegal character after {at} others"), "letters, digits and -._~+/= only")
}

fn missing(found: &'static str) -> AuthenticateError {
    AuthenticateError::Missing { found, fields: TokenFields::default(), bound: TokenBinding::None }
}

fn ambiguous(found: impl Into<String>) -> AuthenticateError {
    AuthenticateError::Ambiguous(Box::new(Discrepancy::new(found, "credentials in one header field")))
}

fn malformed(found: impl Into<String>, wanted: impl Into<String>) -> AuthenticateError {
    AuthenticateError::Refused(FailedCheck::new(TokenError::Malformed, found, wanted).of(None))
}

#[cfg(test)]
mod tests;
