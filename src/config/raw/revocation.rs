//! `revoked[]`: revoked tokens, clients, subjects and issuers.

use super::super::decode::{Required, mirror};
use super::super::source::At;
use crate::clock::UnixTime;

mirror! {
    /// One token, client or subject; with none of them, all tokens of the issuer.
    struct RawRevocation {
        /// Default: `self`.
        issuer: Option<At<String>>,
        jti: Option<Required<String>>,
        client: Option<Required<String>>,
        subject: Option<Required<String>>,
        issued_before: Option<Required<UnixTime>>,
    }
}
