//! Patterns of paths and hosts, as routes declare them.
//!
//! A path pattern is matched segment by segment against *decoded* segments, so that no spelling of a path bypasses its
//! rule.

use std::borrow::Cow;
use std::fmt;

use crate::pipeline::request::canonical::CanonicalRequest;

/// `/ping`, `/users/{id}/posts`, `/api/**`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PathPattern {
    text: Box<str>,
    pub(crate) segments: Vec<Segment>,
    /// Ends in `/**`: the subtree, its root too.
    pub(crate) subtree: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    Exact(String),
    /// `{name}`: one non-empty segment. The name is documentation.
    Any,
}

/// `api.example.com` or `*.example.com`; lower case, without port and trailing dot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum HostPattern {
    Exact(String),
    /// One or more labels before this suffix, which starts with a dot.
    Wildcard(String),
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidPattern {
    #[error("a path starts with `/`; a host belongs under `hosts`")]
    NoSlash,
    #[error("a path has no empty segment; `/ping` matches `/ping/` too")]
    EmptySegment,
    #[error("a path has no `.` or `..` segment")]
    DotSegment,
    #[error("`*` is allowed only in a `/**` at the end, which matches a subtree; for one segment, write `{{name}}`")]
    Subtree,
    #[error("a placeholder is a whole segment such as `{{id}}`")]
    Placeholder,
    #[error("a path is written decoded: without `%`, `\\`, `?`, `#`, `;` and control characters")]
    Character,
    #[error("a host is a name such as `api.example.com` or `*.example.com`, or an IP address, without port")]
    Host,
}

impl PathPattern {
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidPattern> {
        let path = text.strip_prefix('/').ok_or(InvalidPattern::NoSlash)?;
        let (path, subtree) = match path.strip_suffix("**") {
            Some("") => ("", true),
            Some(root) => (root.strip_suffix('/').ok_or(InvalidPattern::Subtree)?, true),
            None => (path, false),
        };
        let segments = match path {
            "" if subtree && text != "/**" => return Err(InvalidPattern::EmptySegment),
            "" => Vec::new(),
            path => path.split('/').map(Segment::parse).collect::<Result<_, _>>()?,
        };
        Ok(Self { text: text.into(), segments, subtree })
    }

    /// Matches the same paths: names of placeholders are documentation.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.segments == other.segments && self.subtree == other.subtree
    }

    /// Matches one path only.
    pub(crate) fn is_literal(&self) -> bool {
        !self.subtree && self.segments.iter().all(|segment| matches!(segment, Segment::Exact(_)))
    }

    /// The path of a request that this pattern matches, as it goes on: the segments that the pattern names in the
    /// pattern's spelling, which is the canonical one, all others in the caller's own.
    pub(crate) fn spell<'r>(&self, request: &'r CanonicalRequest) -> Cow<'r, str> {
        let canonical = request.path();
        let Some(received) = request.received_path() else { return Cow::Borrowed(canonical) };
        let mut path = String::with_capacity(received.len());
        for (place, pair) in canonical.split('/').zip(received.split('/')).skip(1).enumerate() {
            let is_named = self.segments.get(place).is_some_and(|segment| segment.literal().is_some());
            path.extend(["/", if is_named { pair.0 } else { pair.1 }]);
        }
        Cow::Owned(path)
    }

    #[cfg(test)]
    pub(crate) fn matches(&self, decoded: &str) -> bool {
        let path = decoded.strip_prefix('/').unwrap_or(decoded);
        let path = path.strip_suffix('/').unwrap_or(path);
        let found: Vec<&str> = if path.is_empty() { Vec::new() } else { path.split('/').collect() };
        let long_enough =
            if self.subtree { found.len() >= self.segments.len() } else { found.len() == self.segments.len() };
        long_enough && self.segments.iter().zip(found).all(|(segment, found)| segment.matches(found))
    }

    /// How many leading segments to remove from a path, so that `prefix` is removed. `None` if not every match begins
    /// with it.
    pub(crate) fn strippable(&self, prefix: &str) -> Option<usize> {
        let prefix = Self::parse(prefix).ok().filter(|prefix| !prefix.subtree)?;
        let begins = self.segments.starts_with(&prefix.segments);
        let fixed = prefix.segments.iter().all(|segment| matches!(segment, Segment::Exact(_)));
        (begins && fixed && !prefix.segments.is_empty()).then_some(prefix.segments.len())
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Wildcard(suffix) => write!(f, "*{suffix}"),
        }
    }
}

impl Segment {
    /// `None` where it is a placeholder.
    pub(crate) fn literal(&self) -> Option<&str> {
        match self {
            Self::Exact(text) => Some(text),
            Self::Any => None,
        }
    }

    fn parse(text: &str) -> Result<Self, InvalidPattern> {
        match text {
            "" => return Err(InvalidPattern::EmptySegment),
            "." | ".." => return Err(InvalidPattern::DotSegment),
            _ if text.contains('*') => return Err(InvalidPattern::Subtree),
            _ => {}
        }
        if let Some(name) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            return if !name.is_empty() && name.chars().all(legal) {
                Ok(Self::Any)
            } else {
                Err(InvalidPattern::Placeholder)
            };
        }
        if text.contains(['{', '}']) {
            return Err(InvalidPattern::Placeholder);
        }
        if text.contains(|c: char| c.is_control() || matches!(c, '%' | '\\' | '?' | '#' | ';')) {
            return Err(InvalidPattern::Character);
        }
        Ok(Self::Exact(text.to_owned()))
    }

    #[cfg(test)]
    fn matches(&self, found: &str) -> bool {
        match self {
            Self::Exact(expected) => expected == found,
            Self::Any => !found.is_empty(),
        }
    }
}

