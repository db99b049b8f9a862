//! The services behind the gateway: which server gets a request, the connections to it, both bodies of an exchange, and
//! how failing servers are left out. An exchange begins in [`exchange`], a tunnel in [`tunnel`].
//!
//! Folders and files are listed in the order of their imports: each imports only from those above it.

pub(crate) mod protocol;
pub(crate) mod tls_fault;
pub(crate) mod fault;
pub(crate) mod names;
pub(crate) mod pinning;
pub(crate) mod tls;
pub(crate) mod server;
pub(crate) mod host;
pub(crate) mod service_credential;
pub(crate) mod settings;
mod via;
pub(crate) mod balancing;
// An upstream: what the configuration makes and a request is sent to.
pub(crate) mod service;
mod own_address;
mod connect;
mod http1_probe;
mod http2_probe;
pub(crate) mod health_check;
pub(crate) mod dial;
pub(crate) mod body;
pub(crate) mod request;
mod response_head;
pub(crate) mod pin_limit;
mod http1;
pub(crate) mod written_head;
mod http2;
mod pool;
mod server_set;
pub(crate) mod pools;
pub(crate) mod pinned;
mod lease;
mod connection_auth;
pub(crate) mod connection_binding;
pub(crate) mod response_body;
mod replay;
mod attempt;
pub(crate) mod exchange;
pub(crate) mod tunnel;
