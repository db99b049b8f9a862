//! `oauth.clients.ID.federation`: tokens of platforms that are a client's credentials.

use super::super::decode::{Named, Required, mirror};
use super::super::source::At;
use super::claim::RawClaimRule;

mirror! {
    struct RawFederation {
        /// The name of an issuer of `issuers`.
        issuer: Required<String>,
        /// One of the `tenants` of the issuer. Required if it has them.
        tenant: Option<At<String>>,
        /// The subject of its tokens, or a pattern.
        subject: Required<String>,
        /// Further conditions, as in `access.claims`.
        claims: Named<RawClaimRule>,
        /// Whether a token counts once only.
        once: At<bool> = false,
    }
}
