//! The corridor: every request walks it, in one direction, one file per room.
//!
//! Start reading in [`corridor`].

pub(crate) mod access;
pub(crate) mod answer;
pub(crate) mod authenticate;
pub(crate) mod authorize;
pub(crate) mod built_in;
pub(crate) mod canonical;
pub(crate) mod case_fold;
pub(crate) mod corridor;
pub(crate) mod cors;
pub(crate) mod fixed_answer;
pub(crate) mod forward;
pub(crate) mod forwarded;
pub(crate) mod grpc;
pub(crate) mod header_rules;
pub(crate) mod headers;
pub(crate) mod in_flight;
pub(crate) mod laxity;
pub(crate) mod limit_headers;
pub(crate) mod limits;
pub(crate) mod load;
pub(crate) mod mirror;
pub(crate) mod overlap;
pub(crate) mod pattern;
pub(crate) mod peer;
pub(crate) mod rejection;
pub(crate) mod request_id;
pub(crate) mod request_log;
pub(crate) mod rewrite;
pub(crate) mod route;
pub(crate) mod routes;
pub(crate) mod sampling;
pub(crate) mod snapshot;
pub(crate) mod split;
pub(crate) mod switch;
pub(crate) mod target;
pub(crate) mod token_rejection;
pub(crate) mod trailers;
pub(crate) mod tunnels;
pub(crate) mod upgrade;
pub(crate) mod worker;
pub(crate) mod worker_metrics;
