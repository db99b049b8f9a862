//! Routes as compiled from the configuration, and the search for the route of a request.
//!
//! In the order of their imports: a file imports only from those above it.

// Patterns of hosts and paths.
pub(crate) mod pattern;
// Sets of methods.
pub(crate) mod method_set;
// Access rules, and the check of a caller against them.
pub(crate) mod access;
// Rate limits as configured.
pub(crate) mod rate_limit;
// The keys of one limit, up to a cap.
mod bounded_store;
// Where rate limits are counted: token buckets by key.
pub(crate) mod limit_store;
// Rewrites of the path.
pub(crate) mod rewrite;
// The inverse of changes of the path.
pub(crate) mod public_path;
// Several upstreams for one route, by weight.
pub(crate) mod split;
// The target of a route.
pub(crate) mod target;
// Header fields that a route sets or removes.
pub(crate) mod header_rules;
// Cross-origin rules.
pub(crate) mod cors;
// The rule by which requests are copied to a second upstream.
pub(crate) mod mirror_rule;
// Which metrics series a rule counts in.
pub(crate) mod series;
// The header fields that a route is for.
pub(crate) mod field_conditions;
// The resources that routes protect.
pub(crate) mod resource;
// The hosts that are ours.
pub(crate) mod own_hosts;
// A route with its policy.
pub(crate) mod route;
// Comparison of the rules of two routes.
pub(crate) mod laxity;
// The patterns of all routes, in flat arrays.
mod route_tree;
// The search for the route of a request.
pub(crate) mod table;
// The identity of each rate limit, from one configuration to the next.
mod limit_identity;
// Routes by which a caller could avoid the rules of another.
pub(crate) mod overlap;
// Routes that no request reaches, and wildcard hosts that take requests for other hosts.
pub(crate) mod reach;
// Routes that share a subtree which one rule should cover.
pub(crate) mod shared_subtree;
// Everything that decides a request, compiled once.
pub(crate) mod snapshot;
