//! Fetches a small JSON document from an issuer, or posts a form to it, with all limits applied.
//!
//! HTTP/2 or HTTP/1.1, as ALPN says. No redirects, and no proxy but the configured one. Only https, or http as far as
//! [`ClearText`] allows, and never http through a proxy. Every step has a deadline, and at most [`MAX_BYTES`] are read,
//! counted after decompression. The callers check the content. The content type is not checked.

use std::net::IpAddr;
use std::time::Duration;

use http::HeaderValue;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, DATE};
use reqwest::{Certificate, Client, Proxy, Response, redirect};
use tokio::time::Instant;
use url::{Host, Url};

use super::cache_headers;
use super::fetch_access::{Credentials, FetchAccess, TokenFileError};
use super::progress::FetchResult;
use crate::clock::{self, UnixTime};

/// A document and the time for which it may be cached.
#[derive(Debug)]
pub(super) struct FetchedDocument {
    pub(super) body: Vec<u8>,
    /// As the answer says, not clamped.
    pub(super) lifetime: Option<Duration>,
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
    credentials: Credentials,
    /// With a proxy, only https is fetched: to a proxy, clear text leaves the machine even for a loopback host.
    has_proxy: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum DocumentKind {
    Metadata,
    KeySet,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("cannot set up TLS for fetching")]
    Setup(#[source] reqwest::Error),
    #[error(
        "{url} must be https: http is fetched only from a loopback host or with `allow_http`, and never through `proxy`"
    )]
    Scheme { url: Url },
    #[error("cannot fetch {url}")]
    Transport {
        url: Url,
        #[source]
        source: reqwest::Error,
    },
    #[error("{url} answered {status}{}", if *withheld { WITHHELD } else { "" })]
    Status {
        url: Url,
        status: u16,
        /// The credentials of `fetch` are for another origin.
        withheld: bool,
    },
    #[error("{url} sent more than {most} bytes")]
    TooLarge { url: Url, most: usize },
    #[error("the bearer token of `fetch` cannot be used")]
    Token(#[from] TokenFileError),
    #[error("a variable or file that `fetch` refers to is missing in this environment; set it")]
    Incomplete,
    #[error("the program stops")]
    Stopped,
}

const WITHHELD: &str = ", and the credentials of `fetch` were not sent, because its origin is not the configured one; set \
                        `jwks_uri` to send them there";

/// Of a document, after decompression.
pub(super) const MAX_BYTES: usize = 256 * 1024;
/// Of the answer to a form, after decompression.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
pub(super) const TOTAL_TIMEOUT: Duration = Duration::from_secs(5);

impl Fetcher {
    /// Trusts only `ca` (PEM), or the system's roots if `ca` is absent. `first` is the configured URL: that of the key
    /// set, or the issuer.
    pub(super) fn new(
        ca: Option<&[u8]>,
        clear_text: ClearText,
        access: &FetchAccess,
        first: Option<&Url>,
    ) -> Result<Self, FetchError> {
        if access.is_incomplete {
            return Err(FetchError::Incomplete);
        }
        let builder = Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_max_idle_per_host(1)
            .user_agent(concat!("portcullis/", env!("CARGO_PKG_VERSION")));
        let builder = match ca {
            Some(pem) => builder.tls_certs_only(Certificate::from_pem_bundle(pem).map_err(FetchError::Setup)?),
            None => builder,
        };
        let builder = match &access.proxy {
            // By CONNECT: the proxy sees names of hosts and nothing else.
            Some(proxy) => builder.proxy(Proxy::https(proxy.url().clone()).map_err(FetchError::Setup)?),
            None => builder,
        };
        let credentials = Credentials::new(access, first);
        let client = builder.build().map_err(FetchError::Setup)?;
        Ok(Self { client, clear_text, credentials, has_proxy: access.proxy.is_some() })
    }

    fn permits(&self, url: &Url) -> bool {
        self.clear_text.permits(url) && (!self.has_proxy || url.scheme() == "https")
    }
}

