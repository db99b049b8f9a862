//! Subjects and client ids.
//!
//! Takes strings from tokens and configuration; gives names that can be compared exactly, logged, and put into a header
//! without splitting it. Two names never have the same header value, nor values that a recipient trims to the same.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use http::HeaderValue;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// A subject or client id: not empty, at most [`Identity::MAX_BYTES`] bytes, no control characters.
#[derive(Clone)]
pub(crate) struct Identity {
    text: Arc<str>,
    header: HeaderValue,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an identity is 1 to {} bytes without control characters", Identity::MAX_BYTES)]
pub(crate) struct InvalidIdentity;

/// The encoder itself encodes non-ASCII. The percent sign is encoded too, so that the original can be decoded.
const UNSAFE_IN_HEADER: &AsciiSet = &CONTROLS.add(b'%');
const ENCODED_SPACE: &str = "%20";

impl Identity {
    pub(crate) const MAX_BYTES: usize = 1024;

    pub(crate) fn parse(raw: &str) -> Result<Self, InvalidIdentity> {
        if raw.is_empty() || raw.len() > Self::MAX_BYTES || raw.chars().any(char::is_control) {
            return Err(InvalidIdentity);
        }
        let header = HeaderValue::try_from(header_text(raw)).map_err(|_| InvalidIdentity)?;
        Ok(Self { text: raw.into(), header })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// The name as a header value: non-ASCII, percent signs, and spaces at its ends percent-encoded.
    pub(crate) fn header(&self) -> &HeaderValue {
        &self.header
    }
}

/// Recipients trim field values (RFC 9110 §5.5). Of the characters that any of them trims, only the space is legal in a
/// name and not encoded anyway.
fn header_text(raw: &str) -> String {
    let inner_and_end = raw.trim_start_matches(' ');
    let inner = inner_and_end.trim_end_matches(' ');
    let (before, after) = (raw.len() - inner_and_end.len(), inner_and_end.len() - inner.len());
    let mut text = ENCODED_SPACE.repeat(before);
    text.extend(utf8_percent_encode(inner, UNSAFE_IN_HEADER));
    text.extend(std::iter::repeat_n(ENCODED_SPACE, after));
    text
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Identity {}

impl Hash for Identity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

/// A map with identities as keys can be searched with a plain string.
impl std::borrow::Borrow<str> for Identity {
    fn borrow(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use percent_encoding::percent_decode_str;
    use proptest::prelude::*;

    #[test]
    fn control_characters_are_refused() {
        for raw in ["", "a\nb", "a\rb", "a\0", "\u{7f}", "\u{85}"] {
            assert_eq!(Identity::parse(raw).err(), Some(InvalidIdentity), "{raw:?}");
        }
    }

    #[test]
    fn non_ascii_is_percent_encoded_in_headers_and_plain_elsewhere() {
        let identity = Identity::parse("Jürgen|100%").unwrap();
        assert_eq!(identity.header(), "J%C3%BCrgen|100%25");
        assert_eq!(identity.as_str(), "Jürgen|100%");
    }

    #[test]
    fn spaces_at_the_ends_are_percent_encoded_and_inner_ones_stay() {
        for (raw, expected) in [
            ("admin ", "admin%20"),
            ("  a  b ", "%20%20a  b%20"),
            (" ", "%20"),
            ("   ", "%20%20%20"),
            ("admin%20", "admin%2520"),
            ("\u{a0}admin\u{2003}", "%C2%A0admin%E2%80%83"),
        ] {
            assert_eq!(Identity::parse(raw).unwrap().header(), expected, "{raw:?}");
        }
    }

    #[test]
    fn the_longest_name_fits_into_a_header() {
        for longest in
            ["%".repeat(Identity::MAX_BYTES), " ".repeat(Identity::MAX_BYTES), "\u{fc}".repeat(Identity::MAX_BYTES / 2)]
        {
            assert_eq!(Identity::parse(&longest).unwrap().header().len(), 3 * Identity::MAX_BYTES);
            assert_eq!(Identity::parse(&(longest + "x")).err(), Some(InvalidIdentity));
        }
    }

    /// The field value as a recipient reads it: without any character that some recipients treat as white space.
    fn trimmed(header: &HeaderValue) -> &str {
        header.to_str().unwrap().trim_matches(|c: char| c <= ' ' || c.is_whitespace())
    }

    proptest! {
        /// Made of characters that encodings may confuse, so that two names with one encoding would be found.
        #[test]
        fn two_names_are_two_header_values_even_if_these_are_trimmed(
            one in "[ %20aA\u{a0}\u{c2}]{1,6}", other in "[ %20aA\u{a0}\u{c2}]{1,6}",
        ) {
            let [one_header, other_header] = [&one, &other].map(|raw| Identity::parse(raw).unwrap().header().clone());
            prop_assert_eq!(one == other, trimmed(&one_header) == trimmed(&other_header));
        }

        /// An encoding that can be read back is injective.
        #[test]
        fn a_name_can_be_had_back_from_its_trimmed_header_value(raw in "\\PC{1,40}") {
            let Ok(identity) = Identity::parse(&raw) else { return Ok(()) };
            let decoded = percent_decode_str(trimmed(identity.header())).decode_utf8().unwrap();
            prop_assert_eq!(decoded, raw.as_str());
        }
    }
}
