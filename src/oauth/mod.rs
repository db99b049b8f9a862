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

/// Of the client secrets that the gateway makes: a leaked one is recognizable, and is never taken for a token.
pub(crate) const CLIENT_SECRET_PREFIX: &str = "gw_";
