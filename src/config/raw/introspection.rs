//! `issuers.NAME.introspection`: the endpoint that is asked about tokens (RFC 7662).

use std::time::Duration;

use super::super::decode::{Required, mirror};
use super::super::origin::HttpUrl;
use super::super::source::At;
use super::oauth::Secret;

mirror! {
    struct RawIntrospection {
        /// The URL of the introspection endpoint.
        endpoint: Required<HttpUrl>,
        /// The gateway's own client at the issuer.
        client_id: Required<String>,
        client_secret: Required<Secret>,
        /// How long an answer counts, `0s` to `10m`.
        cache: At<Duration> = Duration::from_secs(30),
    }
}
