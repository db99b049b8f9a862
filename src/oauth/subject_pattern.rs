//! Patterns for the subjects of platform tokens, such as `repo:acme/*:ref:refs/heads/main`, or one exact subject.
//!
//! Takes the text of a pattern and a subject; says whether the subject fits. `*` stands for one whole segment that is
//! not empty, as in a [`SegmentPattern`](super::segment_pattern::SegmentPattern), and never for the first one, which
//! says what kind of subject it is.

use std::borrow::Cow;
use std::fmt;

use super::segment_pattern::{ANY, segments};

/// An exact subject, or a pattern with `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SubjectPattern {
    text: Box<str>,
    wildcards: Wildcards,
}

/// The places of the segments that are `*`, in ascending order. Empty for an exact subject.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Wildcards(Box<[usize]>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidSubjectPattern {
    #[error("expected a subject, or a pattern such as `repo:acme/*:ref:refs/heads/main`")]
    Empty,
    #[error("expected a pattern in which `*` is one whole segment between `:` or `/`")]
    PartOfSegment,
    #[error("expected a pattern whose first segment is not `*`")]
    FirstSegment,
}

impl SubjectPattern {
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidSubjectPattern> {
        if text.is_empty() {
            return Err(InvalidSubjectPattern::Empty);
        }
        if segments(text).any(|(segment, _)| segment != ANY && segment.contains(ANY)) {
            return Err(InvalidSubjectPattern::PartOfSegment);
        }
        let wildcards = segments(text).enumerate().filter(|(_, (segment, _))| *segment == ANY).map(|(place, _)| place);
        let wildcards = Wildcards(wildcards.collect());
        if wildcards.0.first() == Some(&0) {
            return Err(InvalidSubjectPattern::FirstSegment);
        }
        Ok(Self { text: text.into(), wildcards })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// The text that all subjects begin with.
    pub(crate) fn literal_prefix(&self) -> &str {
        self.text.split_once(ANY).map_or(&*self.text, |(prefix, _)| prefix)
    }

    pub(crate) fn wildcards(&self) -> &Wildcards {
        &self.wildcards
    }

    pub(crate) fn matches(&self, subject: &str) -> bool {
        self.wildcards.mask(subject).is_some_and(|masked| *masked == *self.text)
    }

    /// True if every subject that fits the other pattern fits this one.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.matches(&other.text)
    }

    /// True if a subject may fit both.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        match (self.wildcards.mask(&other.text), other.wildcards.mask(&self.text)) {
            (Some(one), Some(other)) => one == other,
            (Some(_) | None, _) => false,
        }
    }
}

impl Wildcards {
    /// The name with `*` at these places: the text of the only pattern with these wildcards that it may fit. `None` if
    /// it has no segment at one of them, or an empty one.
    pub(crate) fn mask<'n>(&self, name: &'n str) -> Option<Cow<'n, str>> {
        if self.0.is_empty() {
            return Some(Cow::Borrowed(name));
        }
        let (mut masked, mut left) = (String::with_capacity(name.len()), self.0.iter().peekable());
        for (place, (segment, separator)) in segments(name).enumerate() {
            let is_wild = left.next_if(|wild| **wild == place).is_some();
            if is_wild && segment.is_empty() {
                return None;
            }
            masked.push_str(if is_wild { ANY } else { segment });
            masked.extend(separator);
        }
        left.next().is_none().then_some(Cow::Owned(masked))
    }
}

impl fmt::Display for SubjectPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::segment_pattern::SegmentPattern;
    use super::*;

    fn pattern(text: &str) -> SubjectPattern {
        SubjectPattern::parse(text).unwrap()
    }

    #[test]
    fn a_subject_without_star_fits_itself_alone() {
        let exact = pattern("repo:acme/api:ref:refs/heads/main");
        assert!(exact.matches("repo:acme/api:ref:refs/heads/main"));
        for other in ["repo:acme/api-evil:ref:refs/heads/main", "repo:acme/api:ref:refs/heads/main:x", "", "repo"] {
            assert!(!exact.matches(other), "{other}");
        }
    }

    #[test]
    fn a_star_fits_one_segment_that_is_not_empty() {
        let main = pattern("repo:acme/*:ref:refs/heads/main");
        for fits in ["repo:acme/api:ref:refs/heads/main", "repo:acme/*:ref:refs/heads/main"] {
            assert!(main.matches(fits), "{fits}");
        }
        for other in [
            "repo:acme/:ref:refs/heads/main",
            "repo:acme/a/b:ref:refs/heads/main",
            "repo:acme/api:ref:refs/heads/main:x",
            "repo:acme/api:pull_request",
            "repo:evil/api:ref:refs/heads/main",
            "repo:acme:api:ref:refs/heads/main",
            "*:acme/api:ref:refs/heads/main",
        ] {
            assert!(!main.matches(other), "{other}");
        }
    }

    #[test]
    fn a_pattern_that_says_too_little_is_refused() {
        for (text, fault) in [
            ("", InvalidSubjectPattern::Empty),
            ("*", InvalidSubjectPattern::FirstSegment),
            ("*:acme", InvalidSubjectPattern::FirstSegment),
            ("*/*", InvalidSubjectPattern::FirstSegment),
            ("repo:acme*", InvalidSubjectPattern::PartOfSegment),
            ("repo:**:x", InvalidSubjectPattern::PartOfSegment),
        ] {
            assert_eq!(SubjectPattern::parse(text), Err(fault), "{text}");
        }
    }

    #[test]
    fn patterns_overlap_where_no_fixed_segment_differs() {
        for (one, other) in [("a:*:c", "a:b:*"), ("a:*", "a:b"), ("a:b", "a:b"), ("a:*:*", "a:b:c")] {
            assert!(pattern(one).overlaps(&pattern(other)) && pattern(other).overlaps(&pattern(one)), "{one} {other}");
        }
        for (one, other) in [("a:*:c", "a:*:d"), ("a:*", "a/*"), ("a:*", "a:b:c"), ("a:*", "a:"), ("a", "b")] {
            assert!(!pattern(one).overlaps(&pattern(other)), "{one} {other}");
        }
    }

    fn name() -> impl Strategy<Value = String> {
        "[ab*]{0,2}([:/][ab*]{0,2}){0,4}"
    }

    proptest! {
        #[test]
        fn a_subject_pattern_fits_as_a_segment_pattern_does(text in name(), name in name()) {
            if let (Ok(subject), Ok(segment)) = (SubjectPattern::parse(&text), SegmentPattern::parse(&text)) {
                prop_assert_eq!(subject.matches(&name), segment.matches(&name));
            }
        }

        #[test]
        fn patterns_overlap_if_one_subject_fits_both(one in name(), other in name(), name in name()) {
            if let (Ok(one), Ok(other)) = (SubjectPattern::parse(&one), SubjectPattern::parse(&other)) {
                if one.matches(&name) && other.matches(&name) {
                    prop_assert!(one.overlaps(&other) && other.overlaps(&one));
                }
                if one.covers(&other) {
                    prop_assert!(one.overlaps(&other));
                    prop_assert!(!other.matches(&name) || one.matches(&name));
                }
            }
        }
    }
}
