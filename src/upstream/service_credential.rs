//! The credential that an upstream wants from the gateway itself: one field of every request to its servers.
//!
//! It is added where a request is written to a server of that upstream, and nowhere else: a copy or a retry at another
//! upstream never has it. A field of that name from the caller does not reach the server. The value is never printed.

use std::fmt;

use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue};

use crate::http1::field_block::FieldBlock;

#[derive(Clone)]
pub(crate) struct ServiceCredential {
    name: HeaderName,
    value: HeaderValue,
    /// The field, for HTTP/1.1.
    block: FieldBlock,
}

impl ServiceCredential {
    pub(crate) fn new(name: HeaderName, mut value: HeaderValue) -> Self {
        // Compression of headers never stores it.
        value.set_sensitive(true);
        Self { block: FieldBlock::new(vec![(name.clone(), value.clone())]), name, value }
    }

    pub(crate) fn name(&self) -> &HeaderName {
        &self.name
    }

    pub(super) fn value(&self) -> &HeaderValue {
        &self.value
    }

    pub(super) fn block(&self) -> &FieldBlock {
        &self.block
    }

    /// True if the caller's `Authorization` does not reach the upstream.
    pub(crate) fn replaces_authorization(&self) -> bool {
        self.name == AUTHORIZATION
    }

    /// A copy for one worker: cloning its value touches no reference count that other workers use.
    pub(super) fn for_worker(&self) -> Self {
        let value = HeaderValue::from_bytes(self.value.as_bytes());
        let name = HeaderName::from_bytes(self.name.as_str().as_bytes());
        Self::new(name.unwrap_or_else(|_| self.name.clone()), value.unwrap_or_else(|_| self.value.clone()))
    }
}

impl fmt::Debug for ServiceCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServiceCredential(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_not_printed_and_not_compressed() {
        let credential = ServiceCredential::new(AUTHORIZATION, HeaderValue::from_static("Bearer s3cr3t"));
        let copy = credential.for_worker();
        assert_eq!(format!("{credential:?}{copy:?}"), "ServiceCredential(..)ServiceCredential(..)");
        assert!(credential.value().is_sensitive() && copy.value().is_sensitive());
        assert_eq!(copy.block().text(), b"authorization: Bearer s3cr3t\r\n");
    }
}
