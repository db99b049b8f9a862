//! The published documents: issuer metadata (RFC 8414 §2, OpenID Connect Discovery §3) and the cache headers.
//!
//! Takes the endpoints, the algorithms of the published keys and the scopes of the clients. Names nothing that the
//! gateway does not do, and no empty list (RFC 8414 §3.2).

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use bytes::Bytes;
use http::HeaderValue;
use serde_json::{Value, json};

use super::client_auth::ClientAuthMethod;
use super::endpoints::Endpoints;
use crate::jose::BASE64URL;
use crate::jose::algorithm::Algorithm;
use crate::jose::dpop::PROOF_ALGORITHM_NAMES;
use crate::oauth::scope::{Scope, ScopeSet};

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

/// The metadata document. `algorithms` are those of the published keys.
///
/// - `authorization_endpoint` may be left out by RFC 8414 §2, but the MCP SDKs refuse a document without it. The
///   endpoint refuses every request.
/// - `response_types_supported` is required, and OpenID clients refuse an empty list. The value is `none`: the one
///   registered response type that returns neither a code nor a token.
/// - `id_token_signing_alg_values_supported`: the gateway issues no ID tokens. Verifiers take the algorithms that they
///   accept from this member, so it has those of the access tokens.
/// - `scopes_supported` is optional. It is left out if the clients have more scopes than one token could have.
/// - `token_endpoint_auth_signing_alg_values_supported` is required if `private_key_jwt` is listed (RFC 8414 §2), and
///   left out otherwise.
/// - `grant_types_supported` has `jwt-bearer` only if a client has `federation`.
pub(crate) fn metadata(
    endpoints: &Endpoints,
    algorithms: &[Algorithm],
    scopes: Option<&ScopeSet>,
    methods: &[ClientAuthMethod],
    grants: &[&str],
) -> Value {
    let authentication: Vec<&str> = methods.iter().map(|method| method.as_str()).collect();
    let algorithms: Vec<&str> = algorithms.iter().map(|algorithm| algorithm.as_str()).collect();
    let mut metadata = json!({
        "issuer": endpoints.issuer,
        "authorization_endpoint": endpoints.url(&endpoints.authorization),
        "token_endpoint": endpoints.url(&endpoints.token),
        "jwks_uri": endpoints.url(&endpoints.jwks),
        "grant_types_supported": grants,
        "response_types_supported": ["none"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": algorithms,
        "token_endpoint_auth_methods_supported": authentication,
        "dpop_signing_alg_values_supported": PROOF_ALGORITHM_NAMES,
        "revocation_endpoint": endpoints.url(&endpoints.revocation),
        "revocation_endpoint_auth_methods_supported": authentication,
    });
    if let Some(introspection) = &endpoints.introspection {
        metadata["introspection_endpoint"] = json!(endpoints.url(introspection));
        metadata["introspection_endpoint_auth_methods_supported"] = json!(authentication);
    }
    if methods.contains(&ClientAuthMethod::PrivateKeyJwt) {
        let introspection = endpoints.introspection.as_ref().map(|_| "introspection");
        for endpoint in ["token", "revocation"].into_iter().chain(introspection) {
            let member = format!("{endpoint}_endpoint_auth_signing_alg_values_supported");
            metadata[member] = Algorithm::ALL.into_iter().map(Algorithm::as_str).collect();
        }
    }
    if endpoints.takes_certificates {
        metadata["tls_client_certificate_bound_access_tokens"] = true.into();
    }
    if let (Some(token), Some(revocation)) =
        (endpoints.mtls_url(&endpoints.token), endpoints.mtls_url(&endpoints.revocation))
    {
        metadata["mtls_endpoint_aliases"] = json!({ "token_endpoint": token, "revocation_endpoint": revocation });
        if let Some(introspection) = endpoints.introspection.as_ref().and_then(|path| endpoints.mtls_url(path)) {
            metadata["mtls_endpoint_aliases"]["introspection_endpoint"] = json!(introspection);
        }
    }
    if let Some(scopes) = scopes.filter(|scopes| !scopes.is_empty()) {
        metadata["scopes_supported"] = scopes.iter().map(Scope::as_str).collect();
    }
    metadata
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
    fn the_metadata_has_no_empty_list() {
        let endpoints = Endpoints::new("https://gateway.example.com", None);
        for scopes in [None, Some(ScopeSet::default()), Some(ScopeSet::parse("a b").unwrap())] {
            let metadata = metadata(&endpoints, &[Algorithm::Es256], scopes.as_ref(), ClientAuthMethod::ALL, &["a"]);
            let lists =
                metadata.as_object().unwrap().iter().filter_map(|(name, value)| Some((name, value.as_array()?)));
            for (name, list) in lists {
                assert!(!list.is_empty(), "{name}");
            }
            let listed = scopes.is_some_and(|scopes| !scopes.is_empty());
            assert_eq!(metadata.get("scopes_supported").is_some(), listed);
        }
    }
}
