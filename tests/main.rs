//! What Portcullis promises, one file per promise: the real program over real sockets, unless a file says otherwise.

mod support;

mod architecture;
mod config_errors;
mod first_minutes;
mod outside;
