//! The documents that we publish: issuer metadata (RFC 8414 §2) and where each is found.

use serde_json::{Value, json};

pub(crate) const JWKS_PATH: &str = "/.well-known/jwks.json";
pub(crate) const METADATA_PATH: &str = "/.well-known/oauth-authorization-server";
/// The same document, for clients that look only there.
pub(crate) const OPENID_METADATA_PATH: &str = "/.well-known/openid-configuration";

/// Where tokens are revoked (RFC 7009): beside the token endpoint where that is called so, else at the usual place.
pub(crate) fn revocation_path(token_path: &str) -> String {
    match token_path.strip_suffix("/token") {
        Some(folder) => format!("{folder}/revoke"),
        None => "/oauth/revoke".to_owned(),
    }
}

/// `issuer` is an origin, so that paths simply follow it.
pub(crate) fn metadata(issuer: &str, token_path: &str) -> Value {
    let revocation_path = revocation_path(token_path);
    let authentication = ["client_secret_basic", "client_secret_post"];
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
    fn revocation_stands_beside_the_token_endpoint() {
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
