//! Finds an issuer's JWK Set through its metadata (RFC 8414 §3, OpenID Connect Discovery §4).

use serde::Deserialize;
use url::Url;

use super::fetch::{self, ClearText, FetchError, Fetcher};

#[derive(Debug, thiserror::Error)]
pub(crate) enum DiscoveryError {
    #[error("cannot fetch the issuer's metadata")]
    Fetch(#[from] FetchError),
    #[error("{url} is not issuer metadata")]
    Malformed {
        url: Url,
        #[source]
        source: serde_json::Error,
    },
    #[error("{url} names the issuer `{found}`")]
    Mismatch { url: Url, found: String },
    #[error(
        "{url} names a JWK Set at {found}: it must be https, or http to a loopback host of a loopback issuer; with \
         `allow_http` also http beside metadata that is fetched over http"
    )]
    Unsafe { url: Url, found: Url },
    #[error("cannot derive the metadata URL: the issuer `{issuer}` is not a URL")]
    NotAUrl { issuer: String },
}

#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: Url,
}

/// The `jwks_uri` in the issuer's metadata.
pub(super) async fn jwks_uri(fetcher: &Fetcher, issuer: &str) -> Result<Url, DiscoveryError> {
    let metadata_urls = metadata_urls(issuer).ok_or_else(|| DiscoveryError::NotAUrl { issuer: issuer.to_owned() })?;
    let [first, second] = metadata_urls;
    match fetch_jwks_uri(fetcher, issuer, first).await {
        Err(DiscoveryError::Fetch(FetchError::Status { .. })) => fetch_jwks_uri(fetcher, issuer, second).await,
        answer => answer,
    }
}

/// OpenID Connect appends its path to the issuer's path. RFC 8414 puts its path before the issuer's path.
fn metadata_urls(issuer: &str) -> Option<[Url; 2]> {
    let parsed = Url::parse(issuer).ok()?;
    let path = parsed.path().trim_end_matches('/');
    let at = |path: String| {
        let mut url = parsed.clone();
        url.set_path(&path);
        url
    };
    Some([
        at(format!("{path}/.well-known/openid-configuration")),
        at(format!("/.well-known/oauth-authorization-server{path}")),
    ])
}

async fn fetch_jwks_uri(fetcher: &Fetcher, issuer: &str, url: Url) -> Result<Url, DiscoveryError> {
    let document = fetch::get(fetcher, &url).await?;
    let metadata: Metadata = match serde_json::from_slice(&document.body) {
        Ok(metadata) => metadata,
        Err(source) => return Err(DiscoveryError::Malformed { url, source }),
    };
    if metadata.issuer != issuer {
        return Err(DiscoveryError::Mismatch { url, found: metadata.issuer });
    }
    let found = metadata.jwks_uri;
    if may_lead_to(fetcher.clear_text, &url, &found) { Ok(found) } else { Err(DiscoveryError::Unsafe { url, found }) }
}

/// Metadata that came over https never leads to keys in clear text, and that of another machine never to this one.
fn may_lead_to(clear_text: ClearText, metadata: &Url, keys: &Url) -> bool {
    let beside_loopback = fetch::is_loopback(metadata) && ClearText::Loopback.permits(keys);
    let in_clear_text = clear_text == ClearText::AnyHost && metadata.scheme() == "http" && keys.scheme() == "http";
    keys.scheme() == "https" || beside_loopback || (in_clear_text && !fetch::is_loopback(keys))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn looks_at(issuer: &str, expected: [&str; 2]) {
        assert_eq!(metadata_urls(issuer).unwrap().map(String::from), expected.map(str::to_owned));
    }

    #[test]
    fn metadata_leads_to_keys_in_clear_text_only_where_it_may() {
        let leads = |clear_text, metadata: &str, keys: &str| {
            may_lead_to(clear_text, &Url::parse(metadata).unwrap(), &Url::parse(keys).unwrap())
        };
        for (metadata, keys, by_default, if_allowed) in [
            ("https://a.example/m", "https://b.example/k", true, true),
            ("https://a.example/m", "http://a.example/k", false, false),
            ("https://a.example/m", "http://localhost/k", false, false),
            ("http://localhost/m", "http://127.0.0.1/k", true, true),
            ("http://localhost/m", "http://a.example/k", false, true),
            ("http://a.example/m", "http://a.example/k", false, true),
            ("http://a.example/m", "http://localhost/k", false, false),
            ("http://a.example/m", "file:///k", false, false),
        ] {
            assert_eq!(leads(ClearText::Loopback, metadata, keys), by_default, "{metadata} {keys}");
            assert_eq!(leads(ClearText::AnyHost, metadata, keys), if_allowed, "{metadata} {keys}");
        }
    }

    #[test]
    fn metadata_is_looked_for_where_the_two_specifications_put_it() {
        looks_at(
            "https://a.example/",
            [
                "https://a.example/.well-known/openid-configuration",
                "https://a.example/.well-known/oauth-authorization-server",
            ],
        );
        looks_at(
            "https://a.example/realms/x",
            [
                "https://a.example/realms/x/.well-known/openid-configuration",
                "https://a.example/.well-known/oauth-authorization-server/realms/x",
            ],
        );
    }
}
