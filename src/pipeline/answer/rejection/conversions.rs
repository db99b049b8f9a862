//! The faults of the steps as refusals.

use super::Rejection;
use crate::audit::ledger::Unavailable;
use crate::issuer::authorization_server::TokenRefusal;
use crate::pipeline::policy::authenticate::AuthenticateError;
use crate::pipeline::request::ambiguous::Ambiguous;
use crate::pipeline::request::headers::FieldFault;
use crate::pipeline::routing::access::Forbidden;
use crate::upstream::fault::UpstreamFault;

impl From<Ambiguous> for Rejection {
    fn from(ambiguous: Ambiguous) -> Self {
        Self::Ambiguous(ambiguous)
    }
}

impl From<FieldFault> for Rejection {
    fn from(fault: FieldFault) -> Self {
        Self::Header(fault)
    }
}

impl From<AuthenticateError> for Rejection {
    fn from(error: AuthenticateError) -> Self {
        Self::Unauthenticated(error)
    }
}

impl From<Forbidden> for Rejection {
    fn from(forbidden: Forbidden) -> Self {
        Self::Forbidden(forbidden)
    }
}

impl From<Unavailable> for Rejection {
    fn from(_: Unavailable) -> Self {
        Self::AuditUnavailable
    }
}

impl From<TokenRefusal> for Rejection {
    fn from(refusal: TokenRefusal) -> Self {
        Self::Token(refusal)
    }
}

impl From<UpstreamFault> for Rejection {
    fn from(fault: UpstreamFault) -> Self {
        Self::Upstream(fault)
    }
}
