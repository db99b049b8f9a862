//! Our authorization server: clients, the token endpoint, the signing-key ring, the published documents.
//!
//! Takes token requests (RFC 6749 §4.4); gives access tokens (RFC 9068) or the one reason why not, and takes them back. Knows nothing of routes,
//! limits or the audit log: the corridor brings requests here and records what came of them.

pub(crate) mod authorization_server;
pub(crate) mod back_off;
pub(crate) mod client;
pub(crate) mod credentials;
pub(crate) mod grant;
pub(crate) mod kept_secret;
pub(crate) mod metadata;
pub(crate) mod offload;
pub(crate) mod passwords;
pub(crate) mod request;
pub(crate) mod revocation;
pub(crate) mod ring;
pub(crate) mod ring_files;
pub(crate) mod ring_store;
pub(crate) mod rotation;
pub(crate) mod secret;