impl FetchError {
    pub(super) fn result(&self) -> FetchResult {
        match self {
            Self::Transport { .. } => FetchResult::Unreachable,
            Self::Status { .. } => FetchResult::Status,
            Self::TooLarge { .. } => FetchResult::TooLarge,
            Self::Setup(_) | Self::Scheme { .. } | Self::Token(_) | Self::Incomplete | Self::Stopped => {
                FetchResult::Setup
            }
        }
    }
}

impl DocumentKind {
    fn accept(self) -> &'static str {
        match self {
            Self::Metadata => "application/json",
            Self::KeySet => "application/jwk-set+json, application/json;q=0.9",
        }
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

/// Fetches one document until `deadline`. The caller gives [`TOTAL_TIMEOUT`] to it, or to several documents together.
pub(super) async fn get(
    fetcher: &Fetcher,
    url: &Url,
    kind: DocumentKind,
    deadline: Instant,
) -> Result<FetchedDocument, FetchError> {
    if !fetcher.permits(url) {
        return Err(FetchError::Scheme { url: url.clone() });
    }
    let transport = |source: reqwest::Error| FetchError::Transport { url: url.clone(), source: source.without_url() };
    let fields = fetcher.credentials.fields(url, deadline).await?;
    let request = fetcher.client.get(url.clone()).headers(fields).header(ACCEPT, kind.accept());
    let left = deadline.saturating_duration_since(Instant::now());
    let mut response = request.timeout(left).send().await.map_err(transport)?;
    if response.status() != 200 {
        let withheld = fetcher.credentials.are_withheld_from(url);
        return Err(FetchError::Status { url: url.clone(), status: response.status().as_u16(), withheld });
    }
    let clock_skew = response.headers().get(DATE).and_then(|value| skew(value.to_str().ok()?, clock::now()));
    let lifetime = cache_headers::lifetime(response.headers());
    let body = read_body(&mut response, url, MAX_BYTES).await?;
    Ok(FetchedDocument { body, lifetime, clock_skew })
}

/// Posts a form with the credentials of a client, and gives the body of the answer.
pub(super) async fn post_form(
    fetcher: &Fetcher,
    url: &Url,
    client: &HeaderValue,
    form: String,
    deadline: Instant,
) -> Result<Vec<u8>, FetchError> {
    if !fetcher.permits(url) {
        return Err(FetchError::Scheme { url: url.clone() });
    }
    let fields = fetcher.credentials.fields(url, deadline).await?;
    let request = fetcher.client.post(url.clone()).headers(fields).header(AUTHORIZATION, client.clone());
    let request = request.header(ACCEPT, "application/json").header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    let left = deadline.saturating_duration_since(Instant::now());
    let sent = request.timeout(left).body(form).send().await;
    let mut response =
        sent.map_err(|source| FetchError::Transport { url: url.clone(), source: source.without_url() })?;
    if response.status() != 200 {
        return Err(FetchError::Status { url: url.clone(), status: response.status().as_u16(), withheld: false });
    }
    read_body(&mut response, url, MAX_ANSWER_BYTES).await
}

/// The body of an answer of at most `most` bytes, after decompression, without a byte order mark.
async fn read_body(response: &mut Response, url: &Url, most: usize) -> Result<Vec<u8>, FetchError> {
    let transport = |source: reqwest::Error| FetchError::Transport { url: url.clone(), source: source.without_url() };
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(transport)? {
        if body.len() + chunk.len() > most {
            return Err(FetchError::TooLarge { url: url.clone(), most });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(without_bom(&body).to_vec())
}

/// A document without the byte order mark that some servers put before it (RFC 8259 §8.1 lets a reader ignore it).
pub(crate) fn without_bom(document: &[u8]) -> &[u8] {
    document.strip_prefix(b"\xef\xbb\xbf").unwrap_or(document)
}

fn skew(date: &str, now: UnixTime) -> Option<i64> {
    let theirs = i64::try_from(UnixTime::from_http_date(date)?.seconds()).ok()?;
    theirs.checked_sub(i64::try_from(now.seconds()).ok()?)
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
}
