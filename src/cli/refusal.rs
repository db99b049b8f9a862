//! Why the gateway refuses a token, for an operator: the reason in the audit log, its meaning, and the values that the
//! audit log shows as found and wanted.

use crate::oauth::discrepancy::Discrepancy;
use crate::pipeline::policy::authenticate::AuthenticateError;
use crate::trust::failed_check::{FailedCheck, TokenError};
use crate::trust::failed_proof::ProofError;

/// A refused token, or its refusal by a route.
#[derive(Debug)]
pub(super) struct Refusal {
    /// Of the answer.
    pub(super) status: u16,
    /// As in the audit log.
    pub(super) reason: &'static str,
    pub(super) text: String,
    pub(super) values: Option<Box<Discrepancy>>,
    pub(super) cause: Cause,
}

#[derive(Debug)]
pub(super) enum Cause {
    /// The failed check of the token.
    Check(TokenError),
    /// The scopes that a route asks for and the token lacks.
    Scope(Vec<String>),
    /// The same for a token of our own: its scopes are those of its client.
    OwnScope,
    /// The same for a static token: its scopes are those of its entry.
    StaticScope,
    /// The first claim of a route's rule with another value, by its path.
    Claim(String),
    Client,
    Address,
    /// The token came in a field that is not its issuer's.
    Field,
    /// The request or the machine, and not the token.
    Other,
}

impl Refusal {
    pub(super) fn by_route(reason: &'static str, text: String, cause: Cause) -> Self {
        Self { status: 403, reason, text, values: None, cause }
    }
}

impl From<FailedCheck> for Refusal {
    fn from(FailedCheck { reason, values }: FailedCheck) -> Self {
        let (name, meaning) = explain(reason);
        let status = if reason.is_outage() { 503 } else { 401 };
        let text = format!("{meaning}: {values}");
        Self { status, reason: name, text, values: Some(values), cause: Cause::Check(reason) }
    }
}

impl From<AuthenticateError> for Refusal {
    fn from(error: AuthenticateError) -> Self {
        let values = error.discrepancy().map(Box::new);
        let (status, reason, text) = match error {
            AuthenticateError::Refused(refused) => {
                return FailedCheck { reason: refused.reason, values: refused.values }.into();
            }
            AuthenticateError::Missing { .. } => (401, "no_token", "there is no bearer token"),
            AuthenticateError::Ambiguous(_) => (400, "bad_request", "there is more than one token"),
            AuthenticateError::Clock => (503, "internal", "the clock of this machine is wrong"),
            AuthenticateError::TooManyFailures { .. } => {
                (429, "too_many_failures", "the address has too many failures")
            }
        };
        Self { status, reason, text: text.to_owned(), values, cause: Cause::Other }
    }
}

/// The reason as in the audit log, and what it means.
fn explain(reason: TokenError) -> (&'static str, &'static str) {
    match reason {
        TokenError::Malformed => ("malformed", "the token or one of its claims has the wrong form"),
        TokenError::TooManyScopes => {
            ("too_many_scopes", "it has more scopes than a token may have, after the issuer's `allow_scopes`")
        }
        TokenError::UnknownIssuer => ("unknown_issuer", "no configured issuer has exactly this `iss`"),
        TokenError::IssuerNotAllowed => (
            "issuer_not_allowed",
            "the route's `issuers` does not contain the token's issuer, the token came in the field of another issuer, or \
             its issuer is for federation only",
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
        TokenError::IntrospectionUnavailable => {
            ("introspection_unavailable", "the issuer cannot be asked about it; the gateway answers 503")
        }
        TokenError::StoreUnavailable => {
            ("store_unavailable", "what replicas share about it is not known yet; the gateway answers 503")
        }
        TokenError::Inactive => ("token_inactive", "its issuer says that it is unknown, expired or revoked"),
        TokenError::UnknownClient => ("unknown_client", "it is a token of ours, and `oauth.clients` lacks its client"),
        TokenError::Revoked => ("revoked", "it was revoked"),
        TokenError::Proof(ProofError::Missing) => ("not_proven", "it is bound to a key, and the request has no proof"),
        TokenError::Proof(ProofError::Invalid) => ("invalid_proof", "the DPoP proof is not for this request and token"),
        TokenError::Proof(ProofError::Replayed) => ("proof_replayed", "the DPoP proof was used before"),
        TokenError::Proof(ProofError::Nonce) => ("proof_nonce", "the DPoP proof lacks a current nonce"),
        TokenError::Proof(ProofError::NoRoom) => ("overload", "no more DPoP proofs can be remembered just now"),
        TokenError::NotProven => {
            ("not_proven", "it is bound to a client certificate, and the connection does not present it")
        }
        TokenError::NotBound => ("not_bound", "it is not bound to a key or a certificate as the route demands"),
        TokenError::StaticTokenEnded => ("static_token_ended", "it is a static token, and its `until` is past"),
        TokenError::UnknownStaticToken => ("unknown_static_token", "it is neither a JWT nor one of `static_tokens`"),
    }
}
