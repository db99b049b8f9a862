//! The reasons and statuses of refusals that are about tokens: of a bearer token, and of the token and revocation
//! endpoints.
//!
//! Part of [`super::rejection`], which builds the answers.
#![deny(clippy::wildcard_enum_match_arm)]

use http::StatusCode;

use crate::audit::reason::Reason;
use crate::issuer::authorization_server::TokenRefusal;
use crate::issuer::client_auth::claim::{AssertionCause, ClientFault};
use crate::issuer::grant::GrantFault;
use crate::oauth::discrepancy::Discrepancy;
use crate::pipeline::policy::authenticate::AuthenticateError;
use crate::pipeline::routing::access::AddressList;
use crate::trust::failed_check::TokenError;
use crate::trust::failed_proof::ProofError;
use crate::trust::revoker::NotRevoked;

pub(crate) fn grant_status(fault: &GrantFault) -> StatusCode {
    match fault {
        GrantFault::Client(
            ClientFault::NoCredentials { .. }
            | ClientFault::Malformed { .. }
            | ClientFault::WrongCredentials { .. }
            | ClientFault::Assertion { .. }
            | ClientFault::Certificate { .. }
            | ClientFault::Elsewhere { .. },
        ) => StatusCode::UNAUTHORIZED,
        GrantFault::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        GrantFault::Proof { failed, .. } if failed.reason == ProofError::NoRoom => StatusCode::SERVICE_UNAVAILABLE,
        GrantFault::MayNotIntrospect { .. } => StatusCode::FORBIDDEN,
        GrantFault::InvalidRequest(_)
        | GrantFault::Client(ClientFault::InvalidRequest(_))
        | GrantFault::Assertion(_)
        | GrantFault::UnsupportedGrant
        | GrantFault::Proof { .. }
        | GrantFault::NoCertificate { .. }
        | GrantFault::InvalidScope { .. }
        | GrantFault::InvalidTarget { .. }
        | GrantFault::OthersToken { .. } => StatusCode::BAD_REQUEST,
    }
}

/// The scope or audience that was asked for, and those that the client may request.
pub(crate) fn grant_discrepancy(fault: &GrantFault) -> Option<Discrepancy> {
    let (found, wanted) = match fault {
        GrantFault::InvalidScope { asked, allowed, .. } => {
            let asked = asked.as_ref().map_or("a malformed scope", |scope| scope.as_str());
            (asked.to_owned(), allowed.to_string())
        }
        GrantFault::InvalidTarget { asked, allowed, .. } => (asked.clone(), allowed.join(" ")),
        GrantFault::NoCertificate { .. } => {
            ("no client certificate".to_owned(), "a client certificate, which the token is bound to".to_owned())
        }
        GrantFault::Proof { failed, .. } => return Some((*failed.values).clone()),
        GrantFault::Client(fault) | GrantFault::Assertion(fault) => return client_discrepancy(fault),
        GrantFault::OthersToken { .. } => ("a token of another client".to_owned(), "a token of the client".to_owned()),
        GrantFault::MayNotIntrospect { client } => {
            (format!("client={client}"), "a client of oauth.introspection.clients".to_owned())
        }
        GrantFault::InvalidRequest(_) | GrantFault::UnsupportedMediaType | GrantFault::UnsupportedGrant => return None,
    };
    Some(Discrepancy::new(found, wanted))
}

fn client_discrepancy(fault: &ClientFault) -> Option<Discrepancy> {
    match fault {
        ClientFault::Elsewhere { .. } => {
            Some(Discrepancy::new("another address", format!("an address {}", AddressList::AllowedByClient)))
        }
        ClientFault::Certificate { values, .. } => Some((**values).clone()),
        ClientFault::NoCredentials { values, .. } => values.as_deref().cloned(),
        ClientFault::Assertion { refused, .. } => Some((*refused.values).clone()),
        ClientFault::InvalidRequest(_) | ClientFault::Malformed { .. } | ClientFault::WrongCredentials { .. } => None,
    }
}

