//! Processes a request, from its head to its answer.
//!
//! Folders and files are declared in the order of their imports: each imports only from those above it. Start reading
//! in [`corridor`].

pub(crate) mod request;
pub(crate) mod routing;
pub(crate) mod policy;
pub(crate) mod record;
pub(crate) mod answer;
// One worker: the parts that its requests share.
pub(crate) mod worker;
// The decision about a request.
mod observed;
pub(crate) mod decide;
// The steps of every request, in order.
pub(crate) mod corridor;
// A connection and its requests.
pub(crate) mod connection;
