//! Everything that answers a request: refusals, our own endpoints, forwarding.
//!
//! In the order of their imports: a file imports only from those above it.

/// Bodies of responses.
pub(crate) mod body;
/// Our own endpoints.
pub(crate) mod built_in;
/// The content of a response.
pub(crate) mod content;
/// Responses that the configuration holds.
pub(crate) mod fixed_answer;
/// Forwards a permitted request to its upstream.
pub(crate) mod forward;
/// gRPC calls and the form of their refusals.
pub(crate) mod grpc;
/// `RateLimit` header fields.
pub(crate) mod limit_headers;
/// Copies of requests for a second upstream.
pub(crate) mod mirror;
/// The response to a CORS preflight.
pub(crate) mod preflight;
/// Every refusal: its reason and its response.
pub(crate) mod rejection;
/// The header fields that every response carries.
pub(crate) mod response_fields;
/// Switches a connection to another protocol.
pub(crate) mod switch;
/// Reasons and statuses of refusals about tokens.
pub(crate) mod token_rejection;
