//! Cross-origin rules: the origins whose pages may read a route's answers, and send more than plain forms (Fetch
//! standard, "CORS protocol").
//!
//! These rules refuse no request: they tell browsers which answers a page may read. Preflights are answered before
//! authentication, since browsers send no credentials with them.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderName, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method};

use super::header_rules::own_copy;
use super::method_set::MethodSet;

/// The cross-origin rules of a route.
#[derive(Debug, PartialEq)]
pub(crate) struct Cors {
    pub(crate) origins: Origins,
    /// All of these are methods of the route.
    pub(crate) methods: MethodSet,
    /// Request fields, besides those that browsers let any page set.
    pub(crate) headers: Vec<HeaderName>,
    /// Response fields, besides those that any page may read.
    pub(crate) expose: Vec<HeaderName>,
    /// Cookies and client certificates may be sent. Bearer tokens are header fields, and do not need this.
    pub(crate) credentials: bool,
    /// How long a browser may cache the response to a preflight, in seconds.
    pub(crate) max_age: u64,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Origins {
    Any,
    Listed(Vec<OriginPattern>),
}

/// In the form that browsers send: lower case, and without the scheme's default port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OriginPattern {
    Exact(String),
    /// One or more labels between the scheme, up to its slashes, and the suffix from its first dot on.
    Below {
        scheme: String,
        suffix: String,
    },
}

/// The method that a preflight asks about; `None` where the request is no preflight.
pub(crate) fn requested_method(method: &Method, headers: &HeaderMap) -> Option<Method> {
    if *method != Method::OPTIONS || !headers.contains_key(ORIGIN) {
        return None;
    }
    Method::from_bytes(only(headers, &ACCESS_CONTROL_REQUEST_METHOD)?.as_bytes()).ok()
}

impl Cors {
    /// Whether a page may send such a request.
    pub(crate) fn allows(&self, asked: &Method, headers: &HeaderMap) -> bool {
        let fields = headers.get_all(ACCESS_CONTROL_REQUEST_HEADERS).iter();
        let names = fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
        let is_listed = |name: &[u8]| HeaderName::from_bytes(name).is_ok_and(|name| self.headers.contains(&name));
        self.methods.contains(asked) && names.filter(|name| !name.is_empty()).all(is_listed)
    }

    /// The fields of every answer of the route. Refusals have them too, or a page could not read why it was refused.
    pub(crate) fn add_headers(&self, granted: Option<&HeaderValue>, headers: &mut HeaderMap) {
        if let Some(origin) = granted {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            insert_list(headers, ACCESS_CONTROL_EXPOSE_HEADERS, self.expose.iter().map(HeaderName::as_str));
            if self.credentials {
                headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
            }
        }
        // Also where no origin is granted: an answer that is stored for one origin must not be shown to another.
        if matches!(self.origins, Origins::Listed(_)) && !varies_by_origin(headers) {
            headers.append(VARY, HeaderValue::from_static("Origin"));
        }
    }
}

/// Removes the fields that an upstream sets: it does not know what the route allows.
pub(crate) fn strip(headers: &mut HeaderMap) {
    let is_cors = |name: &&HeaderName| is_cors(name);
    let theirs: Vec<HeaderName> = headers.keys().filter(is_cors).cloned().collect();
    for name in theirs {
        headers.remove(name);
    }
}

/// True for the names of cross-origin fields, which only the gateway sets where a route has cross-origin rules.
pub(crate) fn is_cors(name: &HeaderName) -> bool {
    name.as_str().starts_with("access-control-")
}

impl Origins {
    /// The value of `Access-Control-Allow-Origin` for this request; `None` where its origin is not allowed.
    pub(crate) fn grant(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        match self {
            Self::Any => Some(HeaderValue::from_static("*")),
            Self::Listed(patterns) => {
                let origin = only(headers, &ORIGIN)?;
                let allowed = patterns.iter().any(|pattern| pattern.matches(origin.as_bytes()));
                allowed.then(|| own_copy(origin))
            }
        }
    }
}

impl OriginPattern {
    fn matches(&self, origin: &[u8]) -> bool {
        match self {
            Self::Exact(text) => text.as_bytes() == origin,
            Self::Below { scheme, suffix } => {
                let rest = origin.strip_prefix(scheme.as_bytes());
                rest.and_then(|rest| rest.strip_suffix(suffix.as_bytes())).is_some_and(are_labels)
            }
        }
    }
}

/// The labels that browsers put in host names: any other text between scheme and suffix belongs to another origin.
fn are_labels(text: &[u8]) -> bool {
    let legal = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    text.split(|byte| *byte == b'.').all(|label| !label.is_empty() && label.iter().all(legal))
}

fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// Sets a field to a list, or leaves it out where the list is empty.
pub(crate) fn insert_list<'n>(headers: &mut HeaderMap, name: HeaderName, names: impl Iterator<Item = &'n str>) {
    let list = names.collect::<Vec<_>>().join(", ");
    if let Some(list) = HeaderValue::try_from(list).ok().filter(|list| !list.is_empty()) {
        headers.insert(name, list);
    }
}

