//! Finds an issuer's JWK Set through its metadata (RFC 8414 §3, OpenID Connect Discovery §4).
//!
//! Takes the configured issuer; gives the `jwks_uri` of the first document that is the metadata of exactly this issuer,
//! or the result of each URL. Decides whether the metadata may lead to keys over http.

use serde::Deserialize;
use tokio::time::Instant;
use url::Url;

use super::fetch::{self, ClearText, DocumentKind, FetchError, Fetcher, TOTAL_TIMEOUT};
use super::progress::FetchResult;
use crate::telemetry::error_chain::ErrorChain;

#[derive(Debug, thiserror::Error)]
pub(crate) enum DiscoveryError {
    /// The results of all URLs that were tried. The last one may have ended the search.
    #[error("no metadata of the issuer `{issuer}` can be used: {}", results(tried))]
    NotFound { issuer: String, tried: Vec<MetadataError> },
    #[error("cannot derive the metadata URL: the issuer `{issuer}` is not a URL")]
    NotAUrl { issuer: String },
}

/// The result of one URL.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MetadataError {
    #[error(transparent)]
    Fetch(FetchError),
    #[error("{url} is not issuer metadata")]
    Malformed {
        url: Url,
        #[source]
        source: serde_json::Error,
    },
    #[error("{url} names the issuer `{found}`{}", difference(found, configured))]
    Mismatch { url: Url, found: String, configured: String },
    #[error(
        "{url} names a JWK Set at {found}: it must be https, or http to a loopback host of a loopback issuer; with \
         `allow_http` also http beside metadata that is fetched over http"
    )]
    Unsafe { url: Url, found: Url },
}

#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: Url,
}

/// Each result is cut to this length, because it may quote the document.
const SHOWN_CHARACTERS: usize = 400;

/// The `jwks_uri` in the issuer's metadata: in the first document whose `issuer` is exactly this one. All URLs share one
/// deadline, and a server that cannot be reached is not asked again.
pub(super) async fn jwks_uri(fetcher: &Fetcher, issuer: &str) -> Result<Url, DiscoveryError> {
    let urls = metadata_urls(issuer).ok_or_else(|| DiscoveryError::NotAUrl { issuer: issuer.to_owned() })?;
    let deadline = Instant::now() + TOTAL_TIMEOUT;
    let mut tried = Vec::new();
    for url in urls {
        match fetch_jwks_uri(fetcher, issuer, url, deadline).await {
            Ok(found) => return Ok(found),
            Err(error) => {
                let ends = error.concerns_all_urls();
                tried.push(error);
                if ends {
                    break;
                }
            }
        }
    }
    Err(DiscoveryError::NotFound { issuer: issuer.to_owned(), tried })
}

/// The URLs of the metadata, each once. OpenID Connect Discovery §4 appends its path to that of the issuer, as nearly all
/// issuers do. RFC 8414 §3 inserts its path before that of the issuer, and §5 permits the path of OpenID Connect there.
/// The last one, with the path of RFC 8414 appended, is in no specification, but some issuers use it.
pub(crate) fn metadata_urls(issuer: &str) -> Option<Vec<Url>> {
    const OPENID: &str = "/.well-known/openid-configuration";
    const OAUTH: &str = "/.well-known/oauth-authorization-server";
    let parsed = Url::parse(issuer).ok()?;
    let path = parsed.path().trim_end_matches('/');
    let paths =
        [format!("{path}{OPENID}"), format!("{OAUTH}{path}"), format!("{OPENID}{path}"), format!("{path}{OAUTH}")];
    let mut urls = Vec::new();
    for path in paths {
        let mut url = parsed.clone();
        url.set_path(&path);
        if !urls.contains(&url) {
            urls.push(url);
        }
    }
    Some(urls)
}

async fn fetch_jwks_uri(fetcher: &Fetcher, issuer: &str, url: Url, deadline: Instant) -> Result<Url, MetadataError> {
    let document = fetch::get(fetcher, &url, DocumentKind::Metadata, deadline).await.map_err(MetadataError::Fetch)?;
    let metadata: Metadata = match serde_json::from_slice(&document.body) {
        Ok(metadata) => metadata,
        Err(source) => return Err(MetadataError::Malformed { url, source }),
    };
    if metadata.issuer != issuer {
        return Err(MetadataError::Mismatch { url, found: metadata.issuer, configured: issuer.to_owned() });
    }
    let found = metadata.jwks_uri;
    if may_lead_to(fetcher.clear_text, &url, &found) { Ok(found) } else { Err(MetadataError::Unsafe { url, found }) }
}

