//! `websocket` and `upgrades`: what a route opens tunnels for.

use http::Method;

use super::super::source::At;
use super::Resolver;
use crate::pipeline::request::upgrade::Upgrades;
use crate::pipeline::routing::method_set::MethodSet;
use crate::pipeline::routing::target::RouteTarget;
use crate::upstream::protocol::UpstreamProtocol;
use crate::upstream::service::Upstream;

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

    /// Over HTTP/2 there is no `Upgrade`, and what we answer ourselves agrees to nothing.
    pub(super) fn must_speak_http1(&mut self, target: &RouteTarget, websocket: &At<bool>, others: &[At<String>]) {
        let asked = websocket.value.then_some(websocket.span).or_else(|| others.first().map(|protocol| protocol.span));
        let Some(span) = asked else { return };
        let over_http2 =
            |upstream: &Upstream| upstream.servers.iter().any(|server| server.protocol == UpstreamProtocol::Http2);
        let cannot = match target {
            RouteTarget::Upstream(upstream) => over_http2(upstream),
            RouteTarget::Split(split) => split.upstreams().any(|upstream| over_http2(upstream)),
            RouteTarget::Own(_) => true,
        };
        if cannot {
            self.faults
                .at(span, "other protocols are asked for over HTTP/1.1: the route needs upstreams that speak it");
        }
    }
}
