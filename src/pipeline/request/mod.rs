//! A request as it came: its canonical form, its header fields, and the peer that sent it.
//!
//! In the order of their imports: a file imports only from those above it.

// Case folding of paths.
pub(crate) mod case_fold;
// Random draws, and stable positions for keys.
pub(crate) mod sampling;
// Why a request has no canonical form.
pub(crate) mod ambiguous;
// Forms of paths that only some routes take.
pub(crate) mod path_forms;
// The spellings of a path.
pub(crate) mod spelling;
// The host that a request names.
pub(crate) mod authority;
// The canonical form of a request: its target, host and method.
pub(crate) mod canonical;
// Requests for a protocol other than HTTP.
pub(crate) mod upgrade;
// The statements of a proxy that count.
pub(crate) mod origin_part;
// Header fields: passed on, removed or refused.
pub(crate) mod headers;
// Header fields of answers: passed on or removed.
mod answer_headers;
// How many more proxies may forward a request.
pub(crate) mod max_forwards;
// Trailer fields of requests and answers.
pub(crate) mod trailers;
// The client that a proxy names: `Forwarded` and `X-Forwarded-For`.
pub(crate) mod forwarded;
// Scheme, host and port as the public sees them.
pub(crate) mod public_origin;
// Whether the URL of a DPoP proof is that of the request.
pub(crate) mod proof_url;
// Request ids.
pub(crate) mod request_id;
// Requests in flight from one address.
pub(crate) mod in_flight;
// Values that a connection keeps from one request to the next.
pub(crate) mod connection_cache;
// The client certificate that a proxy states.
mod client_cert;
// The other end of a connection.
pub(crate) mod peer;
