//! Types for the terms of the RFCs: scopes, identities, callers, error codes.
//!
//! The code here does no I/O, reads no clock and does not depend on the origin of its values.

pub(crate) mod bound;
pub(crate) mod caller;
pub(crate) mod confirmation;
pub(crate) mod discrepancy;
pub(crate) mod error;
pub(crate) mod identity;
pub(crate) mod observer;
pub(crate) mod scope;
pub(crate) mod segment_pattern;
pub(crate) mod spiffe_id;
pub(crate) mod subject_pattern;
