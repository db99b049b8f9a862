//! Answers to requests: refusals, our own endpoints, forwarding.
//!
//! In the order of their imports: a file imports only from those above it.

// The content of an answer.
pub(crate) mod content;
// `RateLimit` header fields.
pub(crate) mod limit_headers;
// Header fields that every answer carries.
pub(crate) mod response_fields;
// gRPC calls, and the form of their refusals.
pub(crate) mod grpc;
// Reasons and statuses of refusals because of tokens.
pub(crate) mod token_rejection;
// Reasons of failures of the upstream.
pub(crate) mod upstream_reason;
// The status of answers to malformed requests.
pub(crate) mod wire_rejection;
// Every refusal: its reason and its answer.
pub(crate) mod rejection;
// Rate limits: counted, recorded, and enforced.
pub(crate) mod count_limits;
// The rule of HTTP that a refused request breaks.
pub(crate) mod broken_rule;
// The values found and wanted by the check that refuses a request.
pub(crate) mod found_and_wanted;
// Bodies of answers.
pub(crate) mod body;
// The answer to a CORS preflight.
pub(crate) mod preflight;
// Answers that the configuration holds, and the answer to OPTIONS.
pub(crate) mod fixed_answer;
// References of answers to URLs.
mod url_reference;
// Paths and domains of cookies.
mod map_cookie;
// The upstream's addresses and paths in answers.
mod map_response;
// Copies of requests for a second upstream.
pub(crate) mod mirror;
// Forwarding to an upstream.
pub(crate) mod forward;
// Forwarding with a switch of the protocol.
pub(crate) mod switch;
// The keys that an issued token is bound to.
mod token_binding;
// Our own endpoints.
pub(crate) mod built_in;
