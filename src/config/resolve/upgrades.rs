//! `websocket` and `upgrades`: what a route opens tunnels for.

use http::Method;

use super::super::source::At;
use super::Resolver;
use crate::pipeline::route::MethodSet;
use crate::pipeline::upgrade::Upgrades;

impl Resolver<'_> {
    pub(super) fn upgrades(&mut self, websocket: &At<bool>, others: &[At<String>], methods: &MethodSet) -> Upgrades {
        if websocket.value && !methods.contains(&Method::GET) {
            self.faults.at(websocket.span, "a WebSocket is asked for by GET, which `methods` does not list");
        }
        let mut protocols: Vec<Box<str>> = Vec::new();
        for protocol in others {
            match Upgrades::parse(&protocol.value) {
                Ok(parsed) if protocols.contains(&parsed) => {
                    self.faults.at(protocol.span, "this protocol is listed twice");
                }
                Ok(parsed) => protocols.push(parsed),
                Err(fault) => {
                    self.faults.at(protocol.span, fault.to_string());
                }
            }
        }
        Upgrades::new(websocket.value, protocols)
    }
}
