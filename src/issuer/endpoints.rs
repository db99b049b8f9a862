//! The URLs of the authorization server, and the paths at which the gateway serves them.
//!
//! Takes the issuer identifier and the configured path of the token endpoint. Paths that are not configured are below
//! the path of the issuer, so that a load balancer may forward that path alone. Only the metadata has two places
//! outside it, by RFC 8414. Reads no request.

const JWKS: &str = "/.well-known/jwks.json";
/// RFC 8414 §3, and OpenID Connect Discovery §4 for clients that know only this path. The document is the same.
const METADATA: [&str; 2] = ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"];
const TOKEN: &str = "/oauth/token";
const REVOCATION: &str = "/oauth/revoke";
const AUTHORIZATION: &str = "/oauth/authorize";
const INTROSPECTION: &str = "/oauth/introspect";

/// The endpoints of one issuer. Paths are decoded and without a slash at the end.
#[derive(Clone, Debug)]
pub(crate) struct Endpoints {
    /// The value of `iss`, exactly as configured.
    pub(crate) issuer: String,
    pub(crate) token: String,
    /// RFC 7009.
    pub(crate) revocation: String,
    /// Refuses every request: clients get tokens at the token endpoint alone.
    pub(crate) authorization: String,
    /// RFC 7662. `None`: there is none.
    pub(crate) introspection: Option<String>,
    pub(crate) jwks: String,
    pub(crate) metadata: Vec<String>,
    /// Whether clients can present certificates.
    pub(crate) takes_certificates: bool,
    /// The origin at which they do, where it is another than that of the issuer.
    pub(crate) mtls_origin: Option<String>,
    origin_bytes: usize,
}

impl Endpoints {
    /// `token_path` is absolute. Without it the token endpoint is below the path of the issuer.
    pub(crate) fn new(issuer: &str, token_path: Option<&str>) -> Self {
        let origin_bytes = origin_bytes(issuer);
        let below = issuer[origin_bytes..].trim_end_matches('/');
        let token = token_path.map_or_else(|| format!("{below}{TOKEN}"), str::to_owned);
        Self {
            revocation: beside(&token, "revoke").unwrap_or_else(|| format!("{below}{REVOCATION}")),
            authorization: beside(&token, "authorize").unwrap_or_else(|| format!("{below}{AUTHORIZATION}")),
            introspection: None,
            token,
            jwks: format!("{below}{JWKS}"),
            metadata: metadata_paths(below),
            takes_certificates: false,
            mtls_origin: None,
            issuer: issuer.to_owned(),
            origin_bytes,
        }
    }

    /// The same with an introspection endpoint.
    pub(crate) fn with_introspection(self) -> Self {
        let below = self.issuer[self.origin_bytes..].trim_end_matches('/');
        let path = beside(&self.token, "introspect").unwrap_or_else(|| format!("{below}{INTROSPECTION}"));
        Self { introspection: Some(path), ..self }
    }

    /// The URL of one of the paths. The origin is that of the issuer.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", &self.issuer[..self.origin_bytes])
    }

    /// The URL of one of the paths for clients with certificates, where that is another (RFC 8705 §5).
    pub(crate) fn mtls_url(&self, path: &str) -> Option<String> {
        self.mtls_origin.as_ref().map(|origin| format!("{origin}{path}"))
    }

    /// The URLs of the token endpoint.
    pub(crate) fn token_urls(&self) -> impl Iterator<Item = String> {
        std::iter::once(self.url(&self.token)).chain(self.mtls_url(&self.token))
    }

    /// The audiences that the assertion of a client may have (RFC 7523 §3).
    pub(crate) fn assertion_audiences(&self) -> Vec<String> {
        std::iter::once(self.issuer.clone()).chain(self.token_urls()).collect()
    }

    /// Every path, which no route may have.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        let others = self.introspection.iter().chain(&self.metadata);
        [&self.token, &self.revocation, &self.authorization, &self.jwks].into_iter().chain(others).map(String::as_str)
    }

    /// True if two endpoints would have one path.
    pub(crate) fn collide(&self) -> bool {
        let mut paths: Vec<&str> = self.paths().collect();
        paths.sort_unstable();
        paths.windows(2).any(|pair| pair[0] == pair[1])
    }
}

