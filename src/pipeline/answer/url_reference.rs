//! The reference of a field such as `Location` (RFC 3986 §4.1), read as browsers read it.
//!
//! Browsers treat `\` as `/`, and skip tabs and line breaks. A reference with such a character in front of its query is
//! not read at all.

use crate::upstream::protocol::Scheme;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UrlReference<'t> {
    pub(super) scheme: Option<Scheme>,
    /// Host and port, if the reference has them.
    pub(super) authority: Option<&'t str>,
    pub(super) path: &'t str,
    /// The query and the fragment, with their first characters.
    pub(super) rest: &'t str,
}

impl<'t> UrlReference<'t> {
    /// `None` for schemes other than those of HTTP, and for text that could be read in two ways.
    pub(super) fn parse(text: &'t str) -> Option<Self> {
        let (head, rest) = text.split_at(text.find(['?', '#']).unwrap_or(text.len()));
        if head.contains(|c: char| c == '\\' || c.is_control()) {
            return None;
        }
        let (scheme, head) = match head.split_once(':') {
            Some((scheme, _)) if scheme.contains('/') => (None, head),
            Some((scheme, after)) if scheme.eq_ignore_ascii_case("http") => (Some(Scheme::Http), after),
            Some((scheme, after)) if scheme.eq_ignore_ascii_case("https") => (Some(Scheme::Https), after),
            Some(_) => return None,
            None => (None, head),
        };
        let (authority, path) = match head.strip_prefix("//") {
            Some(after) => {
                let (authority, path) = after.split_at(after.find('/').unwrap_or(after.len()));
                (Some(authority), path)
            }
            // Browsers read `http:a` in several ways.
            None if scheme.is_some() => return None,
            None => (None, head),
        };
        Some(Self { scheme, authority, path, rest })
    }
}

/// The path to which a relative path leads from `base` (RFC 3986 §5.2.3).
pub(super) fn resolve(base: &str, relative: &str) -> String {
    let folder = base.rfind('/').map_or("/", |slash| &base[..=slash]);
    without_dot_segments(&format!("{folder}{relative}"))
}

/// An absolute path without its dot segments, `%2e` included (RFC 3986 §5.2.4).
pub(super) fn without_dot_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        match dots(segment) {
            None => {
                kept.push(segment);
                continue;
            }
            Some(1) => {}
            Some(_) => drop(kept.pop()),
        }
        // A dot segment names a folder.
        if segments.peek().is_none() {
            kept.push("");
        }
    }
    format!("/{}", kept.join("/"))
}

/// How many dots a dot segment has.
pub(super) fn dots(segment: &str) -> Option<usize> {
    let mut rest = segment;
    let mut count = 0;
    while !rest.is_empty() {
        rest = rest.strip_prefix('.').or_else(|| rest.strip_prefix("%2e")).or_else(|| rest.strip_prefix("%2E"))?;
        count += 1;
    }
    (1..=2).contains(&count).then_some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn parts(text: &str, scheme: Option<Scheme>, authority: Option<&str>, path: &str, rest: &str) {
        assert_eq!(UrlReference::parse(text), Some(UrlReference { scheme, authority, path, rest }), "{text}");
    }

    #[test]
    fn a_reference_is_split_into_its_parts() {
        parts("http://a:9/b?c#d", Some(Scheme::Http), Some("a:9"), "/b", "?c#d");
        parts("HTTPS://a", Some(Scheme::Https), Some("a"), "", "");
        parts("//a/b", None, Some("a"), "/b", "");
        parts("///b", None, Some(""), "/b", "");
        parts("/b:c?http://x", None, None, "/b:c", "?http://x");
        parts("b/c", None, None, "b/c", "");
        parts("b/c:d", None, None, "b/c:d", "");
        parts("#d\\", None, None, "", "#d\\");
        parts("", None, None, "", "");
    }

    #[test]
    fn a_reference_with_two_readings_is_not_read() {
        for text in
            ["/\\a", "\\\\a", "http:\\\\a", "http://a\\@b/", "/\t/a", "http:/a", "http:a", "mailto:a", "a:b", ":a"]
        {
            assert_eq!(UrlReference::parse(text), None, "{text}");
        }
    }

    #[test]
    fn dot_segments_are_removed_in_every_spelling() {
        for (path, expected) in [
            ("/", "/"),
            ("/a/./b/../c", "/a/c"),
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            ("/../../a", "/a"),
            ("/a/%2e%2E/.%2e/b", "/b"),
            ("/.//a", "//a"),
            ("/a//b/", "/a//b/"),
            ("/.../..a", "/.../..a"),
        ] {
            assert_eq!(without_dot_segments(path), expected, "{path}");
        }
        for (base, relative, expected) in
            [("/a/b", "c", "/a/c"), ("/a/", "c/", "/a/c/"), ("/a", "../../c", "/c"), ("/", ".", "/")]
        {
            assert_eq!(resolve(base, relative), expected, "{base} {relative}");
        }
    }
}
