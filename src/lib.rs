//! Portcullis, an API gateway for machine-to-machine traffic.

mod clock;
mod config;
mod issuer;
mod jose;
mod oauth;
mod telemetry;
mod trust;
