//! The target of a request (RFC 9112 §3.2).

use bytes::Bytes;

use super::fault::WireFault;

/// A path that begins with a slash, and a query: visible ASCII characters only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OriginForm {
    text: Bytes,
    path_length: usize,
}

/// The four forms of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RequestTarget {
    Origin(OriginForm),
    Absolute {
        /// In lower case.
        scheme: Bytes,
        authority: Bytes,
        path: OriginForm,
    },
    Authority(Bytes),
    Asterisk,
}

impl std::fmt::Display for OriginForm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl OriginForm {
    pub(crate) fn from_bytes(text: Bytes) -> Result<Self, WireFault> {
        if text.first() != Some(&b'/') || !text.iter().all(u8::is_ascii_graphic) {
            return Err(WireFault::Target);
        }
        let path_length = memchr::memchr(b'?', &text).unwrap_or(text.len());
        Ok(Self { text, path_length })
    }

    pub(crate) fn as_str(&self) -> &str {
        // Always ASCII.
        std::str::from_utf8(&self.text).unwrap_or_default()
    }

    pub(crate) fn path(&self) -> &str {
        std::str::from_utf8(&self.text[..self.path_length]).unwrap_or_default()
    }

    /// Without its question mark.
    pub(crate) fn query(&self) -> Option<&str> {
        let query = self.text.get(self.path_length + 1..)?;
        std::str::from_utf8(query).ok()
    }
}
