//! The gateway's own authorization server: clients, the token endpoint, the signing-key ring, the published documents.
//!
//! Takes token requests (RFC 6749 §4.4) and gives access tokens (RFC 9068) or the reason for the refusal. Revokes its
//! tokens, and answers introspection requests about them. Knows nothing of routes, rate limits or the audit log: the
//! pipeline passes requests here and records the results.

pub(crate) mod authorization_server;
pub(crate) mod client;
pub(crate) mod client_auth;
pub(crate) mod clients;
pub(crate) mod endpoints;
pub(crate) mod grant;
pub(crate) mod introspection;
pub(crate) mod issuer_keys;
pub(crate) mod metadata;
mod new_key;
pub(crate) mod offload;
pub(crate) mod request;
mod request_client;
pub(crate) mod revocation;
pub(crate) mod ring;
pub(crate) mod ring_database;
pub(crate) mod ring_files;
mod ring_import;
pub(crate) mod ring_store;
pub(crate) mod rotation;
pub(crate) mod stored_clients;
mod token_clients;
mod token_id;
pub(crate) mod wrapping_key;
