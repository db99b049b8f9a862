//! The published documents: issuer metadata (RFC 8414 §2), the paths, and the cache headers.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use bytes::Bytes;
use http::HeaderValue;
use serde_json::{Value, json};

use super::client_auth::ClientAuthMethod;
use crate::jose::BASE64URL;

pub(crate) const JWKS_PATH: &str = "/.well-known/jwks.json";
pub(crate) const METADATA_PATH: &str = "/.well-known/oauth-authorization-server";
/// The same document, for clients that know only this path.
pub(crate) const OPENID_METADATA_PATH: &str = "/.well-known/openid-configuration";

/// A document with its cache headers, made once.
#[derive(Clone, Debug)]
pub(crate) struct CachedDocument {
    pub(crate) json: Bytes,
    /// A hash of the content, so that it is equal in all processes (RFC 9110 §8.8.3).
    pub(crate) etag: HeaderValue,
    pub(crate) cache_control: HeaderValue,
}

impl CachedDocument {
    pub(crate) fn new(content: &Value, max_age: Duration) -> Self {
        let json = Bytes::from(content.to_string());
        let hash = BASE64URL.encode(&digest(&SHA256, &json).as_ref()[..ETAG_BYTES]);
        let header = |text: String| HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""));
        Self {
            etag: header(format!("\"{hash}\"")),
            cache_control: header(format!("public, max-age={}", max_age.as_secs())),
            json,
        }
    }

    /// True if the client has this document (RFC 9110 §13.1.2). `If-None-Match` uses weak comparison.
    pub(crate) fn is_held(&self, if_none_match: &HeaderValue) -> bool {
        let etag = self.etag.as_bytes();
        let tags = if_none_match.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        tags.map(|tag| tag.strip_prefix(b"W/").unwrap_or(tag)).any(|tag| tag == etag || tag == b"*")
    }
}

const ETAG_BYTES: usize = 16;

/// The path of the revocation endpoint (RFC 7009): beside the token endpoint if its path ends with `/token`, else the
/// default path.
pub(crate) fn revocation_path(token_path: &str) -> String {
    match token_path.strip_suffix("/token") {
        Some(folder) => format!("{folder}/revoke"),
        None => "/oauth/revoke".to_owned(),
    }
}

/// `issuer` is an origin, so that a path can be appended.
pub(crate) fn metadata(issuer: &str, token_path: &str) -> Value {
    let revocation_path = revocation_path(token_path);
    let authentication: Vec<&str> = ClientAuthMethod::ALL.iter().map(|method| method.as_str()).collect();
    json!({
        "issuer": issuer,
        "token_endpoint": format!("{issuer}{token_path}"),
        "jwks_uri": format!("{issuer}{JWKS_PATH}"),
        "grant_types_supported": ["client_credentials"],
        "response_types_supported": [],
        "token_endpoint_auth_methods_supported": authentication,
        "revocation_endpoint": format!("{issuer}{revocation_path}"),
        "revocation_endpoint_auth_methods_supported": authentication,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_if_none_match_is_understood() {
        let document = CachedDocument::new(&json!({"keys": []}), Duration::from_secs(7));
        let tag = document.etag.to_str().unwrap().to_owned();
        for held in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".to_owned()] {
            assert!(document.is_held(&HeaderValue::try_from(&held).unwrap()), "{held}");
        }
        for other in ["", "\"\"", "\"other\"", tag.trim_matches('"')] {
            assert!(!document.is_held(&HeaderValue::from_str(other).unwrap()), "{other}");
        }
        assert_eq!(document.cache_control, "public, max-age=7");
    }

    #[test]
    fn the_revocation_endpoint_is_beside_the_token_endpoint() {
        for (token, revocation) in [
            ("/oauth/token", "/oauth/revoke"),
            ("/token", "/revoke"),
            ("/auth/v2/token", "/auth/v2/revoke"),
            ("/auth/issue", "/oauth/revoke"),
        ] {
            assert_eq!(revocation_path(token), revocation);
        }
    }
}
