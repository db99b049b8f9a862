//! What Portcullis promises, one file per promise: the real program over real sockets, unless a file says otherwise.

mod support;

mod admin;
mod ambiguity;
mod audit;
mod audit_file;
mod bodies;
mod deadlines;
mod first_minutes;
mod forwarding;
mod framing;
mod limits;
mod listeners;
mod routing;
mod shutdown;
mod tls;
mod upstream_connections;
mod upstream_faults;
