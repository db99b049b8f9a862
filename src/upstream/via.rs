//! The field `Via` (RFC 9110 §7.6.3), which names the protocol by which a request has come.

use http::header::VIA;
use http::{HeaderValue, Version};

use crate::http1::field_block::FieldBlock;

/// The field for each protocol, rendered once.
#[derive(Debug)]
pub(crate) struct ViaFields {
    http10: FieldBlock,
    http11: FieldBlock,
    http2: FieldBlock,
}

impl ViaFields {
    pub(super) fn new() -> Self {
        let field = |value| FieldBlock::new(vec![(VIA, HeaderValue::from_static(value))]);
        Self { http10: field("1.0 portcullis"), http11: field("1.1 portcullis"), http2: field("2 portcullis") }
    }

    pub(super) fn of(&self, version: Version) -> &FieldBlock {
        match version {
            Version::HTTP_10 => &self.http10,
            Version::HTTP_2 => &self.http2,
            _ => &self.http11,
        }
    }
}
