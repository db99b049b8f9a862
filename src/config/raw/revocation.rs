//! `revoked[]`: what is trusted no longer, whatever its tokens say.

use super::super::decode::{Required, mirror};
use super::super::source::At;
use crate::clock::UnixTime;

mirror! {
    /// One token, client or subject, or with none of them all of the issuer's.
    struct RawRevocation {
        /// Default: `self`.
        issuer: Option<At<String>>,
        jti: Option<Required<String>>,
        client: Option<Required<String>>,
        subject: Option<Required<String>>,
        issued_before: Option<Required<UnixTime>>,
    }
}
