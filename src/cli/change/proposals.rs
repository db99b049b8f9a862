//! The changes of the configuration that may let it accept a token, by the reason of its refusal.
//!
//! A new key of an issuer is added to the function of the reason that it is for. A proposal need not fit: the search
//! applies each one and takes the first that leads on. A key that the configuration does not know is never proposed.

mod entry;
mod of_issuer;
mod of_route;
mod scopes;

use self::entry::{for_field, for_issuer};
use self::of_issuer::{for_algorithm, for_malformed, for_missing_claim, for_time, for_type};
use self::of_route::{for_address, for_audience, for_claim, for_client, for_route_issuer};
use self::scopes::{for_many_scopes, for_scope};
use super::super::refusal::{Cause, Refusal};
use super::proposal::{Proposal, TokenFacts};
use crate::trust::failed_check::TokenError;

pub(super) fn proposals(refusal: &Refusal, facts: &TokenFacts<'_>) -> Vec<Proposal> {
    match &refusal.cause {
        Cause::Check(check) => of_check(*check, refusal, facts),
        Cause::Scope(wanted) => wanted.iter().flat_map(|scope| for_scope(scope, facts)).collect(),
        Cause::Claim(path) => for_claim(path, facts).unwrap_or_default(),
        Cause::Client => for_client(facts).into_iter().collect(),
        Cause::Address => for_address(facts),
        Cause::Field => for_field(facts),
        Cause::OwnScope | Cause::StaticScope | Cause::Other => Vec::new(),
    }
}

fn of_check(check: TokenError, refusal: &Refusal, facts: &TokenFacts<'_>) -> Vec<Proposal> {
    match check {
        TokenError::Malformed => for_malformed(facts),
        TokenError::TooManyScopes => for_many_scopes(facts).into_iter().collect(),
        TokenError::UnknownIssuer => for_issuer(facts),
        TokenError::IssuerNotAllowed => for_route_issuer(facts).into_iter().collect(),
        TokenError::TypeNotAllowed => for_type(facts).into_iter().collect(),
        TokenError::AlgNotAllowed => for_algorithm(facts).into_iter().collect(),
        TokenError::MissingClaim => {
            let missing = refusal.values.as_ref().map_or("", |values| &values.wanted);
            for_missing_claim(missing, facts)
        }
        TokenError::BadAudience => for_audience(facts),
        TokenError::Expired | TokenError::NotYetValid => for_time(facts).into_iter().collect(),
        TokenError::UnknownKid
        | TokenError::KeysUnavailable
        | TokenError::BadSignature
        | TokenError::IntrospectionUnavailable
        | TokenError::StoreUnavailable
        | TokenError::Inactive
        | TokenError::Revoked
        | TokenError::UnknownClient
        | TokenError::Proof(_)
        | TokenError::NotProven
        | TokenError::NotBound
        | TokenError::StaticTokenEnded
        | TokenError::UnknownStaticToken => Vec::new(),
    }
}
