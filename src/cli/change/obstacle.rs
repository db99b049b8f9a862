//! Why no change of the configuration accepts a token, and what has to happen elsewhere.

use serde_json::json;

use super::super::refusal::{Cause, Refusal};
use super::proposal::{TokenFacts, keys};
use crate::config::edit::line_of;
use crate::oauth::caller::IssuerName;
use crate::oauth::discrepancy::short;
use crate::trust::failed_check::TokenError;

/// `text` is that of the configuration.
pub(super) fn obstacle(refusal: &Refusal, facts: &TokenFacts<'_>, text: &str) -> String {
    match &refusal.cause {
        Cause::Check(TokenError::UnknownKid) => missing_key(facts, text),
        Cause::Check(TokenError::UnknownIssuer) if facts.is_for_token_endpoint() => federation(facts),
        Cause::Check(check) => {
            let wanted = refusal.values.as_ref().map_or("", |values| &values.wanted);
            of_check(*check, wanted, facts).to_owned()
        }
        Cause::Scope(_) => {
            "the token has the scope in no claim: it has to be granted, and a new token requested".to_owned()
        }
        Cause::OwnScope => "the client has to have the scope in `oauth.clients`, and request a new token".to_owned(),
        Cause::StaticScope => "the scope has to be added to `scopes` of its entry in `static_tokens`".to_owned(),
        Cause::Claim(_) => "the token has no value of the claim that could be added".to_owned(),
        Cause::Client => "the token names no client that could be added".to_owned(),
        Cause::Address => "the address is denied, or no list of addresses can be extended".to_owned(),
        Cause::Field => "tokens of this issuer cannot come in this field".to_owned(),
        Cause::Other => "the cause is not the configuration".to_owned(),
    }
}

/// `wanted` is what the check wanted.
fn of_check(check: TokenError, wanted: &str, facts: &TokenFacts<'_>) -> &'static str {
    match check {
        TokenError::Malformed => "no configuration accepts a token of this form",
        TokenError::TooManyScopes => {
            "no configuration accepts so many scopes: list those of your services in `allow_scopes`"
        }
        TokenError::UnknownIssuer if wanted.starts_with("tid=") => {
            "it names two tenants, in `iss` and in `tid`: no configuration accepts it"
        }
        TokenError::MissingClaim if facts.is_opaque() && wanted.split(" or ").next() == Some("aud") => {
            "the answer of its issuer names no audience: let the issuer add one (such as by an audience mapper), name \
             another member by `audience_claim`, or set `audiences: unlimited`, with which each route that accepts the \
             issuer needs `access.claims`, `access.clients` or `access.audiences`"
        }
        TokenError::UnknownIssuer | TokenError::MissingClaim if facts.text("iss").is_none() && !facts.is_opaque() => {
            "without `iss` only JWT-SVIDs are accepted: add an entry with `spiffe`, which names their trust domain and \
             the place of its bundle"
        }
        TokenError::UnknownIssuer => {
            "no entry can be proposed: add the issuer under `issuers`, with the place of its keys"
        }
        TokenError::IssuerNotAllowed if facts.settings.is_some_and(|settings| !settings.authenticates_requests()) => {
            "its issuer has no `audiences`: its tokens are credentials of clients at the token endpoint only"
        }
        TokenError::IssuerNotAllowed => "the route is for other issuers",
        TokenError::TypeNotAllowed => "the issuer's `types` cannot be changed",
        TokenError::AlgNotAllowed => "no configuration accepts this `alg`",
        TokenError::MissingClaim if wanted.split(" or ").next() == Some("aud") => {
            "without an audience it needs `audiences: unlimited`, and each route that accepts the issuer then needs \
             `access.claims`, `access.clients` or `access.audiences`"
        }
        TokenError::MissingClaim => "no configuration accepts a token without this claim",
        TokenError::BadAudience if facts.settings.is_none() => {
            "its audiences are those of two entries for this issuer: request a token for one of them only"
        }
        TokenError::BadAudience => "no audience of the token can be added",
        TokenError::Expired => "its `exp` is past: only a new token can be accepted",
        TokenError::NotYetValid => "it is not valid yet: wait, or set the clock that is wrong",
        TokenError::UnknownKid => "the issuer has to publish the key that signed it",
        TokenError::KeysUnavailable => "the issuer's keys have to be available first: see `portcullis issuers`",
        TokenError::BadSignature => "its signature is wrong: no configuration accepts it",
        TokenError::IntrospectionUnavailable => {
            "its issuer has to answer first: check `introspection` of the issuer, and see `portcullis issuers`"
        }
        TokenError::StoreUnavailable => "Redis or the database must be reachable first: check `shared`",
        TokenError::Inactive => "its issuer says that it is not active: only a new token can be accepted",
        TokenError::UnknownClient => "its client has to be in `oauth.clients` again, with a secret of its own",
        TokenError::Revoked => "it was revoked: only a new token can be accepted",
        TokenError::Proof(_) => "it is bound to a key: its caller has to prove possession of the key with each request",
        TokenError::NotProven => "it is bound to a certificate: its caller has to present it with each connection",
        TokenError::NotBound => {
            "the route demands a bound token (`access.bound`): its caller has to request such a token"
        }
        TokenError::StaticTokenEnded => "its `until` is past: its caller needs a token of an issuer",
        TokenError::UnknownStaticToken => {
            "it has to be added to `static_tokens`, by its hash: `portcullis client hash --static-token` prints the entry"
        }
    }
}

/// Where the key that signed the token has to be.
fn missing_key(facts: &TokenFacts<'_>, text: &str) -> String {
    let Some(issuer) = facts.settings.map(|settings| settings.name.as_str()) else {
        return of_check(TokenError::UnknownKid, "", facts).to_owned();
    };
    if issuer == IssuerName::OWN {
        return "the key that signed it is no longer ours: only a new token can be accepted".to_owned();
    }
    let at = |key: &'static str| Some((key, line_of(text, &keys(["issuers", issuer, key]))?));
    if let Some((key, line)) = ["jwks_file", "jwks"].into_iter().find_map(at) {
        return format!(
            "the key that signed it has to be added to `issuers.{issuer}.{key}` (line {line}): every token that this key \
             signs then counts as one of `{issuer}`"
        );
    }
    match ["jwks_uri", "spiffe"].into_iter().find_map(at) {
        Some((key, line)) => format!(
            "the issuer has to publish the key that signed it, where `issuers.{issuer}.{key}` (line {line}) says"
        ),
        None => format!(
            "the issuer has to publish the key that signed it, or `issuers.{issuer}.jwks_uri` has to name its place"
        ),
    }
}

/// The entries for a credential of a client at our token endpoint.
fn federation(facts: &TokenFacts<'_>) -> String {
    let value = |claim| json!(short(facts.text(claim).unwrap_or_default()));
    format!(
        "its `aud` is our issuer, so it is the credential of a client. Add its issuer without `audiences`, so that it opens \
         no route: `issuers.NAME: {{issuer: {}}}`; and add to `oauth.clients.ID.federation`: `{{issuer: NAME, subject: {}}}`",
        value("iss"),
        value("sub"),
    )
}
