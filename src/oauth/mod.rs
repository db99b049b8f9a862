//! The vocabulary of the RFCs, pure: scopes, identities, callers, error codes.
//!
//! Nothing here does I/O, reads a clock or knows where its values come from.

pub(crate) mod caller;
pub(crate) mod error;
pub(crate) mod identity;
pub(crate) mod per;
pub(crate) mod scope;
