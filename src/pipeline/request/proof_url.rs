//! Whether the URL of a DPoP proof (`htu`) is that of a request.
//!
//! The URL of a request is that which the client used: the public origin, and the path that routing decides on. Query
//! and fragment do not count. Two spellings of one URL are the same (RFC 9449 §4.3, RFC 3986 §6.2.2, §6.2.3).

use super::authority::{Authority, default_port, read_port};
use super::canonical::CanonicalRequest;
use super::public_origin::PublicOrigin;
use super::spelling::spelling;

pub(crate) fn is_url_of(url: &str, origin: &PublicOrigin<'_>, request: &CanonicalRequest) -> bool {
    is_written_alike(url, origin, request).unwrap_or(false) || is_equal(url, origin, request).unwrap_or(false)
}

/// The fast way, for the spelling of nearly all clients.
fn is_written_alike(url: &str, origin: &PublicOrigin<'_>, request: &CanonicalRequest) -> Option<bool> {
    let rest = url.strip_prefix(origin.scheme)?.strip_prefix("://")?.strip_prefix(origin.host)?;
    let (port, path) = match rest.strip_prefix(':') {
        Some(rest) => {
            let (port, path) = rest.split_at(rest.find('/')?);
            (read_port(port)?, path)
        }
        None => (default_port(origin.scheme), rest),
    };
    Some(!origin.host.is_empty() && port == origin.port && path == request.path())
}

fn is_equal(url: &str, origin: &PublicOrigin<'_>, request: &CanonicalRequest) -> Option<bool> {
    let (scheme, rest) = url.split_once("://")?;
    let end = rest.find(['?', '#']).unwrap_or(rest.len());
    let rest = rest.get(..end)?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if !scheme.eq_ignore_ascii_case(origin.scheme) {
        return None;
    }
    let named = Authority::parse(authority.as_bytes(), origin.scheme).ok()?;
    let port = named.port().unwrap_or(default_port(origin.scheme));
    let path = without_dot_segments(if path.is_empty() { "/" } else { path });
    let respelt = spelling(&path, request.forms).ok()?.canonical;
    let path = respelt.unwrap_or(path);
    Some(named.host() == origin.host && port == origin.port && path == request.path())
}

/// RFC 3986 §5.2.4, for a path that begins with a slash.
fn without_dot_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut ends_open = false;
    for segment in path.split('/').skip(1) {
        ends_open = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    let tail = if ends_open { "/" } else { "" };
    let joined = kept.iter().fold(String::new(), |path, segment| path + "/" + segment) + tail;
    if joined.is_empty() { "/".to_owned() } else { joined }
}

#[cfg(test)]
mod tests;
