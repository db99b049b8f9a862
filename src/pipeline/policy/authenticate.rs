//! Finds the caller of a request. Takes the `Authorization` header; gives a caller whose token was verified.
//!
//! An absent token, an invalid token and a token that cannot be verified now are three outcomes. A token is read from
//! this header only, never from the query, the body or a cookie.

use std::rc::Rc;

use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::current_snapshot::CurrentSnapshot;
use crate::clock::UnixTime;
use crate::pipeline::request::connection_cache::ConnectionCache;
use crate::pipeline::routing::access::AccessRule;
use crate::pipeline::routing::snapshot::Snapshot;
use crate::trust::verify::{Expectations, RefusedToken, TokenError, Verified};

#[derive(Debug)]
pub(crate) enum AuthenticateError {
    /// No credentials: a challenge without an error code (RFC 6750 §3.1).
    Missing,
    /// More than one `Authorization`: it is unclear which one counts.
    Ambiguous,
    /// A token that is not valid, or that can't be verified now.
    Refused(RefusedToken),
    /// The clock of this machine can't be right.
    Clock,
}

/// The cause of a refusal may be a mistake or an attack. The caller learns in neither case which check failed.
pub(crate) async fn authenticate(
    current: &CurrentSnapshot,
    snapshot: &Snapshot,
    rule: &AccessRule,
    connection: &ConnectionCache,
    headers: &HeaderMap,
    now: UnixTime,
) -> Result<Rc<Verified>, AuthenticateError> {
    let token = presented(snapshot, headers, now)?;
    let expected = rule.expectations();
    if let Some(verified) = current.verified(token, snapshot, connection) {
        let checked = verified.revalidate(expected, now, tokio::time::Instant::now());
        return match checked.and_then(|()| check_client(&verified, snapshot)) {
            Ok(()) => Ok(verified),
            Err(reason) => {
                if is_final(reason) {
                    current.forget(token, connection);
                }
                Err(AuthenticateError::Refused(verified.refused(reason)))
            }
        };
    }
    // Boxed to keep the common future small: most tokens are known.
    let verified = Rc::new(Box::pin(verify(snapshot, token, expected, now)).await?);
    current.remember(token, Rc::clone(&verified));
    Ok(verified)
}

/// One of our own tokens is valid only as long as its client is configured.
pub(crate) fn check_client(verified: &Verified, snapshot: &Snapshot) -> Result<(), TokenError> {
    let is_known = || snapshot.oauth.as_ref().is_some_and(|oauth| oauth.server.client_of(verified).is_some());
    if verified.is_own() && !is_known() { Err(TokenError::UnknownClient) } else { Ok(()) }
}

/// True if the token will never be valid again, at any route.
fn is_final(reason: TokenError) -> bool {
    match reason {
        TokenError::Expired | TokenError::UnknownKid | TokenError::Revoked | TokenError::UnknownClient => true,
        TokenError::Malformed
        | TokenError::UnknownIssuer
        | TokenError::IssuerNotAllowed
        | TokenError::TypeNotAllowed
        | TokenError::AlgNotAllowed
        | TokenError::MissingClaim
        | TokenError::BadAudience
        | TokenError::NotYetValid
        | TokenError::KeysUnavailable
        | TokenError::BadSignature => false,
    }
}

/// [`authenticate`] without a cache: the result for the first request with this token.
pub(crate) async fn authenticate_anew(
    snapshot: &Snapshot,
    expected: Expectations<'_>,
    headers: &HeaderMap,
    now: UnixTime,
) -> Result<Verified, AuthenticateError> {
    let token = presented(snapshot, headers, now)?;
    verify(snapshot, token, expected, now).await
}

fn presented<'h>(snapshot: &Snapshot, headers: &'h HeaderMap, now: UnixTime) -> Result<&'h [u8], AuthenticateError> {
    let token = bearer_token(headers, snapshot.limits.token_bytes)?;
    if now.is_plausible() { Ok(token) } else { Err(AuthenticateError::Clock) }
}

async fn verify(
    snapshot: &Snapshot,
    token: &[u8],
    expected: Expectations<'_>,
    now: UnixTime,
) -> Result<Verified, AuthenticateError> {
    let text = legal(token).ok_or_else(malformed)?;
    let verified = snapshot.trust.verify(text, expected, now).await.map_err(AuthenticateError::Refused)?;
    check_client(&verified, snapshot).map_err(|reason| AuthenticateError::Refused(verified.refused(reason)))?;
    Ok(verified)
}

/// The token of a `Bearer` credential (RFC 6750 §2.1), before its characters are checked.
fn bearer_token(headers: &HeaderMap, max_bytes: usize) -> Result<&[u8], AuthenticateError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(AuthenticateError::Missing)?.as_bytes();
    if values.next().is_some() {
        return Err(AuthenticateError::Ambiguous);
    }
    let scheme = value.split(|byte| *byte == b' ').next().unwrap_or_default();
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        // Credentials of another scheme, such as the service's own Basic login, count as none.
        return Err(AuthenticateError::Missing);
    }
    let token = value.get(scheme.len() + 1..).unwrap_or_default();
    if token.is_empty() || token.len() > max_bytes { Err(malformed()) } else { Ok(token) }
}

/// The text of a token, if it has only legal characters.
fn legal(token: &[u8]) -> Option<&str> {
    let legal = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'=');
    if token.iter().all(legal) { std::str::from_utf8(token).ok() } else { None }
}

fn malformed() -> AuthenticateError {
    AuthenticateError::Refused(RefusedToken { reason: TokenError::Malformed, issuer: None, client: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn token(values: &[&str]) -> Result<String, AuthenticateError> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let token = bearer_token(&headers, 16)?;
        legal(token).map(str::to_owned).ok_or_else(malformed)
    }

    #[test]
    fn the_scheme_is_read_without_case() {
        for value in ["Bearer abc", "bearer abc", "BEARER abc"] {
            assert_eq!(token(&[value]).unwrap(), "abc");
        }
    }

    #[test]
    fn no_header_and_other_schemes_are_missing_credentials() {
        assert!(matches!(token(&[]), Err(AuthenticateError::Missing)));
        assert!(matches!(token(&["Basic YTpi"]), Err(AuthenticateError::Missing)));
    }

    #[test]
    fn two_headers_are_ambiguous() {
        assert!(matches!(token(&["Bearer a", "Bearer b"]), Err(AuthenticateError::Ambiguous)));
    }

    #[test]
    fn malformed_tokens_are_malformed() {
        for value in [
            "Bearer",
            "Bearer ",
            "Bearer  a",
            "Bearer a b",
            "Bearer a,",
            "Bearer \"a\"",
            "Bearer a\tb",
            "Bearer ä",
            "Bearer aaaaaaaaaaaaaaaaa",
        ] {
            let refused = token(&[value]);
            assert!(
                matches!(refused, Err(AuthenticateError::Refused(RefusedToken { reason: TokenError::Malformed, .. }))),
                "{value}"
            );
        }
    }
}
