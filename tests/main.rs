//! What Portcullis promises, one file per promise: the real program over real sockets, unless a file says otherwise.

mod support;

mod architecture;
mod cli;
mod config_errors;
mod demo;
mod first_minutes;
mod outside;
