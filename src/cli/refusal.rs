//! Why the gateway refuses a token, for an operator: the reason in the audit log, and which of its causes it is.

use base64::Engine as _;
use serde_json::Value;

use crate::jose::BASE64URL;
use crate::jose::claims::Claims;
use crate::jose::header::{Header, KeyReference};
use crate::jose::token::Unverified;
use crate::pipeline::policy::authenticate::AuthenticateError;
use crate::pipeline::routing::snapshot::Snapshot;
use crate::trust::caller_claims::caller;
use crate::trust::entry_choice::candidates;
use crate::trust::revocation::{RevocationEntry, RevocationTarget, Revocations};
use crate::trust::verify::TokenError;

/// The reason as in the audit log, and the cause.
pub(super) struct TokenRefusal {
    pub(super) reason: &'static str,
    pub(super) text: String,
}

impl TokenRefusal {
    pub(super) fn of(error: &AuthenticateError, token: &str, snapshot: &Snapshot, revoked: &[RevocationEntry]) -> Self {
        match error {
            AuthenticateError::Refused(refused) => Self::new(refused.reason, token, snapshot, revoked),
            AuthenticateError::Missing | AuthenticateError::Ambiguous | AuthenticateError::Clock => {
                let (reason, text) = explain(error);
                Self { reason, text: text.to_owned() }
            }
        }
    }

    pub(super) fn new(reason: TokenError, token: &str, snapshot: &Snapshot, revoked: &[RevocationEntry]) -> Self {
        let cause = match reason {
            TokenError::Malformed => malformed_part(token, snapshot.limits.token_bytes),
            TokenError::UnknownKid => lacks_key_id(token),
            TokenError::Revoked => revoked_by(token, snapshot, revoked),
            TokenError::TooManyScopes
            | TokenError::UnknownIssuer
            | TokenError::IssuerNotAllowed
            | TokenError::TypeNotAllowed
            | TokenError::AlgNotAllowed
            | TokenError::MissingClaim
            | TokenError::BadAudience
            | TokenError::Expired
            | TokenError::NotYetValid
            | TokenError::KeysUnavailable
            | TokenError::BadSignature
            | TokenError::UnknownClient => None,
        };
        let (reason, text) = explain_token(reason);
        Self { reason, text: cause.unwrap_or_else(|| text.to_owned()) }
    }
}

/// The reason as in the audit log, and what it means.
pub(super) fn explain(error: &AuthenticateError) -> (&'static str, &'static str) {
    match error {
        AuthenticateError::Refused(refused) => explain_token(refused.reason),
        AuthenticateError::Missing | AuthenticateError::Ambiguous => explain_token(TokenError::Malformed),
        AuthenticateError::Clock => ("clock", "the clock of this machine is wrong"),
    }
}

fn explain_token(reason: TokenError) -> (&'static str, &'static str) {
    match reason {
        TokenError::Malformed => ("malformed", "it is not a signed JWT, or a claim has the wrong type"),
        TokenError::TooManyScopes => {
            ("too_many_scopes", "it has more scopes than a token may have, after the issuer's `allow_scopes`")
        }
        TokenError::UnknownIssuer => ("unknown_issuer", "no configured issuer has exactly this `iss`"),
        TokenError::IssuerNotAllowed => (
            "issuer_not_allowed",
            "the route's `issuers` does not contain the token's issuer, or it came in the field of another issuer",
        ),
        TokenError::TypeNotAllowed => ("type_not_allowed", "its `typ` is not among the issuer's `types`"),
        TokenError::AlgNotAllowed => ("alg_not_allowed", "its `alg` is not among the issuer's `algorithms`"),
        TokenError::MissingClaim => ("missing_claim", "a required claim is missing or empty"),
        TokenError::BadAudience => ("bad_audience", "its `aud` contains none of the accepted audiences"),
        TokenError::Expired => ("expired", "its `exp` is past"),
        TokenError::NotYetValid => ("not_yet_valid", "its `nbf` or `iat` is in the future"),
        TokenError::UnknownKid => {
            ("unknown_kid", "the issuer publishes no key with this `kid` for the token's algorithm")
        }
        TokenError::KeysUnavailable => {
            ("keys_unavailable", "the issuer's keys cannot be fetched; the gateway answers 503")
        }
        TokenError::BadSignature => ("bad_signature", "the signature was not made with the issuer's key"),
        TokenError::UnknownClient => ("unknown_client", "it is a token of ours, and `oauth.clients` lacks its client"),
        TokenError::Revoked => ("revoked", "it was revoked"),
    }
}