impl DiscoveryError {
    /// The result for the metric: of documents if there were any, else of the last URL.
    pub(super) fn result(&self) -> FetchResult {
        match self {
            Self::NotFound { tried, .. } => {
                let of_document =
                    tried.iter().map(MetadataError::result).find(|result| *result == FetchResult::Metadata);
                of_document.or_else(|| tried.last().map(MetadataError::result)).unwrap_or(FetchResult::Metadata)
            }
            Self::NotAUrl { .. } => FetchResult::Setup,
        }
    }
}

impl MetadataError {
    /// Whether the other URLs would give the same result.
    fn concerns_all_urls(&self) -> bool {
        match self {
            Self::Fetch(error) => match error {
                FetchError::Status { .. } | FetchError::TooLarge { .. } => false,
                FetchError::Setup(_)
                | FetchError::Scheme { .. }
                | FetchError::Transport { .. }
                | FetchError::Token(_)
                | FetchError::Incomplete
                | FetchError::Stopped => true,
            },
            Self::Malformed { .. } | Self::Mismatch { .. } | Self::Unsafe { .. } => false,
        }
    }

    fn result(&self) -> FetchResult {
        match self {
            Self::Fetch(error) => error.result(),
            Self::Malformed { .. } | Self::Mismatch { .. } | Self::Unsafe { .. } => FetchResult::Metadata,
        }
    }
}

/// On one line, without control characters, each of bounded length.
fn results(tried: &[MetadataError]) -> String {
    let shown = |error: &MetadataError| {
        let text = ErrorChain(error).to_string();
        let mut characters = text.chars().map(|c| if c.is_control() { '?' } else { c });
        let mut shown: String = characters.by_ref().take(SHOWN_CHARACTERS).collect();
        if characters.next().is_some() {
            shown.push('…');
        }
        shown
    };
    tried.iter().map(shown).collect::<Vec<_>>().join("; ")
}

/// How the issuer of a document differs from the configured one, if only by a slash or by case.
fn difference(found: &str, configured: &str) -> &'static str {
    if found.trim_end_matches('/') == configured.trim_end_matches('/') {
        ", which differs by a trailing slash"
    } else if found.eq_ignore_ascii_case(configured) {
        ", which differs by the case of letters"
    } else {
        ""
    }
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
    fn looks_at(issuer: &str, expected: &[&str]) {
        let urls: Vec<String> = metadata_urls(issuer).unwrap().into_iter().map(String::from).collect();
        assert_eq!(urls, expected);
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
    fn metadata_is_looked_for_at_each_url_once() {
        for issuer in ["https://a.example", "https://a.example/"] {
            looks_at(
                issuer,
                &[
                    "https://a.example/.well-known/openid-configuration",
                    "https://a.example/.well-known/oauth-authorization-server",
                ],
            );
        }
        looks_at(
            "https://a.example/realms/x",
            &[
                "https://a.example/realms/x/.well-known/openid-configuration",
                "https://a.example/.well-known/oauth-authorization-server/realms/x",
                "https://a.example/.well-known/openid-configuration/realms/x",
                "https://a.example/realms/x/.well-known/oauth-authorization-server",
            ],
        );
        assert_eq!(metadata_urls("corp"), None);
    }

    #[test]
    fn an_error_has_every_result_and_how_the_issuer_differs() {
        let url = || Url::parse("https://a.example/m").unwrap();
        let mismatch = |found: &str| MetadataError::Mismatch {
            url: url(),
            found: found.to_owned(),
            configured: "https://a.example".to_owned(),
        };
        let status = MetadataError::Fetch(FetchError::Status { url: url(), status: 404, withheld: false });
        let long = mismatch(&format!("x\n{}", "y".repeat(1000)));
        let tried = vec![status, mismatch("https://a.example/"), mismatch("https://A.example"), long];
        let error = DiscoveryError::NotFound { issuer: "https://a.example".to_owned(), tried };
        let text = error.to_string();
        for part in [
            "no metadata of the issuer `https://a.example` can be used: https://a.example/m answered 404; ",
            "`https://a.example/`, which differs by a trailing slash; ",
            "`https://A.example`, which differs by the case of letters; ",
            "names the issuer `x?yyy",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert!(text.len() < 1000 && text.ends_with('…'), "{text}");
        assert_eq!(error.result(), FetchResult::Metadata);
    }
}
