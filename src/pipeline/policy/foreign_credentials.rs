//! Whether the credentials of a refused request are certainly no token of a configured issuer, so that a route that only
//! reports may pass them on to the service.

use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::authenticate::AuthenticateError;
use crate::pipeline::routing::access::AccessRule;
use crate::pipeline::routing::snapshot::Snapshot;
use crate::trust::claimed_caller::ClaimedIssuer;
use crate::trust::failed_check::TokenError;

/// `refused`: why the request was refused. A broken token of ours is no foreign one.
pub(crate) fn are_foreign(
    snapshot: &Snapshot,
    rule: &AccessRule,
    headers: &HeaderMap,
    refused: &AuthenticateError,
) -> bool {
    let may_be_opaque =
        snapshot.trust.introspects_for(rule.expectations()) && !is_certainly_not_opaque(headers, refused);
    !may_be_opaque && !may_be_of_known_issuer(snapshot, headers)
}

/// An opaque token of an issuer cannot be told from other text, unless the issuer itself has said that it is none. It
/// may have come without a scheme, or by a wrong one: only logins by other schemes are certainly something else.
fn is_certainly_not_opaque(headers: &HeaderMap, refused: &AuthenticateError) -> bool {
    let was_asked_about = match refused {
        AuthenticateError::Refused(refused) => refused.reason == TokenError::Inactive,
        AuthenticateError::Missing { .. }
        | AuthenticateError::Ambiguous(_)
        | AuthenticateError::Clock
        | AuthenticateError::TooManyFailures { .. } => false,
    };
    let of_tokens = if was_asked_about { &["bearer", "dpop"][..] } else { &[] };
    let known = of_tokens.iter().chain(&["basic", "digest", "negotiate", "ntlm"]);
    headers.get_all(AUTHORIZATION).iter().all(|value| {
        let scheme = value.as_bytes().split(|byte| *byte == b' ').next().unwrap_or_default();
        known.clone().any(|known| scheme.eq_ignore_ascii_case(known.as_bytes()))
    })
}

/// Whether `Authorization` may have a JWT of a configured issuer, broken as it may be. A word in the form of a JWT is
/// foreign only if it certainly names another issuer.
fn may_be_of_known_issuer(snapshot: &Snapshot, headers: &HeaderMap) -> bool {
    let is_jwt_byte = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.+/=".contains(byte) || !byte.is_ascii();
    let looks_like_jwt =
        |word: &&[u8]| word.iter().filter(|byte| **byte == b'.').count() >= 2 && word.iter().all(is_jwt_byte);
    let is_foreign = |word: &[u8]| {
        let token = std::str::from_utf8(word).ok().filter(|token| token.len() <= snapshot.limits.token_bytes);
        let claimed = token.and_then(|token| snapshot.trust.claimed_by(token));
        claimed.is_some_and(|claimed| matches!(claimed.issuer, Some(ClaimedIssuer::Unknown(_))))
    };
    let values = headers.get_all(AUTHORIZATION).iter();
    let mut words = values.flat_map(|value| value.as_bytes().split(|byte| b" \t,".contains(byte)));
    words.any(|word| looks_like_jwt(&word) && !is_foreign(word))
}
