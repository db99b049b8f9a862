//! Fields that are rendered once and sent many times.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

/// Fields and their lines. Framing fields do not belong here: `write_request_head` writes its own.
#[derive(Clone, Debug, Default)]
pub(crate) struct FieldBlock {
    fields: Vec<(HeaderName, HeaderValue)>,
    text: Bytes,
}

impl FieldBlock {
    pub(crate) fn new(fields: Vec<(HeaderName, HeaderValue)>) -> Self {
        debug_assert!(!fields.iter().any(|(name, _)| is_framing_field(name)), "the body decides on its framing");
        let mut text = Vec::new();
        fields.iter().for_each(|(name, value)| write_field(&mut text, name, value));
        Self { fields, text: text.into() }
    }

    pub(crate) fn fields(&self) -> &[(HeaderName, HeaderValue)] {
        &self.fields
    }

    /// Complete field lines.
    pub(crate) fn text(&self) -> &[u8] {
        &self.text
    }
}

/// Writes one field line. A `HeaderValue` has neither CR nor LF.
pub(crate) fn write_field(out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Writes all fields but those that frame a body.
pub(super) fn write_unframed(out: &mut Vec<u8>, headers: &HeaderMap) {
    headers.iter().filter(|(name, _)| !is_framing_field(name)).for_each(|(name, value)| write_field(out, name, value));
}

fn is_framing_field(name: &HeaderName) -> bool {
    *name == http::header::CONTENT_LENGTH || *name == http::header::TRANSFER_ENCODING
}
