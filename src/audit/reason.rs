//! The reasons for the operator, a closed set: in the audit log and in metrics, never in an answer.
//!
//! One row for each. `pipeline::answer::rejection` decides what the caller receives.

/// A row is the variant, its text, and whether it is a `refusal` or a `failure` of the gateway or the upstream.
macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident => $text:literal, $kind:ident;)*) => {
        /// Why a request or a grant failed or was refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub(crate) enum Reason {
            $($(#[$doc])* $variant,)*
        }

        impl Reason {
            /// In the order of the variants.
            pub(crate) const ALL: &[Self] = &[$(Self::$variant),*];

            pub(crate) const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }

            /// A fault of the gateway or the upstream, and not a refusal.
            pub(crate) const fn is_failure(self) -> bool {
                match self {
                    $(Self::$variant => reasons!(@$kind),)*
                }
            }
        }
    };
    (@failure) => { true };
    (@refusal) => { false };
}

reasons! {
    // The token of a request.
    NoToken => "no_token", refusal;
    Malformed => "malformed", refusal;
    TooManyScopes => "too_many_scopes", refusal;
    UnknownIssuer => "unknown_issuer", refusal;
    IssuerNotAllowed => "issuer_not_allowed", refusal;
    TypeNotAllowed => "type_not_allowed", refusal;
    AlgNotAllowed => "alg_not_allowed", refusal;
    UnknownKid => "unknown_kid", refusal;
    KeysUnavailable => "keys_unavailable", failure;
    BadSignature => "bad_signature", refusal;
    IntrospectionUnavailable => "introspection_unavailable", failure;
    StoreUnavailable => "store_unavailable", failure;
    TokenInactive => "token_inactive", refusal;
    Expired => "expired", refusal;
    NotYetValid => "not_yet_valid", refusal;
    BadAudience => "bad_audience", refusal;
    MissingClaim => "missing_claim", refusal;
    Revoked => "revoked", refusal;
    UnknownClient => "unknown_client", refusal;
    NotProven => "not_proven", refusal;
    NotBound => "not_bound", refusal;
    InvalidProof => "invalid_proof", refusal;
    ProofReplayed => "proof_replayed", refusal;
    ProofNonce => "proof_nonce", refusal;
    StaticTokenEnded => "static_token_ended", refusal;
    UnknownStaticToken => "unknown_static_token", refusal;
    // The policy of a route.
    MissingScope => "missing_scope", refusal;
    ClaimMismatch => "claim_mismatch", refusal;
    ClientNotAllowed => "client_not_allowed", refusal;
    AddressNotAllowed => "address_not_allowed", refusal;
    OriginNotAllowed => "origin_not_allowed", refusal;
    NoRoute => "no_route", refusal;
    MethodNotAllowed => "method_not_allowed", refusal;
    RateLimited => "rate_limited", refusal;
    TooManyFailures => "too_many_failures", refusal;
    // Requests to the token and revocation endpoints.
    InvalidClient => "invalid_client", refusal;
    AssertionReplayed => "assertion_replayed", refusal;
    NoFederatedClient => "no_federated_client", refusal;
    SeveralFederatedClients => "several_federated_clients", refusal;
    LifetimeTooLong => "lifetime_too_long", refusal;
    ReplayUnavailable => "replay_unavailable", failure;
    InvalidRequest => "invalid_request", refusal;
    InvalidScope => "invalid_scope", refusal;
    InvalidTarget => "invalid_target", refusal;
    UnsupportedGrant => "unsupported_grant", refusal;
    // The request itself.
    BadRequest => "bad_request", refusal;
    TooLarge => "too_large", refusal;
    Timeout => "timeout", refusal;
    // The upstream.
    UpstreamConnect => "upstream_connect", failure;
    UpstreamTimeout => "upstream_timeout", failure;
    UpstreamProtocol => "upstream_protocol", failure;
    UpstreamReset => "upstream_reset", failure;
    // The gateway, and clients that disconnect.
    Overload => "overload", failure;
    AuditUnavailable => "audit_unavailable", failure;
    ClientGone => "client_gone", failure;
    /// A reloaded configuration would not let the open stream in.
    ReloadClosed => "reload_closed", refusal;
    /// The gateway stopped before the request had ended.
    Shutdown => "shutdown", failure;
    Internal => "internal", failure;
}