/// Scheme, host and port.
fn origin_bytes(issuer: &str) -> usize {
    let authority = issuer.find("://").map_or(0, |at| at + "://".len());
    issuer[authority..].find('/').map_or(issuer.len(), |at| authority + at)
}

/// Inserted before the path (RFC 8414 §3.1) and appended to it (OpenID Connect Discovery §4.1): clients of either
/// document try either place.
fn metadata_paths(below: &str) -> Vec<String> {
    let inserted = METADATA.map(|place| format!("{place}{below}"));
    let appended = METADATA.iter().filter(|_| !below.is_empty()).map(|place| format!("{below}{place}"));
    inserted.into_iter().chain(appended).collect()
}

/// Beside the token endpoint if its path ends with `/token`.
fn beside(token_path: &str, name: &str) -> Option<String> {
    token_path.strip_suffix("/token").map(|folder| format!("{folder}/{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_has_its_documents_at_the_usual_places() {
        for issuer in ["https://gateway.example.com", "https://gateway.example.com/"] {
            let endpoints = Endpoints::new(issuer, None);
            assert_eq!(endpoints.metadata, METADATA);
            assert_eq!((endpoints.token.as_str(), endpoints.jwks.as_str()), (TOKEN, JWKS));
            assert_eq!(endpoints.url(&endpoints.jwks), "https://gateway.example.com/.well-known/jwks.json");
            assert_eq!(endpoints.issuer, issuer);
        }
    }

    #[test]
    fn clients_with_certificates_have_urls_of_their_own() {
        let mut endpoints = Endpoints::new("https://g.example/auth", None);
        assert_eq!(endpoints.mtls_url(&endpoints.token), None);
        endpoints.mtls_origin = Some("https://mtls.g.example:8443".to_owned());
        let expected = "https://mtls.g.example:8443/auth/oauth/token";
        assert_eq!(endpoints.mtls_url(&endpoints.token).as_deref(), Some(expected));
    }

    #[test]
    fn an_issuer_with_a_path_has_its_metadata_inserted_and_appended() {
        for issuer in ["https://g.example:8443/auth/v1", "https://g.example:8443/auth/v1/"] {
            let endpoints = Endpoints::new(issuer, None);
            let expected = [
                "/.well-known/oauth-authorization-server/auth/v1",
                "/.well-known/openid-configuration/auth/v1",
                "/auth/v1/.well-known/oauth-authorization-server",
                "/auth/v1/.well-known/openid-configuration",
            ];
            assert_eq!(endpoints.metadata, expected);
            assert_eq!(endpoints.url(&endpoints.token), "https://g.example:8443/auth/v1/oauth/token");
            assert_eq!(endpoints.revocation, "/auth/v1/oauth/revoke");
            assert_eq!(endpoints.authorization, "/auth/v1/oauth/authorize");
            assert_eq!(endpoints.jwks, "/auth/v1/.well-known/jwks.json");
        }
    }

    #[test]
    fn other_endpoints_are_beside_the_token_endpoint() {
        for (issuer, token, revocation) in [
            ("https://g.example", "/oauth/token", "/oauth/revoke"),
            ("https://g.example", "/token", "/revoke"),
            ("https://g.example/x", "/auth/v2/token", "/auth/v2/revoke"),
            ("https://g.example", "/auth/issue", "/oauth/revoke"),
            ("https://g.example/x", "/auth/issue", "/x/oauth/revoke"),
        ] {
            let endpoints = Endpoints::new(issuer, Some(token)).with_introspection();
            assert_eq!(endpoints.revocation, revocation);
            assert_eq!(endpoints.introspection, Some(revocation.replace("revoke", "introspect")));
        }
    }

    #[test]
    fn endpoints_of_one_path_are_noticed() {
        assert!(!Endpoints::new("https://g.example/x", None).collide());
        for path in ["/oauth/revoke", "/.well-known/jwks.json", "/.well-known/openid-configuration"] {
            assert!(Endpoints::new("https://g.example", Some(path)).collide(), "{path}");
        }
        let at_introspection = Endpoints::new("https://g.example", Some("/oauth/introspect"));
        assert!(!at_introspection.collide() && at_introspection.with_introspection().collide());
    }
}
