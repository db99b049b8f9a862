//! The reasons for the operator, a closed set: in the audit log and in metrics, never in an answer.

/// Why a request or a grant failed or was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Reason {
    NoToken,
    Malformed,
    UnknownIssuer,
    IssuerNotAllowed,
    TypeNotAllowed,
    AlgNotAllowed,
    UnknownKid,
    KeysUnavailable,
    BadSignature,
    Expired,
    NotYetValid,
    BadAudience,
    MissingClaim,
    Revoked,
    UnknownClient,
    MissingScope,
    ClaimMismatch,
    ClientNotAllowed,
    NoRoute,
    MethodNotAllowed,
    RateLimited,
    TooManyFailures,
    InvalidClient,
    InvalidRequest,
    InvalidScope,
    InvalidTarget,
    UnsupportedGrant,
    BadRequest,
    TooLarge,
    Timeout,
    UpstreamConnect,
    UpstreamTimeout,
    UpstreamProtocol,
    UpstreamReset,
    Overload,
    AuditUnavailable,
    ClientGone,
    /// The gateway stopped before the request had ended.
    Shutdown,
    Internal,
}

impl Reason {
    /// In the order of the variants.
    pub(crate) const ALL: [Self; 37] = [
        Self::NoToken,
        Self::Malformed,
        Self::UnknownIssuer,
        Self::IssuerNotAllowed,
        Self::TypeNotAllowed,
        Self::AlgNotAllowed,
        Self::UnknownKid,
        Self::KeysUnavailable,
        Self::BadSignature,
        Self::Expired,
        Self::NotYetValid,
        Self::BadAudience,
        Self::MissingClaim,
        Self::Revoked,
        Self::UnknownClient,
        Self::MissingScope,
        Self::ClaimMismatch,
        Self::ClientNotAllowed,
        Self::NoRoute,
        Self::MethodNotAllowed,
        Self::RateLimited,
        Self::InvalidClient,
        Self::InvalidRequest,
        Self::InvalidScope,
        Self::InvalidTarget,
        Self::UnsupportedGrant,
        Self::BadRequest,
        Self::TooLarge,
        Self::Timeout,
        Self::UpstreamConnect,
        Self::UpstreamTimeout,
        Self::UpstreamProtocol,
        Self::UpstreamReset,
        Self::Overload,
        Self::AuditUnavailable,
        Self::ClientGone,
        Self::Internal,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::NoToken => "no_token",
            Self::Malformed => "malformed",
            Self::UnknownIssuer => "unknown_issuer",
            Self::IssuerNotAllowed => "issuer_not_allowed",
            Self::TypeNotAllowed => "type_not_allowed",
            Self::AlgNotAllowed => "alg_not_allowed",
            Self::UnknownKid => "unknown_kid",
            Self::KeysUnavailable => "keys_unavailable",
            Self::BadSignature => "bad_signature",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::BadAudience => "bad_audience",
            Self::MissingClaim => "missing_claim",
            Self::Revoked => "revoked",
            Self::UnknownClient => "unknown_client",
            Self::MissingScope => "missing_scope",
            Self::ClaimMismatch => "claim_mismatch",
            Self::ClientNotAllowed => "client_not_allowed",
            Self::NoRoute => "no_route",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::RateLimited => "rate_limited",
            Self::TooManyFailures => "too_many_failures",
            Self::InvalidClient => "invalid_client",
            Self::InvalidRequest => "invalid_request",
            Self::InvalidScope => "invalid_scope",
            Self::InvalidTarget => "invalid_target",
            Self::UnsupportedGrant => "unsupported_grant",
            Self::BadRequest => "bad_request",
            Self::TooLarge => "too_large",
            Self::Timeout => "timeout",
            Self::UpstreamConnect => "upstream_connect",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::UpstreamProtocol => "upstream_protocol",
            Self::UpstreamReset => "upstream_reset",
            Self::Overload => "overload",
            Self::AuditUnavailable => "audit_unavailable",
            Self::ClientGone => "client_gone",
            Self::Shutdown => "shutdown",
            Self::Internal => "internal",
        }
    }

    /// A fault of the gateway or the upstream, and not a refusal.
    pub(crate) const fn is_failure(self) -> bool {
        match self {
            Self::UpstreamConnect
            | Self::UpstreamTimeout
            | Self::UpstreamProtocol
            | Self::UpstreamReset
            | Self::Overload
            | Self::AuditUnavailable
            | Self::ClientGone
            | Self::Shutdown
            | Self::Internal
            | Self::KeysUnavailable => true,
            Self::NoToken
            | Self::Malformed
            | Self::UnknownIssuer
            | Self::IssuerNotAllowed
            | Self::TypeNotAllowed
            | Self::AlgNotAllowed
            | Self::UnknownKid
            | Self::BadSignature
            | Self::Expired
            | Self::NotYetValid
            | Self::BadAudience
            | Self::MissingClaim
            | Self::Revoked
            | Self::UnknownClient
            | Self::MissingScope
            | Self::ClaimMismatch
            | Self::ClientNotAllowed
            | Self::NoRoute
            | Self::MethodNotAllowed
            | Self::RateLimited
            | Self::TooManyFailures
            | Self::InvalidClient
            | Self::InvalidRequest
            | Self::InvalidScope
            | Self::InvalidTarget
            | Self::UnsupportedGrant
            | Self::BadRequest
            | Self::TooLarge
            | Self::Timeout => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_reasons_are_listed() {
        assert!(Reason::ALL.iter().enumerate().all(|(at, reason)| *reason as usize == at));
        assert_eq!(Reason::ALL.len(), Reason::Internal as usize + 1);
    }
}
