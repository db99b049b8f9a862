//! Changes of header fields by a route: in requests on their way to the upstream, and in answers on their way to the
//! client.

use http::header::{HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue};

use crate::pipeline::request::headers::is_protected;

/// No protected name among them. First `remove`, then `set`, then `add`.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct HeaderRules {
    pub(crate) set: Vec<(HeaderName, HeaderValue)>,
    /// Added to the existing values.
    pub(crate) add: Vec<(HeaderName, HeaderValue)>,
    pub(crate) remove: Vec<HeaderName>,
}

impl HeaderRules {
    pub(crate) fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }

    /// The names that it changes.
    pub(super) fn names(&self) -> impl Iterator<Item = &HeaderName> {
        self.set.iter().chain(&self.add).map(|(name, _)| name).chain(&self.remove)
    }

    pub(crate) fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(own_name(name), own_copy(value));
        }
        for (name, value) in &self.add {
            headers.append(own_name(name), own_copy(value));
        }
    }

    /// For a refusal: adds only fields that the refusal does not have. Its own fields are kept, such as the one that
    /// forbids caching.
    pub(crate) fn apply_to_refusal(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.set {
            if !headers.contains_key(name) {
                headers.insert(own_name(name), own_copy(value));
            }
        }
        let present: Vec<bool> = self.add.iter().map(|(name, _)| headers.contains_key(name)).collect();
        for ((name, value), _) in self.add.iter().zip(present).filter(|(_, present)| !present) {
            headers.append(own_name(name), own_copy(value));
        }
    }
}

/// True for names in answers that the configuration can't set or remove: framing, and the fields that the gateway sets.
pub(crate) fn is_protected_in_answers(name: &HeaderName) -> bool {
    *name == WWW_AUTHENTICATE || *name == RETRY_AFTER || name.as_str().starts_with("ratelimit") || is_protected(name)
}

/// A name without a shared reference count, for the reason given at [`own_copy`]: names that are not standard have one.
fn own_name(name: &HeaderName) -> HeaderName {
    HeaderName::from_lowercase(name.as_str().as_bytes()).unwrap_or_else(|_| name.clone())
}

/// A clone would share its reference count with all cores.
pub(crate) fn own_copy(value: &HeaderValue) -> HeaderValue {
    HeaderValue::from_bytes(value.as_bytes()).unwrap_or_else(|_| value.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(fields: &[(&'static str, &'static str)]) -> Vec<(HeaderName, HeaderValue)> {
        fields.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    fn rules() -> HeaderRules {
        HeaderRules {
            set: fields(&[("cache-control", "max-age=60"), ("strict-transport-security", "max-age=1")]),
            add: fields(&[("link", "<a>"), ("link", "<b>"), ("content-type", "x/y")]),
            remove: vec![HeaderName::from_static("server"), HeaderName::from_static("link")],
        }
    }

    fn texts<'h>(headers: &'h HeaderMap, name: &str) -> Vec<&'h str> {
        headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
    }

    #[test]
    fn removed_fields_may_be_added_again() {
        let mut headers = HeaderMap::from_iter(fields(&[("server", "x"), ("link", "<old>"), ("cache-control", "no")]));
        rules().apply(&mut headers);
        assert_eq!(texts(&headers, "link"), ["<a>", "<b>"]);
        assert_eq!((texts(&headers, "cache-control"), texts(&headers, "server")), (vec!["max-age=60"], vec![]));
    }

    #[test]
    fn a_refusal_keeps_its_own_headers() {
        let present = [("cache-control", "no-store"), ("content-type", "application/json"), ("server", "x")];
        let mut headers = HeaderMap::from_iter(fields(&present));
        rules().apply_to_refusal(&mut headers);
        assert_eq!(texts(&headers, "cache-control"), ["no-store"]);
        assert_eq!(texts(&headers, "content-type"), ["application/json"]);
        assert_eq!(texts(&headers, "server"), ["x"]);
        assert_eq!(texts(&headers, "strict-transport-security"), ["max-age=1"]);
        assert_eq!(texts(&headers, "link"), ["<a>", "<b>"]);
    }

    #[test]
    fn our_own_headers_are_protected() {
        for name in
            ["www-authenticate", "ratelimit", "ratelimit-policy", "x-request-id", "content-length", "x_request_id"]
        {
            assert!(is_protected_in_answers(&name.parse().unwrap()), "{name}");
        }
        for name in ["strict-transport-security", "server", "cache-control", "set-cookie", "vary"] {
            assert!(!is_protected_in_answers(&name.parse().unwrap()), "{name}");
        }
    }
}
