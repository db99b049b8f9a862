//! What a request is measured by: load, limits, identity, permission.
//!
//! In the order of their imports: a file imports only from those above it.

/// Finds the caller of a request.
pub(crate) mod authenticate;
/// Decides whether the caller may use the route.
pub(crate) mod authorize;
/// Load shedding.
pub(crate) mod load;
/// Places for tunnels.
pub(crate) mod tunnels;
