//! The resources that routes protect, and their resource documents: protected resource metadata (RFC 9728).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use foldhash::HashMap;
use serde_json::{Value, json};
use url::Url;

use crate::issuer::metadata::CachedDocument;
use crate::jose::dpop::PROOF_ALGORITHM_NAMES;
use crate::oauth::bound::TokenBinding;

/// A resource by its URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResourceIdentifier {
    /// Exactly as configured: clients compare it byte by byte with the URL that they use.
    pub(crate) url: String,
    /// The URL of its document.
    pub(crate) metadata_url: String,
    /// The path of its document, without a slash at the end.
    pub(crate) place: String,
    /// In lower case, without port.
    pub(crate) host: String,
}

/// The content of a document, besides what is the same for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResourceDescription {
    /// For people.
    pub(crate) name: Option<String>,
    /// The issuers of the tokens that its routes take. Never empty.
    pub(crate) authorization_servers: Vec<String>,
    pub(crate) scopes: BTreeSet<String>,
    /// Every route demands tokens that are bound to a DPoP key.
    pub(crate) demands_dpop: bool,
    /// A route demands tokens that are bound, and takes those that are bound to a client certificate.
    pub(crate) takes_certificates: bool,
}

/// A resource with its document.
#[derive(Clone, Debug)]
pub(crate) struct ProtectedResource {
    pub(crate) identifier: Arc<ResourceIdentifier>,
    pub(crate) description: ResourceDescription,
    pub(crate) document: CachedDocument,
}

/// All documents, by their paths. Resources of several hosts may have the same path.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProtectedResources(HashMap<String, Vec<ProtectedResource>>);

/// RFC 9728 §3.
pub(crate) const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";
/// Clients read the document again after this time.
const MAX_AGE: Duration = Duration::from_secs(300);

impl ResourceIdentifier {
    /// `url` has a host, and neither query nor fragment.
    pub(crate) fn new(text: &str, url: &Url) -> Self {
        let origin_bytes = text.len() - path_of(text).len();
        let (origin, path) = text.split_at(origin_bytes);
        // A slash after the host is no path (RFC 9728 §3.1).
        let inserted = if path == "/" { "" } else { path };
        Self {
            url: text.to_owned(),
            metadata_url: format!("{origin}{WELL_KNOWN}{inserted}"),
            place: format!("{WELL_KNOWN}{}", inserted.trim_end_matches('/')),
            host: url.host_str().unwrap_or_default().to_ascii_lowercase(),
        }
    }

    /// The segments of its path.
    pub(crate) fn segments(&self) -> impl Iterator<Item = &str> {
        path_of(&self.url).split('/').filter(|segment| !segment.is_empty())
    }

    /// Whether both documents would have the same place on the same host.
    pub(crate) fn collides(&self, other: &Self) -> bool {
        (&self.host, &self.place) == (&other.host, &other.place)
    }
}

fn path_of(url: &str) -> &str {
    let authority = url.find("://").map_or(0, |at| at + "://".len());
    url[authority..].find('/').map_or("", |at| &url[authority + at..])
}

impl ResourceDescription {
    /// Without a route yet.
    pub(crate) fn of(name: Option<String>, scopes: impl IntoIterator<Item = String>) -> Self {
        let scopes = scopes.into_iter().collect();
        Self { name, authorization_servers: Vec::new(), scopes, demands_dpop: true, takes_certificates: false }
    }

    /// Adds what a route demands of its tokens.
    pub(crate) fn add_binding(&mut self, bound: TokenBinding) {
        self.demands_dpop &= bound == TokenBinding::Dpop;
        self.takes_certificates |= matches!(bound, TokenBinding::Mtls | TokenBinding::Either);
    }
}

impl ProtectedResource {
    pub(crate) fn new(identifier: Arc<ResourceIdentifier>, description: ResourceDescription) -> Self {
        let document = CachedDocument::new(&document(&identifier, &description), MAX_AGE);
        Self { identifier, description, document }
    }
}

