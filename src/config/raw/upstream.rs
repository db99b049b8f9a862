//! `upstreams.NAME`: a URL, or a map with more to say.

use super::super::decode::{Decode, EMPTY_LIST, Required, mirror};
use super::super::diagnostics::Reported;
use super::super::reader::Reader;
use super::super::source::At;
use super::super::tree::Node;
use super::super::values::{Limit, Period, seconds};
use super::transport::{Protocol, RawUpstreamTls, ServerUrl};

/// Either form.
#[derive(Debug)]
pub(crate) struct RawUpstream {
    /// The one server there can be.
    pub(crate) server: Required<ServerUrl>,
    pub(crate) connect_timeout: At<Limit<Period>>,
    /// To the first byte of the response.
    pub(crate) response_timeout: At<Limit<Period>>,
    pub(crate) tls: Option<At<RawUpstreamTls>>,
    pub(crate) protocol: At<Protocol>,
}

mirror! {
    struct RawUpstreamMap {
        servers: Required<OneServer>,
        connect_timeout: At<Limit<Period>> = CONNECT_TIMEOUT,
        response_timeout: At<Limit<Period>> = RESPONSE_TIMEOUT,
        tls: Option<At<RawUpstreamTls>>,
        protocol: At<Protocol> = Protocol::Http1,
    }
}

/// A list with one URL in it.
#[derive(Debug)]
pub(crate) struct OneServer(At<ServerUrl>);

impl Decode for RawUpstream {
    fn decode(node: &At<Node<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        match &node.value {
            Node::Map(_) => {
                let map = RawUpstreamMap::decode(node, reader)?;
                Ok(Self {
                    server: map.servers.map(|servers| servers.value.0),
                    connect_timeout: map.connect_timeout,
                    response_timeout: map.response_timeout,
                    tls: map.tls,
                    protocol: map.protocol,
                })
            }
            Node::List(_) => Err(reader.mismatch(node, "a URL or a map", "a list belongs under `servers`")),
            Node::Scalar(_) | Node::Refused => Ok(Self {
                server: At::decode(node, reader),
                connect_timeout: At { value: CONNECT_TIMEOUT, span: node.span },
                response_timeout: At { value: RESPONSE_TIMEOUT, span: node.span },
                tls: None,
                protocol: At { value: Protocol::Http1, span: node.span },
            }),
        }
    }
}

impl Decode for OneServer {
    fn decode(node: &At<Node<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        match &node.value {
            Node::List(servers) if servers.len() > 1 => {
                Err(reader.faults.at(servers[1].span, "expected one server only: remove this one"))
            }
            Node::List(servers) if servers.len() == 1 => At::decode(&servers[0], reader).map(Self),
            Node::List(_) => Err(reader.faults.at(node.span, EMPTY_LIST)),
            Node::Scalar(_) => Err(reader.mismatch(node, "a list of one URL", "write `[…]` around it")),
            Node::Map(_) | Node::Refused => Err(reader.mismatch(node, "a list of one URL", "")),
        }
    }
}

const CONNECT_TIMEOUT: Limit<Period> = Limit::AtMost(seconds(5));

const RESPONSE_TIMEOUT: Limit<Period> = Limit::AtMost(seconds(30));
