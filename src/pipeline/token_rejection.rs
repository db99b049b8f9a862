//! What a refusal of the token or the revocation endpoint is called, inside and outside: [`super::rejection`]'s, for these two.
#![deny(clippy::wildcard_enum_match_arm)]

use http::StatusCode;

use crate::audit::reason::Reason;
use crate::issuer::authorization_server::TokenRefusal;
use crate::issuer::grant::GrantFault;
use crate::trust::revocation_keeper::NotRevoked;

pub(super) fn grant_status(fault: &GrantFault) -> StatusCode {
    match fault {
        GrantFault::NoCredentials { .. }
        | GrantFault::MalformedBasic
        | GrantFault::WrongCredentials { .. }
        | GrantFault::Elsewhere { .. } => StatusCode::UNAUTHORIZED,
        GrantFault::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        GrantFault::InvalidRequest(_)
        | GrantFault::UnsupportedGrant
        | GrantFault::InvalidScope { .. }
        | GrantFault::InvalidTarget { .. }
        | GrantFault::OthersToken { .. } => StatusCode::BAD_REQUEST,
    }
}

pub(super) fn token_refused(refusal: &TokenRefusal) -> Reason {
    match refusal {
        TokenRefusal::Busy(_)
        | TokenRefusal::NotRevoked(NotRevoked::Busy | NotRevoked::Full | NotRevoked::ShareFull) => Reason::Overload,
        TokenRefusal::TooManyFailures(_) => Reason::RateLimited,
        TokenRefusal::Broken | TokenRefusal::Clock | TokenRefusal::NotRevoked(NotRevoked::Broken) => Reason::Internal,
        TokenRefusal::Fault(fault) => match fault {
            GrantFault::InvalidRequest(_) | GrantFault::UnsupportedMediaType => Reason::InvalidRequest,
            GrantFault::UnsupportedGrant => Reason::UnsupportedGrant,
            GrantFault::NoCredentials { .. } | GrantFault::MalformedBasic | GrantFault::WrongCredentials { .. } => {
                Reason::InvalidClient
            }
            GrantFault::InvalidScope { .. } => Reason::InvalidScope,
            GrantFault::InvalidTarget { .. } => Reason::InvalidTarget,
            GrantFault::OthersToken { .. } | GrantFault::Elsewhere { .. } => Reason::ClientNotAllowed,
        },
    }
}
