//! The record of a request: its audit record and its metrics.
//!
//! In the order of their imports: a file imports only from those above it.

// The rule that a request matched.
pub(crate) mod matched;
// The snapshot that decides a request, or what its record needs of it.
mod decided_by;
// The counts of one rule.
mod rule_counts;
// Refusals by rate limits.
mod limit_refusals;
// The counts of one worker.
pub(crate) mod metrics;
// Where one worker records its requests.
pub(crate) mod recorder;
// The identity that a record names.
pub(crate) mod recorded_identity;
// The facts of a request and its audit record.
pub(crate) mod request_log;
// A request from its head to the end of its answer.
pub(crate) mod open_request;
