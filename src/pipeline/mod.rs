//! The way of a request, from its head to its answer.
//!
//! Folders and files stand in the order of their imports: each imports only from those above it. Start reading in [`corridor`].

pub(crate) mod answer;
/// A connection and its requests.
pub(crate) mod connection;
/// The way itself, readable in one sitting.
pub(crate) mod corridor;
pub(crate) mod policy;
pub(crate) mod record;
pub(crate) mod request;
pub(crate) mod routing;
/// One worker and what its requests share.
pub(crate) mod worker;
