//! `upstreams.NAME`: a URL, or a map with more to say.

use super::super::decode::{Decode, Field as _, OneOrMore, Required, mirror};
use super::super::diagnostics::Reported;
use super::super::reader::{Missing, Reader};
use super::super::source::At;
use super::super::tree::Node;
use super::super::values::{Count, Limit, Period, seconds};
use super::servers::{RawBalance, RawBreaker, RawEjection, RawHealthCheck, RawRetries, RawServer};
use super::transport::{Protocol, RawUpstreamTls};

/// Either form.
#[derive(Debug)]
pub(crate) struct RawUpstream {
    pub(crate) servers: Required<OneOrMore<RawServer>>,
    /// Of the map; for a URL, all at their defaults.
    pub(crate) keys: RawUpstreamKeys,
}

mirror! {
    struct RawUpstreamKeys {
        /// A map has them.
        servers: Option<Required<OneOrMore<RawServer>>>,
        balance: At<RawBalance> = RawBalance::LeastRequests,
        connect_timeout: At<Limit<Period>> = Limit::AtMost(seconds(5)),
        /// To the first byte of the response.
        response_timeout: At<Limit<Period>> = Limit::AtMost(seconds(30)),
        tls: Option<At<RawUpstreamTls>>,
        protocol: At<Protocol> = Protocol::Http1,
        health_check: Option<At<RawHealthCheck>>,
        /// Default: on, where there are several servers.
        ejection: Option<At<RawEjection>>,
        /// Default: none.
        circuit_breaker: Option<At<RawBreaker>>,
        retries: Option<At<RawRetries>>,
        /// Default: a server that is back has its whole share at once.
        slow_start: Option<At<Period>>,
        /// Of each server.
        max_connections: At<Limit<Count>> = Limit::Unlimited,
        /// Requests, of each server.
        max_in_flight: At<Limit<Count>> = Limit::Unlimited,
    }
}

impl Decode for RawUpstream {
    fn decode(node: &At<Node<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        match &node.value {
            Node::Map(_) => {
                let mut keys = RawUpstreamKeys::decode(node, reader)?;
                let servers = keys.servers.take();
                let servers = servers.unwrap_or_else(|| Required::absent("servers", Missing::From(node.span), reader));
                Ok(Self { servers, keys })
            }
            Node::List(_) => Err(reader.mismatch(node, "a URL or a map", "a list belongs under `servers`")),
            Node::Scalar(_) | Node::Refused => {
                let server = At::decode(node, reader);
                let servers = server.map(|server| At { span: node.span, value: OneOrMore { items: vec![server] } });
                Ok(Self { servers, keys: RawUpstreamKeys::absent("", Missing::From(node.span), reader) })
            }
        }
    }
}
