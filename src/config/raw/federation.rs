//! `oauth.clients.ID.federation`: tokens of platforms that are a client's credentials.

use super::super::decode::{Named, Required, mirror};
use super::super::source::At;
use super::claim::RawClaimRule;

mirror! {
    struct RawFederation {
        issuer: Required<String>,
        /// The subject of its tokens, or a pattern.
        subject: Required<String>,
        claims: Named<RawClaimRule>,
        /// Whether a token counts once only.
        once: At<bool> = false,
    }
}
