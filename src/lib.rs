//! Portcullis, an API gateway for machine-to-machine traffic.

mod config;