fn varies_by_origin(headers: &HeaderMap) -> bool {
    let mut names = headers.get_all(VARY).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    names.any(|name| matches!(name.trim_ascii(), b"*") || name.trim_ascii().eq_ignore_ascii_case(b"origin"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn exact(text: &str) -> OriginPattern {
        OriginPattern::Exact(text.to_owned())
    }

    fn below(scheme: &str, suffix: &str) -> OriginPattern {
        OriginPattern::Below { scheme: scheme.to_owned(), suffix: suffix.to_owned() }
    }

    #[test]
    fn an_origin_is_allowed_exactly() {
        let pattern = exact("https://app.example.com");
        assert!(pattern.matches(b"https://app.example.com"));
        for other in [
            "https://app.example.com.evil.com",
            "https://evilapp.example.com",
            "https://app.example.com:443",
            "https://app.example.com:8443",
            "https://app.example.com.",
            "https://app.example.com/",
            "https://APP.example.com",
            "HTTPS://app.example.com",
            "http://app.example.com",
            "https://app.example.com ",
            "https://app.example.com\0",
            "https://appxexample.com",
            "null",
            "",
            "*",
        ] {
            assert!(!pattern.matches(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn a_wildcard_stands_for_labels_and_nothing_else() {
        let pattern = below("https://", ".example.com");
        for good in ["https://a.example.com", "https://a-1.b_2.example.com", "https://xn--bcher-kva.example.com"] {
            assert!(pattern.matches(good.as_bytes()), "{good}");
        }
        for bad in [
            "https://example.com",
            "https://.example.com",
            "https://evilexample.com",
            "https://a.example.com.evil.com",
            "https://evil.com/.example.com",
            "https://evil.com:80.example.com",
            "https://evil.com?.example.com",
            "https://evil.com#.example.com",
            "https://evil.com\\.example.com",
            "https://user@a.example.com",
            "https://evil.com%2f.example.com",
            "https://a..example.com",
            "https://A.example.com",
            "https://a.example.com:8443",
            "http://a.example.com",
            "https://a.example.com.",
            "https://*.example.com",
        ] {
            assert!(!pattern.matches(bad.as_bytes()), "{bad}");
        }
        assert!(below("https://", ".example.com:8443").matches(b"https://a.example.com:8443"));
    }

    fn cors(credentials: bool) -> Cors {
        Cors {
            origins: Origins::Listed(vec![exact("https://a.example"), below("https://", ".b.example")]),
            methods: MethodSet::new([Method::PUT]),
            headers: vec![HeaderName::from_static("authorization"), HeaderName::from_static("x-own")],
            expose: vec![HeaderName::from_static("x-count")],
            credentials,
            max_age: 600,
        }
    }

    fn map(fields: &[(&'static str, &str)]) -> HeaderMap {
        let fields = fields.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        fields.collect()
    }

    #[test]
    fn a_request_with_two_origins_has_none() {
        let one = map(&[("origin", "https://a.example")]);
        assert_eq!(cors(false).origins.grant(&one).unwrap(), "https://a.example");
        let mut two = one;
        two.append("origin", HeaderValue::from_static("https://a.example"));
        assert_eq!(cors(false).origins.grant(&two), None);
        assert_eq!(cors(false).origins.grant(&HeaderMap::new()), None);
    }

    #[test]
    fn a_requested_protocol_must_be_listed_in_any_case() {
        let asked = |names: &str| cors(false).allows(&Method::PUT, &map(&[("access-control-request-headers", names)]));
        assert!(asked("") && asked("authorization") && asked("X-Own , Authorization,"));
        assert!(!asked("x-other") && !asked("authorization, x-other") && !asked("*") && !asked("x own"));
        assert!(!cors(false).allows(&Method::GET, &HeaderMap::new()));
    }

    #[test]
    fn a_preflight_has_its_method_and_an_origin() {
        let asks = [("origin", "https://a.example"), ("access-control-request-method", "PUT")];
        assert_eq!(requested_method(&Method::OPTIONS, &map(&asks)), Some(Method::PUT));
        assert_eq!(requested_method(&Method::GET, &map(&asks)), None);
        assert_eq!(requested_method(&Method::OPTIONS, &map(&asks[..1])), None);
        assert_eq!(requested_method(&Method::OPTIONS, &map(&asks[1..])), None);
    }

    #[test]
    fn an_upstreams_word_about_identity_does_not_count() {
        let theirs =
            [("access-control-allow-origin", "*"), ("access-control-allow-credentials", "true"), ("vary", "A")];
        let mut headers = map(&theirs);
        strip(&mut headers);
        cors(false).add_headers(None, &mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["vary"]);
        assert_eq!(headers.get_all("vary").iter().collect::<Vec<_>>(), ["A", "Origin"]);
        let mut headers = map(&[("vary", "Accept, origin")]);
        cors(true).add_headers(Some(&HeaderValue::from_static("https://a.example")), &mut headers);
        assert_eq!(headers["access-control-allow-origin"], "https://a.example");
        assert_eq!(headers["access-control-allow-credentials"], "true");
        assert_eq!(headers["access-control-expose-headers"], "x-count");
        assert_eq!(headers.get_all("vary").iter().count(), 1);
    }

    proptest! {
        /// Only origins are allowed that the URL parser, too, reads as a host below the suffix.
        #[test]
        fn no_origin_slips_through_a_wildcard(text in "https://[a-z0-9./@:#?%_\\\\-]{0,12}(\\.b\\.example)?(:1|/|\\.)?") {
            if below("https://", ".b.example").matches(text.as_bytes()) {
                let url = url::Url::parse(&text).unwrap();
                prop_assert!(url.host_str().unwrap().ends_with(".b.example"), "{}", text);
                prop_assert_eq!((url.path(), url.port(), url.username()), ("/", None, ""));
            }
        }
    }
}
