//! Routes as compiled from the configuration, and the search for the one that a request takes.
//!
//! In the order of their imports: a file imports only from those above it.

/// Rules of access, and their judgement of a caller.
pub(crate) mod access;
/// Cross-origin rules.
pub(crate) mod cors;
/// Header fields that a route sets or removes.
pub(crate) mod header_rules;
/// Compares the rules of two routes.
pub(crate) mod laxity;
/// The methods that a route takes.
pub(crate) mod method_set;
/// Which requests are copied to a second upstream.
pub(crate) mod mirror_rule;
/// Routes by which a caller could avoid the rules of another.
pub(crate) mod overlap;
/// Patterns of hosts and paths.
pub(crate) mod pattern;
/// Rate limits: token buckets by key.
pub(crate) mod rate_limit;
/// Rewrites of the path.
pub(crate) mod rewrite;
/// A route with its policy.
pub(crate) mod route;
/// Everything that decides a request, compiled once.
pub(crate) mod snapshot;
/// Several upstreams for one route, by weight.
pub(crate) mod split;
/// Finds the route of a request.
pub(crate) mod table;
/// The target of a route.
pub(crate) mod target;
