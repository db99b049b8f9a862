//! Finds an issuer's JWK Set through its metadata (RFC 8414 §3, OpenID Connect Discovery §4).

use reqwest::Client;
use serde::Deserialize;
use url::Url;

use super::fetch::{self, FetchError};

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
    #[error("{url} names a JWK Set at {found}: it must be https, or http to a loopback host of a loopback issuer")]
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
pub(super) async fn jwks_uri(client: &Client, issuer: &str) -> Result<Url, DiscoveryError> {
    let metadata_urls = metadata_urls(issuer).ok_or_else(|| DiscoveryError::NotAUrl { issuer: issuer.to_owned() })?;
    let [first, second] = metadata_urls;
    match fetch_jwks_uri(client, issuer, first).await {
        Err(DiscoveryError::Fetch(FetchError::Status { .. })) => fetch_jwks_uri(client, issuer, second).await,
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

async fn fetch_jwks_uri(client: &Client, issuer: &str, url: Url) -> Result<Url, DiscoveryError> {
    let document = fetch::get(client, &url).await?;
    let metadata: Metadata = match serde_json::from_slice(&document.body) {
        Ok(metadata) => metadata,
        Err(source) => return Err(DiscoveryError::Malformed { url, source }),
    };
    if metadata.issuer != issuer {
        return Err(DiscoveryError::Mismatch { url, found: metadata.issuer });
    }
    let found = metadata.jwks_uri;
    let beside_loopback = fetch::is_loopback(&url) && fetch::is_safe(&found);
    if found.scheme() != "https" && !beside_loopback {
        return Err(DiscoveryError::Unsafe { url, found });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn looks_at(issuer: &str, expected: [&str; 2]) {
        assert_eq!(metadata_urls(issuer).unwrap().map(String::from), expected.map(str::to_owned));
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
