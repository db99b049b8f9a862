//! The credential that an upstream wants from the gateway itself: one field of every request to its servers.
//!
//! It is added where a request is written to a server of that upstream, and nowhere else: a copy or a retry at another
//! upstream never has it. A field of that name from the caller does not reach the server, nor one that the server may
//! read as that name: CGI, WSGI and PHP read every odd character of a name as `-`. The value is never printed.

use std::fmt;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};

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

    /// Removes the caller's fields of this name, and of names that a service may read as this one.
    pub(crate) fn remove_from(&self, fields: &mut HeaderMap) {
        remove_alike(&self.name, fields);
    }

    /// True if a service may read this name as that of the credential.
    pub(crate) fn is_read_as(&self, name: &str) -> bool {
        is_alike(self.name.as_str(), name)
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

impl PartialEq for ServiceCredential {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.value == other.value
    }
}

impl fmt::Debug for ServiceCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServiceCredential(..)")
    }
}

/// Removes the fields that a service may read as `name`.
pub(super) fn remove_alike(name: &HeaderName, fields: &mut HeaderMap) {
    let alike: Vec<HeaderName> =
        fields.keys().filter(|field| is_alike(name.as_str(), field.as_str())).cloned().collect();
    for field in alike {
        fields.remove(field);
    }
}

/// Letters, in any case, and digits are the same, and so are all other characters.
fn is_alike(one: &str, other: &str) -> bool {
    let is_kept = |byte: u8| byte.is_ascii_alphanumeric();
    let is_same = |(one, other): (u8, u8)| one.eq_ignore_ascii_case(&other) || !(is_kept(one) || is_kept(other));
    one.len() == other.len() && one.bytes().zip(other.bytes()).all(is_same)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_a_service_may_read_as_the_credentials_are_removed() {
        let credential = ServiceCredential::new(HeaderName::from_static("x-api-key"), HeaderValue::from_static("a"));
        let names = ["x-api-key", "x_api_key", "x-api_key", "x.api!key", "x-api-keys", "xxapi-key", "x-apikey"];
        let mut fields: HeaderMap =
            names.map(|name| (HeaderName::from_static(name), HeaderValue::from_static("b"))).into_iter().collect();
        credential.remove_from(&mut fields);
        let mut left: Vec<&str> = fields.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["x-api-keys", "x-apikey", "xxapi-key"]);
        assert!(credential.is_read_as("X_Api-KEY"));
    }

    #[test]
    fn a_credential_is_not_printed_and_not_compressed() {
        let credential = ServiceCredential::new(AUTHORIZATION, HeaderValue::from_static("Bearer s3cr3t"));
        let copy = credential.for_worker();
        assert_eq!(format!("{credential:?}{copy:?}"), "ServiceCredential(..)ServiceCredential(..)");
        assert!(credential.value().is_sensitive() && copy.value().is_sensitive());
        assert_eq!(copy.block().text(), b"authorization: Bearer s3cr3t\r\n");
    }
}
