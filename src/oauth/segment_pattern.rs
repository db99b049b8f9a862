//! Patterns for names that are made of segments, such as `repo:acme/*:ref:refs/heads/main`.
//!
//! Takes the text of a pattern and a name; says whether the name fits. `*` stands for one whole segment that is not
//! empty. It never stands for a part of a segment or for several: the number of segments and every separator must be
//! equal, so a name cannot fit by having more in it than the pattern shows.

use std::fmt;

/// A pattern with at least one `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentPattern(Box<str>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidSegmentPattern {
    #[error("expected a pattern with `*`")]
    NoWildcard,
    #[error("expected a pattern in which `*` is one whole segment between `:` or `/`")]
    PartOfSegment,
}

const SEPARATORS: [char; 2] = [':', '/'];
pub(crate) const ANY: &str = "*";

impl SegmentPattern {
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidSegmentPattern> {
        if !text.contains(ANY) {
            return Err(InvalidSegmentPattern::NoWildcard);
        }
        if segments(text).any(|(segment, _)| segment != ANY && segment.contains(ANY)) {
            return Err(InvalidSegmentPattern::PartOfSegment);
        }
        Ok(Self(text.into()))
    }

    pub(crate) fn matches(&self, name: &str) -> bool {
        let mut named = segments(name);
        let all = segments(&self.0).all(|(wanted, separator)| {
            let fits = |segment: &str| if wanted == ANY { !segment.is_empty() } else { segment == wanted };
            named.next().is_some_and(|(segment, behind)| behind == separator && fits(segment))
        });
        all && named.next().is_none()
    }

    /// True if every name that fits the other pattern fits this one. As a name, a `*` of the other is a segment that
    /// only `*` fits.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.matches(&other.0)
    }

    /// True if no segment of the pattern is fixed.
    pub(crate) fn is_all_wildcards(&self) -> bool {
        segments(&self.0).all(|(segment, _)| segment == ANY)
    }
}