/// Names nothing that the gateway does not do, and no empty list: clients take `scopes_supported: []` for "no scope".
fn document(identifier: &ResourceIdentifier, description: &ResourceDescription) -> Value {
    let ResourceDescription { name, authorization_servers, scopes, demands_dpop, takes_certificates } = description;
    let mut document = json!({
        "resource": identifier.url,
        "authorization_servers": authorization_servers,
        "bearer_methods_supported": ["header"],
        "dpop_signing_alg_values_supported": PROOF_ALGORITHM_NAMES,
    });
    if *demands_dpop {
        document["dpop_bound_access_tokens_required"] = json!(true);
    }
    if *takes_certificates {
        document["tls_client_certificate_bound_access_tokens"] = json!(true);
    }
    if let Some(name) = name {
        document["resource_name"] = json!(name);
    }
    if !scopes.is_empty() {
        document["scopes_supported"] = json!(scopes);
    }
    document
}

impl ProtectedResources {
    pub(crate) fn new(resources: impl IntoIterator<Item = ProtectedResource>) -> Self {
        let mut by_place: HashMap<String, Vec<ProtectedResource>> = HashMap::default();
        for resource in resources {
            by_place.entry(resource.identifier.place.clone()).or_default().push(resource);
        }
        Self(by_place)
    }

    /// The resource whose document is at this path, which is decoded and has no slash at the end. Where several hosts
    /// have one there, the host decides.
    pub(crate) fn at(&self, path: &str, host: &str) -> Option<&ProtectedResource> {
        match &self.0.get(path)?[..] {
            [only] => Some(only),
            several => several.iter().find(|resource| resource.identifier.host == host),
        }
    }

    /// In a fixed order.
    pub(crate) fn all(&self) -> Vec<&ProtectedResource> {
        let mut all: Vec<_> = self.0.values().flatten().collect();
        all.sort_by(|one, other| one.identifier.url.cmp(&other.identifier.url));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identifier(url: &str) -> Arc<ResourceIdentifier> {
        Arc::new(ResourceIdentifier::new(url, &Url::parse(url).unwrap()))
    }

    #[test]
    fn a_document_has_its_place_before_the_path() {
        for (url, metadata, place) in [
            ("https://a.example", "https://a.example/.well-known/oauth-protected-resource", ""),
            ("https://a.example/", "https://a.example/.well-known/oauth-protected-resource", ""),
            (
                "https://a.example:8443/x/mcp",
                "https://a.example:8443/.well-known/oauth-protected-resource/x/mcp",
                "/x/mcp",
            ),
            ("https://a.example/mcp/", "https://a.example/.well-known/oauth-protected-resource/mcp/", "/mcp"),
        ] {
            let found = identifier(url);
            assert_eq!((&*found.url, &*found.metadata_url), (url, metadata));
            assert_eq!(found.place, format!("{WELL_KNOWN}{place}"));
            assert_eq!(found.host, "a.example");
        }
    }

    #[test]
    fn a_document_has_no_empty_list_and_the_exact_url() {
        for scopes in [BTreeSet::new(), BTreeSet::from(["b".to_owned(), "a".to_owned()])] {
            let mut description = ResourceDescription::of(None, scopes.clone());
            description.authorization_servers.push("https://as.example".to_owned());
            description.add_binding(TokenBinding::None);
            let resource = ProtectedResource::new(identifier("https://a.example/"), description);
            let text = std::str::from_utf8(&resource.document.json).unwrap().to_owned();
            assert!(text.contains("\"resource\":\"https://a.example/\""), "{text}");
            assert_eq!(text.contains("\"scopes_supported\":[\"a\",\"b\"]"), !scopes.is_empty(), "{text}");
            assert!(!text.contains("[]") && !text.contains("resource_name"), "{text}");
        }
    }

    #[test]
    fn the_host_decides_among_documents_of_one_path() {
        let description = ResourceDescription::of(None, []);
        let of = |urls: &[&str]| {
            let resource = |url: &&str| ProtectedResource::new(identifier(url), description.clone());
            ProtectedResources::new(urls.iter().map(resource))
        };
        let at = |resources: &ProtectedResources, path: &str, host| {
            resources.at(&format!("{WELL_KNOWN}{path}"), host).map(|found| found.identifier.url.clone())
        };
        let one = of(&["https://a.example", "https://a.example/mcp"]);
        assert_eq!(at(&one, "", "other").as_deref(), Some("https://a.example"));
        assert_eq!(at(&one, "/mcp", "a.example").as_deref(), Some("https://a.example/mcp"));
        assert_eq!(at(&one, "/other", "a.example"), None);
        let two = of(&["https://a.example", "https://b.example:8443/"]);
        assert_eq!(at(&two, "", "b.example").as_deref(), Some("https://b.example:8443/"));
        assert_eq!(at(&two, "", "c.example"), None);
    }
}