pub(crate) fn token_refused(refusal: &TokenRefusal) -> Reason {
    match refusal {
        TokenRefusal::Busy(_)
        | TokenRefusal::NotRevoked(NotRevoked::Busy | NotRevoked::Full | NotRevoked::ShareFull) => Reason::Overload,
        TokenRefusal::TooManyFailures { .. } => Reason::TooManyFailures,
        TokenRefusal::Broken | TokenRefusal::Clock | TokenRefusal::NotRevoked(NotRevoked::Broken) => Reason::Internal,
        TokenRefusal::ReplayUnavailable => Reason::ReplayUnavailable,
        TokenRefusal::StoreUnavailable { .. } => Reason::StoreUnavailable,
        TokenRefusal::KeysUnavailable { .. } => Reason::KeysUnavailable,
        TokenRefusal::Fault(fault) => match fault {
            GrantFault::InvalidRequest(_) | GrantFault::UnsupportedMediaType => Reason::InvalidRequest,
            GrantFault::UnsupportedGrant => Reason::UnsupportedGrant,
            GrantFault::Client(fault) | GrantFault::Assertion(fault) => client_refused(fault),
            GrantFault::InvalidScope { .. } => Reason::InvalidScope,
            GrantFault::InvalidTarget { .. } => Reason::InvalidTarget,
            GrantFault::NoCertificate { .. } => Reason::NotProven,
            GrantFault::Proof { failed, .. } => proof_refused(failed.reason),
            GrantFault::OthersToken { .. } | GrantFault::MayNotIntrospect { .. } => Reason::ClientNotAllowed,
        },
    }
}

fn client_refused(fault: &ClientFault) -> Reason {
    match fault {
        ClientFault::InvalidRequest(_) => Reason::InvalidRequest,
        ClientFault::NoCredentials { .. }
        | ClientFault::Malformed { .. }
        | ClientFault::Certificate { .. }
        | ClientFault::WrongCredentials { .. } => Reason::InvalidClient,
        ClientFault::Assertion { refused, .. } => match refused.cause {
            AssertionCause::Check(error) => failed_check(error),
            AssertionCause::LivesTooLong => Reason::LifetimeTooLong,
            AssertionCause::Replayed => Reason::AssertionReplayed,
            AssertionCause::UnknownClient => Reason::InvalidClient,
            AssertionCause::NoFederatedClient => Reason::NoFederatedClient,
            AssertionCause::SeveralFederatedClients => Reason::SeveralFederatedClients,
        },
        ClientFault::Elsewhere { .. } => Reason::AddressNotAllowed,
    }
}

pub(crate) fn unauthenticated(error: &AuthenticateError) -> Reason {
    match error {
        AuthenticateError::Missing { .. } => Reason::NoToken,
        AuthenticateError::Ambiguous(_) => Reason::BadRequest,
        AuthenticateError::Clock => Reason::Internal,
        AuthenticateError::TooManyFailures { .. } => Reason::TooManyFailures,
        AuthenticateError::Refused(refused) => failed_check(refused.reason),
    }
}

fn failed_check(error: TokenError) -> Reason {
    match error {
        TokenError::Malformed => Reason::Malformed,
        TokenError::TooManyScopes => Reason::TooManyScopes,
        TokenError::UnknownIssuer => Reason::UnknownIssuer,
        TokenError::IssuerNotAllowed => Reason::IssuerNotAllowed,
        TokenError::TypeNotAllowed => Reason::TypeNotAllowed,
        TokenError::AlgNotAllowed => Reason::AlgNotAllowed,
        TokenError::MissingClaim => Reason::MissingClaim,
        TokenError::BadAudience => Reason::BadAudience,
        TokenError::Expired => Reason::Expired,
        TokenError::NotYetValid => Reason::NotYetValid,
        TokenError::UnknownKid => Reason::UnknownKid,
        TokenError::KeysUnavailable => Reason::KeysUnavailable,
        TokenError::BadSignature => Reason::BadSignature,
        TokenError::IntrospectionUnavailable => Reason::IntrospectionUnavailable,
        TokenError::StoreUnavailable => Reason::StoreUnavailable,
        TokenError::Inactive => Reason::TokenInactive,
        TokenError::Revoked => Reason::Revoked,
        TokenError::UnknownClient => Reason::UnknownClient,
        TokenError::Proof(error) => proof_refused(error),
        TokenError::NotProven => Reason::NotProven,
        TokenError::NotBound => Reason::NotBound,
        TokenError::StaticTokenEnded => Reason::StaticTokenEnded,
        TokenError::UnknownStaticToken => Reason::UnknownStaticToken,
    }
}

fn proof_refused(error: ProofError) -> Reason {
    match error {
        ProofError::Missing => Reason::NotProven,
        ProofError::Invalid => Reason::InvalidProof,
        ProofError::Replayed => Reason::ProofReplayed,
        ProofError::Nonce => Reason::ProofNonce,
        ProofError::NoRoom => Reason::Overload,
    }
}
