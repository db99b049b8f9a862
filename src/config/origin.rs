//! URLs, origins and the identifier of the own issuer. A URL is accepted exactly as it is written or refused.
//!
//! The URL parser is lenient: it drops line breaks, turns `\` into `/` and `0x7f.1` into `127.0.0.1`. A text that it
//! would change is refused here, so that the file shows the address that is connected to.

use url::Url;

use super::form::ValueForm;
use super::values::{Hint, ScalarValue};

/// Scheme, host and port, and nothing after them: `https://api.example.com`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UrlOrigin {
    text: String,
    url: Url,
}

/// An `http` or `https` URL without credentials and fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HttpUrl(Url);

/// An issuer identifier (RFC 8414 §2): an origin, with a path or without.
///
/// It is used as it is written. A slash at the end is a part of it, and verifiers compare it exactly; the places of the
/// metadata are made without that slash (RFC 8414 §3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IssuerUrl {
    text: String,
    url: Url,
}

impl IssuerUrl {
    /// As written: the value of `iss`.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn url(&self) -> &Url {
        &self.url
    }
}

impl UrlOrigin {
    /// As written. An `iss` is compared with it.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn url(&self) -> &Url {
        &self.url
    }
}

impl HttpUrl {
    pub(crate) fn url(&self) -> &Url {
        &self.0
    }
}

impl ScalarValue for UrlOrigin {
    fn expected() -> String {
        "an origin such as `https://api.example.com`".to_owned()
    }

    fn form() -> ValueForm {
        ValueForm::pattern("https?://[^/?#\\\\@{} ]+", Self::expected(), &["https://api.example.com"])
    }

    fn parse(text: &str) -> Result<Self, Hint> {
        let HttpUrl(url) = HttpUrl::parse(text)?;
        if after_scheme(text).contains(['/', '?']) {
            return Err("nothing may follow host and port");
        }
        Ok(Self { text: text.to_owned(), url })
    }
}

impl ScalarValue for IssuerUrl {
    fn expected() -> String {
        "a URL such as `https://api.example.com` or `https://api.example.com/auth`".to_owned()
    }

    fn form() -> ValueForm {
        ValueForm::pattern(
            "https?://[^/?#\\\\@{} ]+(/[A-Za-z0-9._~/-]*)?",
            Self::expected(),
            &["https://api.example.com", "https://api.example.com/auth"],
        )
    }

    fn parse(text: &str) -> Result<Self, Hint> {
        let HttpUrl(url) = HttpUrl::parse(text)?;
        let path = after_scheme(text).find('/').map_or("", |at| &after_scheme(text)[at..]);
        if after_scheme(text).contains('?') {
            return Err("a query is not allowed");
        }
        // One spelling only, since paths of requests are compared in their decoded form.
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
        let is_name = |name: &str| !matches!(name, "" | "." | "..") && name.bytes().all(is_plain);
        match path.strip_suffix('/').unwrap_or(path).strip_prefix('/') {
            Some(names) if !names.split('/').all(is_name) => {
                Err("its path consists of names of letters, digits, `-`, `.`, `_` and `~`")
            }
            Some(_) | None => Ok(Self { text: text.to_owned(), url }),
        }
    }
}

impl ScalarValue for HttpUrl {
    fn expected() -> String {
        "a URL such as `https://api.example.com/keys`".to_owned()
    }

    fn form() -> ValueForm {
        ValueForm::pattern(
            "https?://[^/?#\\\\@{} ]+([/?][^#\\\\ ]*)?",
            Self::expected(),
            &["https://api.example.com/keys"],
        )
    }

    fn parse(text: &str) -> Result<Self, Hint> {
        if !(text.starts_with("http://") || text.starts_with("https://")) {
            return Err("it begins with `http://` or `https://`");
        }
        // The parser would drop or change these silently.
        if text.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '\\' | '#')) {
            return Err("spaces, `\\` and `#` have no place in it");
        }
        let authority = after_scheme(text).split(['/', '?']).next().unwrap_or_default();
        if authority.contains('@') {
            return Err("remove the credentials");
        }
        // Host and port never depend on the request.
        if authority.contains(['{', '}']) {
            return Err("host and port cannot have a placeholder");
        }
        let url = Url::parse(text).map_err(|_| "")?;
        match url.host_str() {
            Some(host) if host_of(authority) == host => Ok(Self(url)),
            Some(_) => Err("the host must be in lower case and in its usual form"),
            None => Err(""),
        }
    }
}

