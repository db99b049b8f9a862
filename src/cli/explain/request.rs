//! The URL of an explained request.

/// The parts that a request says separately.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ExplainedUrl {
    pub(super) is_https: bool,
    /// With a port, if the URL has one.
    pub(super) host: String,
    /// Path and query as they are, not normalised: how the gateway reads them is the question.
    pub(super) target: String,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidUrl {
    #[error("`{0}` is neither a URL of https or http nor a path that starts with `/`")]
    Form(String),
    #[error("`{0}` has a user or a password; credentials are never arguments: see --token-file")]
    Credentials(String),
    #[error("`{0}` is a URL of https: leave out --http")]
    Scheme(String),
}

impl ExplainedUrl {
    /// `in_clear_text` counts where the URL is a path alone.
    pub(super) fn parse(text: &str, in_clear_text: bool) -> Result<Self, InvalidUrl> {
        if text.starts_with('/') || text == "*" {
            let host = "localhost".to_owned();
            return Ok(Self { is_https: !in_clear_text, host, target: text.to_owned() });
        }
        let (scheme, rest) = text.split_once("://").ok_or_else(|| InvalidUrl::Form(text.to_owned()))?;
        let is_https = scheme.eq_ignore_ascii_case("https");
        if !is_https && !scheme.eq_ignore_ascii_case("http") {
            return Err(InvalidUrl::Form(text.to_owned()));
        }
        if is_https && in_clear_text {
            return Err(InvalidUrl::Scheme(text.to_owned()));
        }
        let rest = rest.split('#').next().unwrap_or_default();
        let (host, target) = rest.find(['/', '?']).map_or((rest, ""), |at| rest.split_at(at));
        if host.contains('@') {
            // The text may have a password.
            return Err(InvalidUrl::Credentials(format!("{scheme}://…")));
        }
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        Ok(Self { is_https, host: host.to_owned(), target })
    }

    pub(super) fn scheme(&self) -> &'static str {
        if self.is_https { "https" } else { "http" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_or_a_path_is_taken_as_it_is() {
        for (text, in_clear_text, expected) in [
            ("/a/../b?c", false, (true, "localhost", "/a/../b?c")),
            ("/", true, (false, "localhost", "/")),
            ("https://api.example.com:8443/a%2fb#c", false, (true, "api.example.com:8443", "/a%2fb")),
            ("HTTP://a?b=/c", false, (false, "a", "/?b=/c")),
            ("http://a", true, (false, "a", "/")),
        ] {
            let url = ExplainedUrl::parse(text, in_clear_text).unwrap();
            assert_eq!((url.is_https, &*url.host, &*url.target), expected, "{text}");
        }
        for (text, in_clear_text) in
            [("a", false), ("ftp://a/", false), ("https://u:p@a/", false), ("https://a/", true)]
        {
            let refused = ExplainedUrl::parse(text, in_clear_text).unwrap_err();
            assert!(!refused.to_string().contains("u:p"), "{refused}");
        }
    }
}