impl fmt::Display for SegmentPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The segments, each with the separator behind it. The last one has none.
pub(super) fn segments(text: &str) -> impl Iterator<Item = (&str, Option<char>)> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(at) = text.find(SEPARATORS) else {
            rest = None;
            return Some((text, None));
        };
        let (segment, behind) = text.split_at(at);
        let mut behind = behind.chars();
        let separator = behind.next();
        rest = Some(behind.as_str());
        Some((segment, separator))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> SegmentPattern {
        SegmentPattern::parse(text).unwrap()
    }

    #[track_caller]
    fn fits(text: &str, names: &[&str]) {
        names.iter().for_each(|name| assert!(pattern(text).matches(name), "{text}: {name}"));
    }

    #[track_caller]
    fn does_not_fit(text: &str, names: &[&str]) {
        names.iter().for_each(|name| assert!(!pattern(text).matches(name), "{text}: {name}"));
    }

    #[test]
    fn a_star_is_one_whole_segment() {
        let main = "repo:acme/*:ref:refs/heads/main";
        fits(main, &["repo:acme/api:ref:refs/heads/main", "repo:acme/*:ref:refs/heads/main"]);
        does_not_fit(
            main,
            &[
                "repo:acme/:ref:refs/heads/main",
                "repo:acme/a/b:ref:refs/heads/main",
                "repo:acme/a:ref:refs/heads/main:ref:refs/heads/main",
                "repo:acme/api:ref:refs/heads/main2",
                "repo:acme/api:ref:refs/heads/main/",
                "repo:acme/api:ref:refs/heads/main:",
                "repo:acme/api:ref:refs/heads",
                "repo:acme:api:ref:refs/heads/main",
                "repo:acme/api/ref:refs/heads/main",
                "repo:Acme/api:ref:refs/heads/main",
                " repo:acme/api:ref:refs/heads/main",
                "repo:evil/x:repo:acme/api:ref:refs/heads/main",
                "",
            ],
        );
    }

    #[test]
    fn empty_segments_are_segments_that_no_star_stands_for() {
        fits("spiffe://example.org/ns/*/sa/api", &["spiffe://example.org/ns/prod/sa/api"]);
        does_not_fit("spiffe://example.org/ns/*/sa/api", &["spiffe:/example.org/ns/prod/sa/api"]);
        does_not_fit("a:*:b", &["a::b", "a:b", "a:x:b:"]);
        fits("a:*:", &["a:x:"]);
        does_not_fit("a:*:", &["a:x", "a:x:y", "a::"]);
        fits("*", &["a", "ä b"]);
        does_not_fit("*", &["", "a:b", "a/b", "/"]);
    }

    #[test]
    fn patterns_without_a_whole_star_are_refused() {
        for text in ["a*", "*a", "repo:acme/api-*:x", "**", "a/**", "a:**:b"] {
            assert_eq!(SegmentPattern::parse(text), Err(InvalidSegmentPattern::PartOfSegment), "{text}");
        }
        for text in ["", "a", "a:b/c"] {
            assert_eq!(SegmentPattern::parse(text), Err(InvalidSegmentPattern::NoWildcard), "{text}");
        }
    }

    #[test]
    fn a_pattern_covers_those_that_are_nowhere_wider() {
        for (wide, narrow) in [("a:*:*", "a:*:c"), ("a:*:*", "a:*:*"), ("*/x", "*/x")] {
            assert!(pattern(wide).covers(&pattern(narrow)), "{wide} {narrow}");
        }
        for (narrow, wide) in [("a:*:c", "a:*:*"), ("a:*", "a/*"), ("a:*", "a:*:b"), ("*:b", "a:*")] {
            assert!(!pattern(narrow).covers(&pattern(wide)), "{narrow} {wide}");
        }
        assert!(pattern("*/*:*").is_all_wildcards() && !pattern("*:").is_all_wildcards());
    }

    /// Short segments of few characters, some empty, between separators.
    fn name() -> impl Strategy<Value = String> {
        "[ab*]{0,2}([:/][ab*]{0,2}){0,4}"
    }

    proptest! {
        /// The same by another way: with one separator, and with the other, the lists of segments are compared.
        #[test]
        fn a_name_fits_if_and_only_if_its_lists_of_segments_do(text in name(), name in name()) {
            if let Ok(pattern) = SegmentPattern::parse(&text) {
                let split = |text: &str| text.split(SEPARATORS).map(str::to_owned).collect::<Vec<_>>();
                let separators = |text: &str| text.matches(SEPARATORS).map(str::to_owned).collect::<Vec<_>>();
                let (wanted, found) = (split(&text), split(&name));
                let is_same = |(wanted, found): (&String, &String)| wanted == found || (wanted == "*" && !found.is_empty());
                let expected = wanted.len() == found.len()
                    && separators(&text) == separators(&name)
                    && wanted.iter().zip(&found).all(is_same);
                prop_assert_eq!(pattern.matches(&name), expected);
            }
        }

        #[test]
        fn a_pattern_fits_itself_with_any_segments(text in name(), segments in "[a-z*ä.]{1,5}") {
            if let Ok(pattern) = SegmentPattern::parse(&text) {
                prop_assert!(pattern.matches(&text.replace('*', &segments)));
                prop_assert!(!pattern.matches(&text.replace('*', "")));
                prop_assert!(!pattern.matches(&text.replace('*', "a/b")) && !pattern.matches(&(text + ":a")));
            }
        }

        #[test]
        fn a_covering_pattern_fits_all_names_of_the_covered_one(wide in name(), narrow in name(), name in name()) {
            if let (Ok(wide), Ok(narrow)) = (SegmentPattern::parse(&wide), SegmentPattern::parse(&narrow)) {
                prop_assert!(!(wide.covers(&narrow) && narrow.matches(&name)) || wide.matches(&name));
            }
        }
    }
}