fn after_scheme(url: &str) -> &str {
    url.split_once("://").map_or("", |(_, rest)| rest)
}

/// An authority without its port, if that is well-formed.
fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn none_is<T: ScalarValue>(texts: &[&str]) {
        for text in texts {
            assert!(T::parse(text).is_err(), "{text:?}");
        }
    }

    #[track_caller]
    fn hints<T: ScalarValue>(text: &str, hint: &str) {
        assert_eq!(T::parse(text).err(), Some(hint), "{text}");
    }

    #[test]
    fn origins_end_with_host_and_port() {
        for origin in ["https://a.example.com", "http://127.0.0.1:9000", "https://[::1]:8443", "http://localhost"] {
            assert_eq!(UrlOrigin::parse(origin).unwrap().as_str(), origin);
        }
        for more in ["https://a/", "https://a/b", "https://a?b"] {
            hints::<UrlOrigin>(more, "nothing may follow host and port");
        }
        none_is::<UrlOrigin>(&[
            "https://",
            "https://a:",
            "https://a:x",
            "https://a:99999",
            "https:a",
            "HTTPS://a",
            "https:///a",
        ]);
    }

    #[test]
    fn an_issuer_is_an_origin_or_has_a_plain_path() {
        for issuer in ["https://a", "https://a/", "https://a/b", "https://a/b/", "http://[::1]:8443/a.b/c_d~e/v1"] {
            assert_eq!(IssuerUrl::parse(issuer).unwrap().as_str(), issuer);
        }
        let hint = "its path consists of names of letters, digits, `-`, `.`, `_` and `~`";
        for path in ["//", "/a//b", "/a//", "/.", "/a/../b", "/a%20b", "/{tenant}/v2.0", "/*", "/a;b", "/a:b"] {
            hints::<IssuerUrl>(&format!("https://a{path}"), hint);
        }
        hints::<IssuerUrl>("https://a/b?x=1", "a query is not allowed");
        none_is::<IssuerUrl>(&["https://a#b", "https://a/b#", "https://user@a/b", "a/b", "ftp://a", "https://a/ü"]);
    }

    #[test]
    fn urls_are_taken_as_written_or_not_at_all() {
        assert_eq!(HttpUrl::parse("https://a/keys?x=1").unwrap().url().as_str(), "https://a/keys?x=1");
        hints::<HttpUrl>("ftp://a", "it begins with `http://` or `https://`");
        hints::<HttpUrl>("https://user:word@a", "remove the credentials");
        hints::<HttpUrl>("https://{tenant}.example.com/x", "host and port cannot have a placeholder");
        hints::<UrlOrigin>("https://{host}", "host and port cannot have a placeholder");
        hints::<HttpUrl>("https://A.example.com", "the host must be in lower case and in its usual form");
        none_is::<HttpUrl>(&[
            "https://0x7f.1/",
            "https://127.1",
            "https://ä.example",
            "https://a/ b",
            "https://a\\b",
            "https://a#b",
        ]);
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_parser(text in any::<String>()) {
            let _ = (UrlOrigin::parse(&text), UrlOrigin::parse(&format!("https://{text}")));
            let _ = IssuerUrl::parse(&format!("https://a/{text}"));
        }

        /// The parser of URLs would remove dot segments and encode characters.
        #[test]
        fn the_path_of_an_accepted_issuer_is_not_changed(path in "(/[a-z.%2e~:;{}é ]{0,3}){0,3}/?") {
            if let Ok(issuer) = IssuerUrl::parse(&format!("https://a{path}")) {
                prop_assert_eq!(issuer.url().path().trim_end_matches('/'), path.trim_end_matches('/'));
            }
        }

        #[test]
        fn an_accepted_origin_is_its_own_url(text in "https?://[a-z0-9.:\\[\\]@/-]{0,12}") {
            if let Ok(origin) = UrlOrigin::parse(&text) {
                prop_assert_eq!(origin.url().path(), "/");
                prop_assert!(text.contains(origin.url().host_str().unwrap()));
            }
        }
    }
}
