//! The checks that a request must pass: load, rate limits, authentication, authorization.
//!
//! In the order of their imports: a file imports only from those above it.

// Counting against rate limits.
pub(crate) mod limits;
// Load shedding.
pub(crate) mod load;
// The number of open tunnels.
pub(crate) mod tunnels;
// The callers of static tokens.
pub(crate) mod static_callers;
// Tokens that were not active, by address.
pub(crate) mod inactive_tokens;
// The current snapshot, with the tokens that were verified under it.
pub(crate) mod current_snapshot;
// The caller of a request.
pub(crate) mod authenticate;
// Credentials that are not of a configured issuer.
pub(crate) mod foreign_credentials;
// The DPoP proof of a request.
pub(crate) mod proof_check;
// The proof that a caller has the key that its token is bound to.
pub(crate) mod possession;
// The permit to use a route.
pub(crate) mod authorize;
// The open streams, judged again under a new configuration.
mod stream_client;

pub(crate) mod open_streams;
