//! Header fields of answers: the gateway passes a field on to the client, or removes it.
//!
//! Removed are hop-by-hop fields, those that are for a proxy, and names that only the gateway may set.

use http::header::CONNECTION;
use http::{HeaderMap, HeaderName};

/// Facts of an answer's header, noted while it is stripped.
#[derive(Debug, Default)]
pub(crate) struct StrippedHeader {
    pub(crate) announces_trailers: bool,
    /// Names that the answer declares hop-by-hop. They may not follow as trailers either (RFC 9110 §7.6.1).
    pub(crate) hop_by_hop: Vec<HeaderName>,
    /// It has a field with a URL or a path that may be mapped to the public side.
    pub(crate) has_references: bool,
}

/// Removes the fields of an answer that are not for the client. Fast if there are none.
#[must_use]
pub(crate) fn strip_response(headers: &mut HeaderMap) -> StrippedHeader {
    let mut dropped: Vec<HeaderName> = Vec::new();
    let mut stripped = StrippedHeader::default();
    let mut has_connection = false;
    for (name, value) in headers.iter() {
        match name.as_str() {
            "connection" => {
                has_connection = true;
                if value != "keep-alive" && value != "close" {
                    let listed = value.to_str().unwrap_or_default().split(',');
                    let names = listed.filter_map(|name| name.trim().parse().ok());
                    stripped.hop_by_hop.extend(names.filter(|name| !is_never_hop_by_hop(name)));
                }
            }
            "trailer" => stripped.announces_trailers = true,
            "location" | "content-location" | "refresh" | "set-cookie" => stripped.has_references = true,
            other if is_for_us_alone(other) => dropped.push(name.clone()),
            _ => {}
        }
    }
    if has_connection {
        headers.remove(CONNECTION);
    }
    for name in dropped.iter().chain(&stripped.hop_by_hop) {
        headers.remove(name);
    }
    stripped
}

/// An answer that lists such a field would remove one on which the client's own rules depend.
fn is_never_hop_by_hop(name: &HeaderName) -> bool {
    matches!(name.as_str(), "set-cookie" | "content-type" | "content-length")
}

/// True for fields of an answer that are for the gateway, or that only the gateway may set.
pub(crate) fn is_for_us_alone(name: &str) -> bool {
    matches!(
        name,
        "keep-alive"
            | "proxy-authenticate"
            | "proxy-authentication-info"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "x-request-id"
    ) || name.starts_with("x-auth-")
        || name.starts_with("ratelimit")
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn hop_by_hop_and_our_names_leave_answers_and_cookies_stay() {
        let fields = [
            ("connection", "Set-Cookie, X-Once"),
            ("set-cookie", "a"),
            ("x-once", "b"),
            ("x-auth-subject", "c"),
            ("ratelimit", "d"),
            ("etag", "e"),
            ("proxy-authenticate", "Basic realm=\"f\""),
            ("proxy-authentication-info", "nextnonce=\"g\""),
        ];
        let field = |(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
        let mut headers: HeaderMap = fields.into_iter().map(field).collect();
        let stripped = strip_response(&mut headers);
        assert_eq!((stripped.announces_trailers, stripped.has_references), (false, true));
        assert_eq!(stripped.hop_by_hop, ["x-once"]);
        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["etag", "set-cookie"]);
    }
}
