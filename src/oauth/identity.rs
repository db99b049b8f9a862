//! Subjects and client ids.
//!
//! Takes strings from tokens and configuration. Gives identities that can be compared exactly, logged, and put into a
//! header without header injection.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use http::HeaderValue;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// A subject or client id: not empty, at most [`MAX_BYTES`] bytes, no control characters.
#[derive(Clone)]
pub(crate) struct Identity {
    text: Arc<str>,
    header: HeaderValue,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an identity is 1 to {MAX_BYTES} bytes without control characters")]
pub(crate) struct InvalidIdentity;

const MAX_BYTES: usize = 1024;

/// The encoder itself encodes non-ASCII. The percent sign is encoded too, so that the original can be decoded.
const UNSAFE_IN_HEADER: &AsciiSet = &CONTROLS.add(b'%');

impl Identity {
    pub(crate) fn parse(raw: &str) -> Result<Self, InvalidIdentity> {
        if raw.is_empty() || raw.len() > MAX_BYTES || raw.chars().any(char::is_control) {
            return Err(InvalidIdentity);
        }
        let encoded = utf8_percent_encode(raw, UNSAFE_IN_HEADER).to_string();
        let header = HeaderValue::try_from(encoded).map_err(|_| InvalidIdentity)?;
        Ok(Self { text: raw.into(), header })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// The identity as a header value, non-ASCII percent-encoded.
    pub(crate) fn header(&self) -> &HeaderValue {
        &self.header
    }
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
}
