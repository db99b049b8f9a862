//! `websocket` and `upgrades`: the protocols for which a route opens tunnels.

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
            self.faults.at(websocket.span, "a WebSocket request uses GET: add it to `methods`");
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

    /// HTTP/2 has no `Upgrade`, and a fixed response accepts none.
    pub(super) fn must_speak_http1(&mut self, target: &RouteTarget, websocket: &At<bool>, others: &[At<String>]) {
        let requested =
            websocket.value.then_some(websocket.span).or_else(|| others.first().map(|protocol| protocol.span));
        let Some(span) = requested else { return };
        let over_http2 =
            |upstream: &Upstream| upstream.servers.iter().any(|server| server.protocol == UpstreamProtocol::Http2);
        let cannot = match target {
            RouteTarget::Upstream(upstream) => over_http2(upstream),
            RouteTarget::Split(split) => split.upstreams().any(|upstream| over_http2(upstream)),
            RouteTarget::Own(_) => true,
        };
        if cannot {
            self.faults.at(span, "upgrades need HTTP/1.1: the route needs upstreams with `protocol: http1`");
        }
    }
}
