//! The environment of the tests: the program itself, a client, an upstream, an issuer.

pub(crate) mod authority;
pub(crate) mod client;
pub(crate) mod command;
pub(crate) mod dns;
pub(crate) mod examples;
pub(crate) mod frames;
pub(crate) mod gateway;
pub(crate) mod introspector;
pub(crate) mod issuer;
pub(crate) mod pages;
pub(crate) mod port;
pub(crate) mod postgres;
pub(crate) mod proof;
pub(crate) mod redis;
pub(crate) mod schema;
pub(crate) mod secure;
pub(crate) mod upstream;
pub(crate) mod wire;
pub(crate) mod world;

pub(crate) use client::{Answer, Client};
pub(crate) use gateway::Gateway;
pub(crate) use issuer::Issuer;
pub(crate) use upstream::Upstream;
