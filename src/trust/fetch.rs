//! Fetches a small JSON document from an issuer, with all limits applied.
//!
//! No redirects and no proxy from the environment. Only https, or http as far as [`ClearText`] allows. Every step has a
//! deadline, and at most [`MAX_BYTES`] are read, counted after decompression. The callers check the content. The
//! content type is not checked.

use std::net::IpAddr;
use std::time::Duration;

use http::header::{CACHE_CONTROL, DATE};
use reqwest::{Certificate, Client, redirect};
use url::{Host, Url};

use crate::clock::{self, UnixTime};

/// A document and the time for which it may be cached.
#[derive(Debug)]
pub(super) struct FetchedDocument {
    pub(super) body: Vec<u8>,
    /// `max-age` of `Cache-Control`, not clamped (RFC 9111 §5.2.2.1).
    pub(super) max_age: Option<Duration>,
    /// Seconds by which the issuer's clock is ahead of the gateway's, from its `Date` header.
    pub(super) clock_skew: Option<i64>,
}

/// The hosts from which documents may be fetched over http. The configuration decides, for each issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClearText {
    /// The traffic cannot leave the machine.
    Loopback,
    AnyHost,
}

/// An HTTP client for the documents of one issuer.
#[derive(Debug)]
pub(super) struct Fetcher {
    client: Client,
    pub(super) clear_text: ClearText,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("cannot set up TLS for fetching")]
    Setup(#[source] reqwest::Error),
    #[error("{url} is neither https nor http to a loopback host, and the issuer has no `allow_http`")]
    Scheme { url: Url },
    #[error("cannot fetch {url}")]
    Transport {
        url: Url,
        #[source]
        source: reqwest::Error,
    },
    #[error("{url} answered {status}")]
    Status { url: Url, status: u16 },
    #[error("{url} sent more than {MAX_BYTES} bytes")]
    TooLarge { url: Url },
}

/// Of a document, after decompression.
pub(super) const MAX_BYTES: usize = 256 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const TOTAL_TIMEOUT: Duration = Duration::from_secs(5);

impl Fetcher {
    /// Trusts only `ca`, or the system's roots if `ca` is absent.
    pub(super) fn new(ca: Option<&[u8]>, clear_text: ClearText) -> Result<Self, FetchError> {
        let builder = Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TOTAL_TIMEOUT)
            .pool_max_idle_per_host(1)
            .user_agent(concat!("portcullis/", env!("CARGO_PKG_VERSION")));
        let builder = match ca {
            Some(pem) => builder.tls_certs_only(Certificate::from_pem_bundle(pem).map_err(FetchError::Setup)?),
            None => builder,
        };
        Ok(Self { client: builder.build().map_err(FetchError::Setup)?, clear_text })
    }
}

impl ClearText {
    pub(crate) fn permits(self, url: &Url) -> bool {
        match (url.scheme(), self) {
            ("https", _) | ("http", Self::AnyHost) => true,
            ("http", Self::Loopback) => is_loopback(url),
            (_, Self::Loopback | Self::AnyHost) => false,
        }
    }
}

pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        None => false,
    }
}

pub(super) async fn get(fetcher: &Fetcher, url: &Url) -> Result<FetchedDocument, FetchError> {
    if !fetcher.clear_text.permits(url) {
        return Err(FetchError::Scheme { url: url.clone() });
    }
    let transport = |source: reqwest::Error| FetchError::Transport { url: url.clone(), source: source.without_url() };
    let request = fetcher.client.get(url.clone()).header("accept", "application/json");
    let mut response = request.send().await.map_err(transport)?;
    if response.status() != 200 {
        return Err(FetchError::Status { url: url.clone(), status: response.status().as_u16() });
    }
    let clock_skew = response.headers().get(DATE).and_then(|value| skew(value.to_str().ok()?, clock::now()));
    let max_age = response.headers().get(CACHE_CONTROL).and_then(|value| max_age(value.to_str().ok()?));
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(transport)? {
        if body.len() + chunk.len() > MAX_BYTES {
            return Err(FetchError::TooLarge { url: url.clone() });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(FetchedDocument { body, max_age, clock_skew })
}

/// A document without the byte order mark that some servers put before it (RFC 8259 §8.1 lets a reader ignore it).
pub(super) fn without_bom(document: &[u8]) -> &[u8] {
    document.strip_prefix(b"\xef\xbb\xbf").unwrap_or(document)
}

fn skew(date: &str, now: UnixTime) -> Option<i64> {
    let theirs = i64::try_from(UnixTime::from_http_date(date)?.seconds()).ok()?;
    theirs.checked_sub(i64::try_from(now.seconds()).ok()?)
}

fn max_age(cache_control: &str) -> Option<Duration> {
    let directives = cache_control.split(',').map(str::trim);
    let mut seconds =
        directives.filter_map(|directive| directive.to_ascii_lowercase().strip_prefix("max-age=")?.parse().ok());
    seconds.next().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_is_fetched_from_loopback_hosts_or_where_allowed() {
        let permits = |clear_text: ClearText, url: &str| clear_text.permits(&Url::parse(url).unwrap());
        for good in ["https://a.example/x", "http://localhost:1/x", "http://127.0.0.9/x", "http://[::1]:8/x"] {
            assert!(permits(ClearText::Loopback, good) && permits(ClearText::AnyHost, good), "{good}");
        }
        for clear in ["http://a.example/x", "http://169.254.169.254/", "http://localhost.evil.example/"] {
            assert!(!permits(ClearText::Loopback, clear) && permits(ClearText::AnyHost, clear), "{clear}");
        }
        for bad in ["file:///etc/passwd", "ftp://localhost/"] {
            assert!(!permits(ClearText::Loopback, bad) && !permits(ClearText::AnyHost, bad), "{bad}");
        }
    }

    #[test]
    fn max_age_is_read_among_other_directives() {
        assert_eq!(max_age("public, Max-Age=600, must-revalidate"), Some(Duration::from_secs(600)));
        for none in ["", "no-store", "max-age=-1", "max-age=x", "s-maxage=9"] {
            assert_eq!(max_age(none), None, "{none}");
        }
    }
}
