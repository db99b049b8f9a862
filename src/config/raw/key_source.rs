//! `issuers.NAME.jwks` and `issuers.NAME.fetch`: keys in the configuration, and how documents are fetched.

use std::path::PathBuf;

use super::super::decode::{Named, OneOrMore, Required, mirror};
use super::super::source::At;
use super::jwk::RawJwk;
use super::oauth::Secret;

mirror! {
    struct RawJwks {
        /// Public keys, as JWKs.
        keys: Required<OneOrMore<RawJwk>>,
    }
}

mirror! {
    struct RawFetch {
        bearer_token_file: Option<At<PathBuf>>,
        /// May have credentials.
        proxy: Option<At<Secret>>,
        headers: Named<Secret>,
    }
}
