//! `static_tokens`: hand-made tokens that count until a date.

use super::super::decode::{OneOrMore, Required, mirror};
use super::super::source::At;
use super::oauth::Secret;
use crate::clock::UnixTime;

mirror! {
    struct RawStaticToken {
        hash: Required<Secret>,
        scopes: Required<OneOrMore<String>>,
        until: Required<UnixTime>,
        /// Default: `Authorization`, with the scheme `Bearer`.
        header: Option<At<String>>,
    }
}
