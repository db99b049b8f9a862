//! Maps answers in which the upstream names its own address or its own paths: they name the public paths instead.
//!
//! `Location`, `Content-Location` and `Refresh` become a path under the public prefix, without a host; `Set-Cookie` is
//! mapped by [`map_cookie`]. Nothing is taken from the `Host` of the request. A field for which there is no public path
//! stays as it was. Bodies are not changed.

use std::ops::Range;

use http::header::{CONTENT_LOCATION, Entry, LOCATION, REFRESH, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::map_cookie::map_cookie;
use super::url_reference::{UrlReference, resolve, without_dot_segments};
use crate::pipeline::request::canonical::CanonicalRequest;
use crate::pipeline::routing::route::Route;
use crate::upstream::host::RequestHost;
use crate::upstream::service::Upstream;

/// The facts that decide on the meaning of an answer's paths.
#[derive(Clone, Copy, Debug)]
pub(super) struct ResponseMapping<'a> {
    pub(super) route: &'a Route,
    pub(super) request: &'a CanonicalRequest,
    /// The upstream that answers.
    pub(super) upstream: &'a Upstream,
    /// The `Host` that it was sent.
    pub(super) sent_host: &'a RequestHost,
}

impl ResponseMapping<'_> {
    /// Maps the fields of an answer of the upstream.
    pub(super) fn apply(&self, headers: &mut HeaderMap) {
        change(headers, LOCATION, |text| self.reference(text));
        change(headers, CONTENT_LOCATION, |text| self.reference(text));
        change(headers, REFRESH, |text| self.refresh(text));
        let public_path = |path: &str| self.route.public_path(self.request, path);
        change(headers, SET_COOKIE, |text| map_cookie(text, public_path, |host| self.is_own_host(host)));
    }

    /// A host that the caller and the service share stays: clients know it.
    fn is_own_host(&self, host: &str) -> bool {
        let is_public = self.request.authority.host().eq_ignore_ascii_case(host);
        !is_public && self.upstream.is_own_host(host, self.sent_host)
    }

    /// `None` if the reference stays as it is.
    fn reference(&self, text: &str) -> Option<String> {
        let url = UrlReference::parse(text.trim_matches(' '))?;
        let path = match url.authority {
            Some(authority) if !self.upstream.is_own_authority(url.scheme, authority, self.sent_host) => return None,
            Some(_) => without_dot_segments(url.path),
            None if url.path.is_empty() || !self.route.changes_paths() => return None,
            None if url.path.starts_with('/') => without_dot_segments(url.path),
            None => resolve(self.route.upstream_target(self.request).ok()?.path(), url.path),
        };
        let public = self.route.public_path(self.request, &path)?;
        // Only the dot segments are missing.
        if url.authority.is_none() && public == path && url.path.starts_with('/') {
            return None;
        }
        Some(format!("{public}{}", url.rest))
    }

    fn refresh(&self, text: &str) -> Option<String> {
        let place = refresh_url(text)?;
        let mapped = self.reference(&text[place.clone()])?;
        Some(format!("{}{mapped}{}", &text[..place.start], &text[place.end..]))
    }
}

/// Changes each field of this name for which there is another value.
fn change(headers: &mut HeaderMap, name: HeaderName, map: impl Fn(&str) -> Option<String>) {
    // `entry` would make room for the field.
    if !headers.contains_key(&name) {
        return;
    }
    let Entry::Occupied(mut fields) = headers.entry(name) else { return };
    for value in fields.iter_mut() {
        let mapped = str::from_utf8(value.as_bytes()).ok().and_then(&map);
        if let Some(Ok(mapped)) = mapped.map(HeaderValue::try_from) {
            *value = mapped;
        }
    }
}

/// The place of the URL in a `Refresh` field, as browsers find it: `5; url='/x'`, `5,/x`.
fn refresh_url(text: &str) -> Option<Range<usize>> {
    let time = text.trim_start();
    let after = time.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let gap = after.trim_start();
    let target = gap.strip_prefix([';', ',']).unwrap_or(gap).trim_start();
    if after.len() == time.len() || target.len() == after.len() {
        return None;
    }
    let url = named_url(target).unwrap_or(target);
    // All of these are ends of the text.
    let start = text.len() - url.len();
    let (start, url) = match url.chars().next().filter(|first| matches!(first, '\'' | '"')) {
        Some(quote) => (start + 1, url[1..].split(quote).next().unwrap_or_default()),
        None => (start, url.trim_end()),
    };
    (!url.is_empty()).then_some(start..start + url.len())
}

/// The text after `url=`.
fn named_url(target: &str) -> Option<&str> {
    let name = target.get(..3).filter(|name| name.eq_ignore_ascii_case("url"))?;
    Some(target[name.len()..].trim_start().strip_prefix('=')?.trim_start())
}

#[cfg(test)]
mod tests;
