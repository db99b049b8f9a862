//! The issuers whose tokens we accept: their keys, kept fresh, and the tokens that were found good.
//!
//! Takes a token; gives a [`verify::Verified`] or the one reason why not. Requests never fetch keys: they read what the
//! refresher last published and at most wait, briefly, for its next attempt. The only home of `reqwest`.

pub(crate) mod discovery;
pub(crate) mod fetch;
#[cfg(test)]
mod hostile_tokens;
pub(crate) mod issuer;
pub(crate) mod kept;
pub(crate) mod key_cache;
pub(crate) mod progress;
pub(crate) mod refresher;
pub(crate) mod report;
pub(crate) mod revocation;
pub(crate) mod revocation_keeper;
pub(crate) mod revocation_store;
pub(crate) mod scope_claim;
pub(crate) mod token_cache;
pub(crate) mod verify;
