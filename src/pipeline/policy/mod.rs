//! What a request is measured by: load, limits, identity, permission.
//!
//! In the order of their imports: a file imports only from those above it.

/// Finds the caller of a request.
pub(crate) mod authenticate;
/// Decides whether the caller may use the route.
pub(crate) mod authorize;
/// The current snapshot, with the tokens that were verified under it.
pub(crate) mod current_snapshot;
/// Counts against rate limits.
pub(crate) mod limits;
/// Load shedding.
pub(crate) mod load;
/// Places for tunnels.
pub(crate) mod tunnels;
