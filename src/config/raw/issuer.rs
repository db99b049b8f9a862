//! `issuers.NAME`.

use std::path::PathBuf;
use std::time::Duration;

use super::super::decode::{OneOrMore, Required, mirror};
use super::super::origin::HttpUrl;
use super::super::source::At;

mirror! {
    struct RawIssuer {
        /// With `tenants`, it has `{tenant}` as a segment of its path. Required without `spiffe`.
        issuer: Option<Required<String>>,
        tenants: Option<At<OneOrMore<String>>>,
        /// A trust domain whose JWT-SVIDs are accepted.
        spiffe: Option<At<RawSpiffe>>,
        /// Default: discovered.
        jwks_uri: Option<Required<HttpUrl>>,
        /// Watched.
        jwks_file: Option<Required<PathBuf>>,
        audiences: Required<OneOrMore<String>>,
        /// The field in which its tokens come. Default: `Authorization`.
        token_header: Option<At<String>>,
        /// Default: all supported algorithms.
        algorithms: Option<At<OneOrMore<String>>>,
        /// Default: `at+jwt`, `JWT` and `absent`.
        types: Option<At<OneOrMore<String>>>,
        clock_skew: At<Duration> = Duration::from_secs(30),
        scope_claim: At<String> = "auto".to_owned(),
        /// Default: all.
        allow_scopes: Option<At<OneOrMore<String>>>,
        /// Default: the system's roots.
        ca: Option<At<PathBuf>>,
        /// Default: 1 h.
        max_stale: Option<At<Duration>>,
        /// Whether its documents may be fetched in clear text from other machines.
        /// Default: false.
        allow_http: Option<At<bool>>,
    }
}

mirror! {
    struct RawSpiffe {
        trust_domain: Required<String>,
        /// A file, or a URL.
        bundle: Required<String>,
    }
}
