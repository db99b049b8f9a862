//! The promises of Portcullis, one file each: the real program over real sockets, unless a file says otherwise.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::print_stderr, reason = "the logs of a failed test's gateway are for whoever looks into it")]
#![expect(clippy::disallowed_methods, reason = "the other ends of a test are tasks of its own runtime")]

mod support;

mod addresses;
mod admin;
mod ambiguity;
mod architecture;
mod audit;
mod audit_chain;
mod audit_file;
mod authorization;
mod behind_proxies;
mod blame;
mod bodies;
mod broken_answers;
mod check_and_run;
mod cli;
mod config_errors;
mod connection_identity;
mod content_coding;
mod cors;
mod deadlines;
mod demo;
mod documentation;
mod events;
mod exhaustion;
mod expect_continue;
mod forwarding;
mod framing;
mod fuzzing;
mod grpc;
mod header_rules;
mod http1_clients;
mod http1_llhttp;
mod http1_reference;
mod http2;
mod inspect;
mod jwks;
mod keys;
mod limits;
mod listeners;
mod mirroring;
mod outside;
mod overlaps;
mod own_answers;
mod path_spelling;
mod proxy_protocol;
mod quick_start;
mod refused_uploads;
mod retries;
mod revocation;
mod rewriting;
mod routing;
mod servers;
mod shutdown;
mod smuggling;
mod tls;
mod tokens;
mod traffic_split;
mod trailers;
mod tunnels;
mod unknown_clients;
mod upstream_connections;
mod upstream_faults;
mod upstream_http2;
mod upstream_names;
mod upstream_sockets;
mod upstream_tls;
mod validation;
mod websocket;
