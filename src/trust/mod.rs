//! The trusted issuers: their keys, which are kept fresh, and the cache of validated tokens.
//!
//! Takes a token. Gives a [`verify::Verified`] or the reason for the refusal. Requests never fetch keys: they read the
//! set that the refresher last published, and wait at most a short time for its next attempt. Only this module and
//! `portcullis token get` use `reqwest`.

pub(crate) mod audiences;
mod cache_headers;
pub(crate) mod caller_claims;
pub(crate) mod claim_rule;
pub(crate) mod claimed_caller;
pub(crate) mod discovery;
pub(crate) mod entry_choice;
#[cfg(test)]
mod example;
pub(crate) mod failed_check;
pub(crate) mod failed_proof;
pub(crate) mod fetch;
pub(crate) mod fetch_access;
mod field_check;
#[cfg(test)]
mod hostile_tokens;
pub(crate) mod introspection;
pub(crate) mod issuer;
pub(crate) mod key_cache;
pub(crate) mod key_file;
pub(crate) mod key_set_file;
pub(crate) mod key_source;
pub(crate) mod known_proof;
pub(crate) mod near_miss;
pub(crate) mod passed_check;
pub(crate) mod platform_credential;
pub(crate) mod progress;
pub(crate) mod proof_nonces;
pub(crate) mod proof_replays;
pub(crate) mod proof_rules;
pub(crate) mod refresher;
pub(crate) mod replay;
pub(crate) mod replay_store;
mod replay_uses;
pub(crate) mod report;
pub(crate) mod request_key;
pub(crate) mod published_revocations;
pub(crate) mod revocation;
pub(crate) mod revocation_exchange;
pub(crate) mod revocation_outbox;
mod revocation_selection;
pub(crate) mod revoker;
pub(crate) mod revocation_keeper;
pub(crate) mod revocation_store;
pub(crate) mod scope_claim;
mod shared_file;
pub(crate) mod static_tokens;
pub(crate) mod token_cache;
pub(crate) mod token_client;
pub(crate) mod token_fields;
pub(crate) mod token_origin;
pub(crate) mod verify;
