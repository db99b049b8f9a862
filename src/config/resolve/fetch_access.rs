//! `issuers.NAME.fetch`: the token, the header fields and the proxy of requests for an issuer's documents.

use std::collections::HashMap;

use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue};
use url::Url;

use super::super::decode::Named;
use super::super::origin::HttpUrl;
use super::super::raw::key_source::RawFetch;
use super::super::raw::oauth::Secret;
use super::super::source::At;
use super::super::values::ScalarValue as _;
use super::Resolver;
use crate::telemetry::error_chain::ErrorChain;
use crate::trust::fetch::is_loopback;
use crate::trust::fetch_access::{FetchAccess, ProxyUrl, SecretHeaders, read_token};

/// Fields that the gateway sets itself, that belong to one connection (RFC 9110 §7.6.1), or that ask for another answer
/// than the whole document.
const MANAGED: [&str; 20] = [
    "accept",
    "accept-encoding",
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

impl Resolver<'_> {
    /// `first` is the first document that is fetched, if that is known.
    pub(super) fn fetch_access(&mut self, raw: &At<RawFetch>, first: Option<&Url>) -> FetchAccess {
        let RawFetch { bearer_token_file, proxy, headers } = &raw.value;
        let carries_credentials = bearer_token_file.is_some() || !headers.entries.is_empty();
        if proxy.is_none() && !carries_credentials && headers.complete {
            self.faults.at(raw.span, "`fetch` is empty: remove it");
        }
        if let Some(first) = first.filter(|first| first.scheme() == "http") {
            if let Some(proxy) = proxy {
                self.faults
                    .at(proxy.span, "only https is fetched through a proxy, and this issuer is fetched over http");
            } else if carries_credentials && !is_loopback(first) {
                let message = "a token and headers are not sent in clear text: fetch from an https URL";
                self.faults.at(raw.span, message);
            }
        }
        let token_file = bearer_token_file.as_ref().map(|file| {
            let path = self.source.locate(&file.value);
            // The token belongs to the machine that fetches.
            if self.needs.is_everything()
                && let Err(error) = read_token(&path)
            {
                let message = self.redact_path(ErrorChain(&error).to_string(), file.span, &file.value);
                self.faults.at(file.span, message);
            }
            path
        });
        let is_absent = |secret: &At<Secret>| secret.value.is_absent();
        let values = headers.entries.iter().filter_map(|(_, value)| value.as_ref().ok());
        let is_incomplete = proxy.iter().chain(values).any(is_absent);
        let headers = SecretHeaders::new(self.fetch_headers(headers, token_file.is_some()));
        let proxy = proxy.as_ref().filter(|proxy| !is_absent(proxy)).and_then(|proxy| self.proxy(proxy));
        FetchAccess { token_file, headers, proxy, is_incomplete }
    }

    fn fetch_headers(&mut self, raw: &Named<Secret>, has_token: bool) -> Vec<(HeaderName, HeaderValue)> {
        let mut fields = Vec::new();
        let mut seen: HashMap<HeaderName, usize> = HashMap::new();
        for (name, value) in &raw.entries {
            let header = self.fetch_header_name(name, has_token);
            if let Some(header) = &header {
                let line = self.source.line(name.span);
                if let Some(first) = seen.insert(header.clone(), line) {
                    self.faults.at(name.span, format!("this header is named twice, first at line {first}"));
                }
            }
            let Ok(value) = value else { continue };
            // A scheme may be written before the variable.
            self.must_be_kept_apart(value, value.value.is_wholly_literal());
            if !value.value.is_absent() {
                fields.extend(header.zip(self.credential_value(value)));
            }
        }
        fields
    }

    fn fetch_header_name(&mut self, name: &At<String>, has_token: bool) -> Option<HeaderName> {
        let header = self.any_header_name(name)?;
        if MANAGED.contains(&header.as_str()) {
            let name_of = self.source.quote_key(name.span).unwrap_or_else(|| "this header".to_owned());
            let message = match header.as_str() {
                "proxy-authorization" => "the credentials of the proxy belong into the URL of `proxy`".to_owned(),
                _ => format!("{name_of} is set by the gateway itself: remove it"),
            };
            self.faults.at(name.span, message);
            return None;
        }
        if header == AUTHORIZATION && has_token {
            let message = "the token of `bearer_token_file` is sent in this header: remove one of them";
            self.faults.at(name.span, message);
            return None;
        }
        Some(header)
    }

    fn proxy(&mut self, raw: &At<Secret>) -> Option<ProxyUrl> {
        const EXPECTED: &str = "expected the URL of a proxy, such as `http://proxy.example.com:3128`";
        let text = raw.value.expose();
        let (scheme, rest) = text.split_once("://").unwrap_or_default();
        let (credentials, authority) = rest.rsplit_once('@').map_or((None, rest), |(user, host)| (Some(user), host));
        let hint = match HttpUrl::parse(&format!("{scheme}://{authority}")) {
            Err(hint) => hint,
            Ok(_) if authority.trim_end_matches('/').contains(['/', '?']) => "nothing may follow host and port",
            Ok(_) if credentials.is_some_and(|user| user.contains(['/', '?', '#', '@', '\\'])) => {
                "percent-encode the characters `/ ? # @ \\` of user and password"
            }
            Ok(_) => {
                self.must_be_kept_apart(raw, credentials.is_some() && raw.value.is_wholly_literal());
                return Url::parse(text).ok().map(ProxyUrl::new);
            }
        };
        let colon = if hint.is_empty() { "" } else { ": " };
        self.faults.at(raw.span, format!("{EXPECTED}{colon}{hint}"));
        None
    }
}
