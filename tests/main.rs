//! What Portcullis promises, one file per promise: the real program over real sockets, unless a file says otherwise.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::print_stderr, reason = "the logs of a failed test's gateway are for whoever looks into it")]
#![expect(clippy::disallowed_methods, reason = "the other ends of a test are tasks of its own runtime")]

mod support;

mod architecture;
mod authorization;
mod check_and_run;
mod cli;
mod config_errors;
mod demo;
mod first_minutes;
mod jwks;
mod outside;
mod tokens;
mod validation;
