//! `cors`: the allowed origins, and the requests and answers that their pages may send and read.

use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName};

use super::super::decode::OneOrMore;
use super::super::origin::UrlOrigin;
use super::super::raw::cors::RawCors;
use super::super::source::At;
use super::super::values::ScalarValue as _;
use super::Resolver;
use crate::pipeline::routing::cors::{Cors, OriginPattern, Origins};
use crate::pipeline::routing::method_set::MethodSet;
use crate::pipeline::routing::pattern::HostPattern;

impl Resolver<'_> {
    /// `taken` are the methods of the route.
    pub(super) fn cors(&mut self, raw: &RawCors, taken: &MethodSet) -> Option<Cors> {
        let methods = match &raw.methods {
            None => taken.clone(),
            Some(list) => {
                let methods = self.methods(&list.value);
                // An invalid method has been reported.
                let is_taken = |method: &At<String>| {
                    MethodSet::parse_method(&method.value).map_or(true, |method| taken.contains(&method))
                };
                for method in list.value.items.iter().filter(|method| !is_taken(method)) {
                    self.faults.at(method.span, "the route does not take this method");
                }
                methods
            }
        };
        let headers = match &raw.headers {
            None => [AUTHORIZATION, CONTENT_TYPE].into_iter().chain(self.token_fields.iter().cloned()).collect(),
            Some(list) => self.cors_headers(&list.value),
        };
        let expose = self.cors_headers(&raw.expose);
        let origins = raw.origins.as_ref().ok().map(|list| self.origins(&list.value, &raw.credentials))?;
        let (credentials, max_age) = (raw.credentials.value, raw.max_age.value.get().as_secs());
        Some(Cors { origins, methods, headers, expose, credentials, max_age })
    }

    fn origins(&mut self, list: &OneOrMore<String>, credentials: &At<bool>) -> Origins {
        if let Some(any) = list.items.iter().find(|origin| origin.value == "*") {
            if list.items.len() > 1 {
                self.faults.at(any.span, "`*` is any origin: remove the others, or `*`");
            }
            if credentials.value {
                let message = "with `credentials`, any page could act for its visitor: list the origins";
                self.faults.at(any.span, message);
            }
            return Origins::Any;
        }
        let mut patterns = Vec::new();
        for origin in &list.items {
            match origin_pattern(&origin.value) {
                Ok(pattern) if patterns.contains(&pattern) => {
                    self.faults.at(origin.span, "this origin is listed twice");
                }
                Ok(pattern) => patterns.push(pattern),
                Err(message) => {
                    self.faults.at(origin.span, message);
                }
            }
        }
        Origins::Listed(patterns)
    }

    fn cors_headers(&mut self, list: &[At<String>]) -> Vec<HeaderName> {
        let mut names = Vec::new();
        for name in list {
            if name.value == "*" {
                self.faults.at(name.span, "list the headers: for browsers `*` does not mean all of them");
                continue;
            }
            names.extend(self.any_header_name(name));
        }
        names
    }
}

/// An origin in the form that browsers send: it is compared byte by byte.
fn origin_pattern(text: &str) -> Result<OriginPattern, String> {
    const EXPECTED: &str = "expected an origin such as `https://app.example.com` or `https://*.example.com`";
    if text == "null" {
        return Err("every sandboxed page and local file has the origin `null`: remove it".to_owned());
    }
    let expected = |hint: &str| match hint {
        "" => EXPECTED.to_owned(),
        hint => format!("{EXPECTED}: {hint}"),
    };
    // Without the wildcard label the rest is parsed as an origin.
    let (plain, is_wildcard) = match text.split_once("://*.") {
        Some((scheme, rest)) => (format!("{scheme}://{rest}"), true),
        None => (text.to_owned(), false),
    };
    let origin = UrlOrigin::parse(&plain).map_err(expected)?;
    let (url, after) = (origin.url(), plain.split_once("://").map_or("", |(_, after)| after));
    if url.port().is_none() && url.host_str().is_some_and(|host| host != after) {
        return Err(expected("browsers leave out the scheme's own port"));
    }
    match (is_wildcard, url.host_str()) {
        (true, Some(host)) if HostPattern::parse(&format!("*.{host}")).is_ok() && !is_address(host) => {
            Ok(OriginPattern::Below { scheme: format!("{}://", url.scheme()), suffix: format!(".{after}") })
        }
        (true, _) => Err(EXPECTED.to_owned()),
        (false, Some(host)) if host.contains('*') || host.ends_with('.') => Err(EXPECTED.to_owned()),
        (false, _) => Ok(OriginPattern::Exact(plain)),
    }
}

fn is_address(host: &str) -> bool {
    host.starts_with('[') || host.parse::<std::net::Ipv4Addr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_taken_as_browsers_write_them() {
        let exact = |text: &str| Ok(OriginPattern::Exact(text.to_owned()));
        for origin in ["https://app.example.com", "http://localhost:3000", "http://[::1]:3000", "https://10.0.0.1"] {
            assert_eq!(origin_pattern(origin), exact(origin));
        }
        let (scheme, suffix) = ("https://".to_owned(), ".example.com:8443".to_owned());
        assert_eq!(origin_pattern("https://*.example.com:8443"), Ok(OriginPattern::Below { scheme, suffix }));
        for bad in [
            "null",
            "app.example.com",
            "https://app.example.com/",
            "https://app.example.com:443",
            "http://app.example.com:80",
            "https://App.example.com",
            "https://*.",
            "https://*",
            "https://a.*.com",
            "https://*.*.com",
            "https://*.10.0.0.1",
            "https://a*.example.com",
            "https://app.example.com.",
            "*.example.com",
            "file://",
        ] {
            assert!(origin_pattern(bad).is_err(), "{bad}: {:?}", origin_pattern(bad));
        }
    }
}
