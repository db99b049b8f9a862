//! A request as it came: its canonical form, its header fields, and the peer that sent it.
//!
//! In the order of their imports: a file imports only from those above it.

/// The one reading of a request: its target, host and method.
pub(crate) mod canonical;
/// Folds upper and lower case as lenient services do.
pub(crate) mod case_fold;
/// What a connection keeps from one request to the next.
pub(crate) mod connection_cache;
/// What proxies say of the client: `Forwarded` and `X-Forwarded-For`.
pub(crate) mod forwarded;
/// Header fields: what is refused, removed or reserved.
pub(crate) mod headers;
/// Requests in flight from one address.
pub(crate) mod in_flight;
/// The other end of a connection.
pub(crate) mod peer;
/// Request ids.
pub(crate) mod request_id;
/// Random draws and stable places for weighted choices.
pub(crate) mod sampling;
/// Trailer fields, each way.
pub(crate) mod trailers;
/// Requests for another protocol.
pub(crate) mod upgrade;
