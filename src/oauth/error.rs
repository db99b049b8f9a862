//! The error codes that callers receive.

/// The reason why a request of a client is refused: for a token, a revocation or an introspection (RFC 6749 §5.2,
/// RFC 7009 §2.2.1; `invalid_target` from RFC 8707 §2, those about proofs from RFC 9449 §5, §8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenErrorCode {
    InvalidRequest,
    InvalidClient,
    InvalidGrant,
    InvalidScope,
    InvalidTarget,
    UnsupportedGrantType,
    InvalidDpopProof,
    UseDpopNonce,
    TemporarilyUnavailable,
    UnauthorizedClient,
}

impl TokenErrorCode {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::InvalidGrant => "invalid_grant",
            Self::InvalidScope => "invalid_scope",
            Self::InvalidTarget => "invalid_target",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::InvalidDpopProof => "invalid_dpop_proof",
            Self::UseDpopNonce => "use_dpop_nonce",
            Self::TemporarilyUnavailable => "temporarily_unavailable",
            Self::UnauthorizedClient => "unauthorized_client",
        }
    }
}
