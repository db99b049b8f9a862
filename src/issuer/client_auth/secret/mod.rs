//! Client secrets (RFC 6749 §2.3.1): in a Basic header, in a form or in JSON.
//!
//! Reads a presented secret, and compares it with the hashes that the configuration has for the client.

pub(crate) mod hash;
pub(crate) mod kept_secret;
pub(crate) mod passwords;
pub(crate) mod presented;