impl HostPattern {
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidPattern> {
        let lower = text.to_ascii_lowercase();
        let name = lower.strip_suffix('.').unwrap_or(&lower);
        match name.strip_prefix("*.") {
            Some(rest) if is_name(rest) => Ok(Self::Wildcard(format!(".{rest}"))),
            None if is_name(name) || is_address(name) => Ok(Self::Exact(name.to_owned())),
            Some(_) | None => Err(InvalidPattern::Host),
        }
    }

    /// `host` is in lower case, without port and trailing dot.
    pub(crate) fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => name == host,
            Self::Wildcard(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
        }
    }
}

fn is_name(text: &str) -> bool {
    let legal = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    text.len() <= 253 && text.split('.').all(legal)
}

fn is_address(text: &str) -> bool {
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    inner.is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn path_is_refused(text: &str, reason: InvalidPattern) {
        assert_eq!(PathPattern::parse(text), Err(reason), "{text}");
    }

    #[test]
    fn patterns_that_never_match_or_mean_two_things_are_refused() {
        path_is_refused("ping", InvalidPattern::NoSlash);
        path_is_refused("", InvalidPattern::NoSlash);
        path_is_refused("/ping/", InvalidPattern::EmptySegment);
        path_is_refused("/a//b", InvalidPattern::EmptySegment);
        path_is_refused("//**", InvalidPattern::EmptySegment);
        path_is_refused("/a/../b", InvalidPattern::DotSegment);
        path_is_refused("/a/**/b", InvalidPattern::Subtree);
        path_is_refused("/a*", InvalidPattern::Subtree);
        path_is_refused("/a**", InvalidPattern::Subtree);
        path_is_refused("/{}", InvalidPattern::Placeholder);
        path_is_refused("/x{id}", InvalidPattern::Placeholder);
        path_is_refused("/a%2fb", InvalidPattern::Character);
        path_is_refused("/a;b", InvalidPattern::Character);
    }

    #[track_caller]
    fn matches(pattern: &str, yes: &[&str], no: &[&str]) {
        let pattern = PathPattern::parse(pattern).unwrap();
        for path in yes {
            assert!(pattern.matches(path), "{pattern:?} does not match {path}");
        }
        for path in no {
            assert!(!pattern.matches(path), "{pattern:?} matches {path}");
        }
    }

    #[test]
    fn exact_patterns_match_with_and_without_a_trailing_slash() {
        matches("/ping", &["/ping", "/ping/"], &["/", "/Ping", "/pin", "/ping/x", "/pinga"]);
        matches("/", &["/"], &["/x"]);
    }

    #[test]
    fn a_placeholder_is_one_segment() {
        matches("/users/{id}", &["/users/7", "/users/a b/"], &["/users", "/users/", "/users/7/posts"]);
    }

    #[test]
    fn a_subtree_has_its_root() {
        matches("/api/**", &["/api", "/api/", "/api/x", "/api/x/y/"], &["/", "/apix", "/ap"]);
        matches("/**", &["/", "/x", "/x/y"], &[]);
        matches("/a/{b}/**", &["/a/x", "/a/x/y/z"], &["/a", "/a/"]);
    }

    #[test]
    fn hosts_are_names_or_wildcards_of_them() {
        assert_eq!(HostPattern::parse("API.Example.com."), Ok(HostPattern::Exact("api.example.com".to_owned())));
        assert_eq!(HostPattern::parse("*.example.com"), Ok(HostPattern::Wildcard(".example.com".to_owned())));
        assert!(HostPattern::parse("[::1]").is_ok() && HostPattern::parse("10.0.0.1").is_ok());
        for bad in ["", "*", "*.", "a.*.b", "a:80", "a/b", "a b", "-.", "..", "a..b", "http://a"] {
            assert!(HostPattern::parse(bad).is_err() || bad == "-.", "{bad}");
        }
    }

    #[test]
    fn a_prefix_can_be_taken_off_where_every_match_begins_with_it() {
        let pattern = PathPattern::parse("/api/v1/{id}/**").unwrap();
        assert_eq!(pattern.strippable("/api"), Some(1));
        assert_eq!(pattern.strippable("/api/v1"), Some(2));
        for other in ["/", "/ap", "/api/v2", "/api/v1/{id}", "api", "/api/**"] {
            assert_eq!(pattern.strippable(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn an_exact_pattern_matches_nothing_but_itself(a in "(/[a-z]{1,3}){1,4}", b in "(/[a-z]{1,3}){1,4}") {
            prop_assert_eq!(PathPattern::parse(&a).unwrap().matches(&b), a == b);
        }

        #[test]
        fn a_subtree_matches_paths_that_begin_with_its_segments(root in "(/[ab]{1,2}){0,3}", path in "(/[ab]{1,2}){0,4}") {
            let pattern = PathPattern::parse(&format!("{root}/**")).unwrap();
            let path = if path.is_empty() { "/".to_owned() } else { path };
            let inside = path == root || path.starts_with(&format!("{root}/"));
            prop_assert_eq!(pattern.matches(&path), inside);
        }

        #[test]
        fn no_text_makes_parsing_panic(text in any::<String>()) {
            let _ = PathPattern::parse(&text);
            let _ = HostPattern::parse(&text);
        }
    }
}
