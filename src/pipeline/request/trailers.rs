//! Trailer fields of requests and answers: removes those that may not follow a body.
//!
//! Trailers are forwarded as trailers and never merged into a header. Those of requests reach HTTP/2 upstreams only:
//! over HTTP/1.1 a service cannot say that it reads them, and some services take them for the next request. Those of
//! answers reach every HTTP/2 client, and over HTTP/1.1 the clients that ask for them (`TE: trailers`), as far as the
//! upstream has announced them (`Trailer`).

use http::header::{TE, TRAILER};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::answer_headers::{StrippedHeader, is_for_us_alone, strip_response};
use super::headers::is_protected;

/// Removes from a request's trailers the fields that would be dropped or refused in its header.
pub(crate) fn strip_request(trailers: &mut HeaderMap) {
    strip(trailers, |name| is_protected(name) || never_trails(name.as_str()));
}

/// Removes from an answer's trailers the fields that are not for the client.
pub(crate) fn strip_answer(trailers: &mut HeaderMap) {
    strip(trailers, |name| !may_trail(name));
}

/// Removes from an answer's head the fields that are not for the client. Those that are hop-by-hop may not follow as
/// trailers, besides those that [`strip_answer`] removes.
pub(crate) fn strip_head_of_answer(headers: &mut HeaderMap) -> StrippedHeader {
    let stripped = strip_response(headers);
    if stripped.announces_trailers {
        announce(headers, &stripped.hop_by_hop);
    }
    stripped
}

/// Keeps in an answer's `Trailer` field only the names of fields that may follow.
fn announce(headers: &mut HeaderMap, hop_by_hop: &[HeaderName]) {
    let mut left = String::new();
    let values = headers.get_all(TRAILER).iter().filter_map(|value| value.to_str().ok());
    let names = values.flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse().ok());
    for name in names.filter(|name| may_trail(name) && !hop_by_hop.contains(name)) {
        if !left.is_empty() {
            left += ", ";
        }
        left += name.as_str();
    }
    match HeaderValue::try_from(left) {
        Ok(left) if !left.is_empty() => drop(headers.insert(TRAILER, left)),
        Ok(_) | Err(_) => drop(headers.remove(TRAILER)),
    }
}

/// Whether the client reads trailers (RFC 9110 §10.1.4).
pub(crate) fn are_asked_for(headers: &HeaderMap) -> bool {
    let values = headers.get_all(TE).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|token| token.trim().eq_ignore_ascii_case("trailers"))
}

fn strip(trailers: &mut HeaderMap, goes: impl Fn(&HeaderName) -> bool) {
    let gone: Vec<HeaderName> = trailers.keys().filter(|name| goes(name)).cloned().collect();
    for name in gone {
        trailers.remove(name);
    }
}

fn may_trail(name: &HeaderName) -> bool {
    !is_for_us_alone(name.as_str()) && !never_trails(name.as_str())
}

/// Framing, routing, credentials, conditions, and fields that say how to read the body: after the body they are too
/// late (RFC 9110 §6.5.1).
fn never_trails(name: &str) -> bool {
    name.starts_with("if-")
        || name.starts_with("access-control-")
        || matches!(
            name,
            "age"
                | "authorization"
                | "cache-control"
                | "connection"
                | "content-encoding"
                | "content-length"
                | "content-range"
                | "content-type"
                | "cookie"
                | "date"
                | "dpop"
                | "expect"
                | "expires"
                | "host"
                | "location"
                | "max-forwards"
                | "pragma"
                | "proxy-authenticate"
                | "range"
                | "set-cookie"
                | "strict-transport-security"
                | "vary"
                | "www-authenticate"
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(fields: &[(&str, &str)], strip: fn(&mut HeaderMap)) -> Vec<String> {
        let field = |(name, value): &(&str, &str)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        let mut trailers: HeaderMap = fields.iter().map(field).collect();
        strip(&mut trailers);
        let mut left: Vec<String> = trailers.keys().map(ToString::to_string).collect();
        left.sort_unstable();
        left
    }

    #[test]
    fn framing_and_routing_fields_are_not_accepted_as_trailers() {
        let bad = [
            "content-length",
            "transfer-encoding",
            "host",
            "authorization",
            "cookie",
            "x-auth-subject",
            "x_auth_subject",
            "x-forwarded-for",
            "forwarded",
            "te",
            "trailer",
            "connection",
            "content-type",
            "if-match",
        ];
        for name in bad {
            assert_eq!(left(&[(name, "x"), ("x-checksum", "y")], strip_request), ["x-checksum"], "{name}");
        }
        let bad =
            ["content-length", "set-cookie", "x-auth-subject", "ratelimit", "x-request-id", "trailer", "location"];
        for name in bad {
            assert_eq!(left(&[(name, "x"), ("grpc-status", "0")], strip_answer), ["grpc-status"], "{name}");
        }
    }

    #[test]
    fn every_value_of_a_name_that_may_come_is_kept() {
        let mut trailers = HeaderMap::new();
        trailers.append("a-bin", "MQ".parse().unwrap());
        trailers.append("a-bin", "Mg".parse().unwrap());
        strip_answer(&mut trailers);
        assert_eq!(trailers.get_all("a-bin").iter().collect::<Vec<_>>(), ["MQ", "Mg"]);
    }

    #[test]
    fn an_announcement_lists_allowed_trailers_only() {
        let said = |text: &str| {
            let mut headers: HeaderMap = [(TRAILER, text.parse::<HeaderValue>().unwrap())].into_iter().collect();
            announce(&mut headers, &["x-once".parse().unwrap()]);
            headers.get(TRAILER).map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(said("Expires, X-Sum,Server-Timing, Content-Length").as_deref(), Some("x-sum, server-timing"));
        assert_eq!(said("X-Once, X-Sum").as_deref(), Some("x-sum"));
        assert_eq!(said("Set-Cookie, a b, x-once"), None);
    }

    #[test]
    fn trailers_are_asked_for_by_name() {
        let asked = |text: &str| are_asked_for(&[(TE, text.parse().unwrap())].into_iter().collect());
        assert!(asked("trailers") && asked("gzip;q=0.5, Trailers"));
        assert!(!asked("gzip") && !asked("trailers-not") && !are_asked_for(&HeaderMap::new()));
    }
}