/// The first part of the token that is wrong.
fn malformed_part(token: &str, max_bytes: usize) -> Option<String> {
    if token.len() > max_bytes {
        return Some(format!("it has {} bytes, more than `limits.token_bytes`, which is {max_bytes}", token.len()));
    }
    let parts: Vec<&str> = token.split('.').collect();
    let [header, claims, signature] = parts[..] else {
        return Some(format!("it is not a compact JWS: it has {} of 3 parts separated by `.`", parts.len()));
    };
    for (name, part) in [("header", header), ("claims", claims), ("signature", signature)] {
        if part.is_empty() || BASE64URL.decode(part).is_err() {
            return Some(format!("it is not a compact JWS: its {name} is not base64url without padding"));
        }
    }
    let decoded = |part: &str| BASE64URL.decode(part).unwrap_or_default();
    let is_object = |bytes: &[u8]| serde_json::from_slice::<serde_json::Map<String, Value>>(bytes).is_ok();
    if Header::parse(&decoded(header)).is_err() {
        let is_object = is_object(&decoded(header));
        let hint = if is_object {
            "it lacks `alg`, has `crit`, `b64` or `zip`, or a member twice or of the wrong type"
        } else {
            "it is not a JSON object"
        };
        return Some(format!("its header is not accepted: {hint}"));
    }
    if Claims::parse(&decoded(claims)).is_err() {
        let is_object = is_object(&decoded(claims));
        let hint =
            if is_object { "a claim has the wrong type or is there twice" } else { "they are not a JSON object" };
        return Some(format!("its claims are not accepted: {hint}"));
    }
    Some("its client, subject or scope claim has the wrong type or form".to_owned())
}

fn lacks_key_id(token: &str) -> Option<String> {
    let parsed = Unverified::parse(token).ok()?;
    let text = match parsed.header.key() {
        KeyReference::Id(_) => return None,
        KeyReference::Certificate(_) => {
            "it has no `kid`, and the issuer does not publish exactly one key for its algorithm with the certificate of \
             its `x5t` or `x5t#S256`"
        }
        KeyReference::Unnamed => "it has no `kid`, and the issuer does not publish exactly one key for its algorithm",
    };
    Some(text.to_owned())
}

/// The target of the revocation: this token, or a client, a subject or an issuer.
fn revoked_by(token: &str, snapshot: &Snapshot, revoked: &[RevocationEntry]) -> Option<String> {
    let claims = Unverified::parse(token).ok()?.claims;
    let issuers = candidates(snapshot.trust.issuers(), |issuer| &issuer.settings, &claims).ok()?;
    let settings = &issuers.first()?.settings;
    let caller = caller(settings, &claims).ok()?;
    let concerns = |entry: &&RevocationEntry| {
        let mut one = Revocations::default();
        one.add(entry);
        one.applies_to(settings, &caller, &claims)
    };
    let target = &revoked.iter().find(concerns)?.target;
    Some(match target {
        RevocationTarget::Token(_) => "this token was revoked".to_owned(),
        RevocationTarget::Client(client) => format!("the tokens of client `{client}` were revoked"),
        RevocationTarget::Subject(subject) => format!("the tokens of subject `{subject}` were revoked"),
        RevocationTarget::Issuer => "all tokens of the issuer were revoked".to_owned(),
    })
}
