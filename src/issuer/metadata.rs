//! The documents that we publish: issuer metadata (RFC 8414 §2) and where each is found.

use serde_json::{Value, json};

pub(crate) const JWKS_PATH: &str = "/.well-known/jwks.json";
pub(crate) const METADATA_PATH: &str = "/.well-known/oauth-authorization-server";
/// The same document, for clients that look only there.
pub(crate) const OPENID_METADATA_PATH: &str = "/.well-known/openid-configuration";

/// `issuer` is an origin, so that paths simply follow it.
pub(crate) fn metadata(issuer: &str, token_path: &str) -> Value {
    json!({
        "issuer": issuer,
        "token_endpoint": format!("{issuer}{token_path}"),
        "jwks_uri": format!("{issuer}{JWKS_PATH}"),
        "grant_types_supported": ["client_credentials"],
        "response_types_supported": [],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
    })
}
