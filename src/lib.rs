//! Portcullis, an API gateway for machine-to-machine traffic.

mod app;
mod audit;
mod cli;
mod clock;
mod config;
mod issuer;
mod jose;
mod oauth;
mod pipeline;
mod server;
mod telemetry;
mod trust;
mod upstream;

pub use cli::main;
pub use config::route_finder::RouteFinder;
