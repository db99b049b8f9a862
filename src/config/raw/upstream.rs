//! `upstreams.NAME`: a URL, or a map with further keys.

use super::super::decode::{Decode, MapField as _, OneOrMore, Required, form_of, mirror};
use super::super::diagnostics::Reported;
use super::super::form::ValueForm;
use super::super::reader::{MissingKey, Reader};
use super::super::source::At;
use super::super::tree::YamlNode;
use super::super::values::{Bound, Period, PositiveCount, Size, seconds};
use super::authorization::RawAuthorization;
use super::host::RawHost;
use super::servers::{RawBalance, RawBreaker, RawEjection, RawHealthCheck, RawRetries, RawServer};
use super::transport::{RawProtocol, RawUpstreamTls, ServerUrl};

/// Either form.
#[derive(Debug)]
pub(crate) struct RawUpstream {
    pub(crate) servers: Required<OneOrMore<RawServer>>,
    /// Of the map; for a URL, all at their defaults.
    pub(crate) keys: RawUpstreamKeys,
}

mirror! {
    struct RawUpstreamKeys {
        /// Present if the upstream is a map.
        servers: Option<Required<OneOrMore<RawServer>>>,
        /// Default: `upstream`.
        host: Option<At<RawHost>>,
        balance: At<RawBalance> = RawBalance::LeastRequests,
        connect_timeout: At<Bound<Period>> = Bound::AtMost(seconds(5)),
        /// To the first byte of the response.
        response_timeout: At<Bound<Period>> = Bound::AtMost(seconds(30)),
        /// The authorities of `https` servers, and the certificate that is shown to them.
        tls: Option<At<RawUpstreamTls>>,
        protocol: At<RawProtocol> = RawProtocol::Http1,
        health_check: Option<At<RawHealthCheck>>,
        /// Default: on if there are several servers.
        ejection: Option<At<RawEjection>>,
        /// Default: none.
        circuit_breaker: Option<At<RawBreaker>>,
        retries: Option<At<RawRetries>>,
        /// Default: none; a server that is back gets its whole share at once.
        slow_start: Option<At<Period>>,
        /// Of each server.
        max_connections: At<Bound<PositiveCount>> = Bound::Unlimited,
        /// Requests, of each server.
        max_in_flight: At<Bound<PositiveCount>> = Bound::Unlimited,
        /// The life of connections without a request.
        keep_alive: RawKeepAlive,
        /// Limits of answers.
        answers: RawAnswerLimits,
        /// The credential that the service wants from the gateway itself.
        authorization: Option<At<RawAuthorization>>,
        /// Whether the field `Via` is sent.
        via: At<bool> = true,
    }
}

mirror! {
    struct RawKeepAlive {
        /// Less than the keep-alive timeout of common servers.
        idle: At<Period> = seconds(15),
        /// On one connection.
        max_requests: At<Bound<PositiveCount>> = Bound::Unlimited,
    }
}

mirror! {
    struct RawAnswerLimits {
        header_count: At<Option<PositiveCount>> = None,
        header_bytes: At<Option<Size>> = None,
    }
}

impl Decode for RawUpstream {
    fn form() -> ValueForm {
        ValueForm::AnyOf(vec![form_of::<ServerUrl>(), form_of::<RawUpstreamKeys>().requiring("servers")])
    }

    fn decode(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        match &node.value {
            YamlNode::Map(_) => {
                let mut keys = RawUpstreamKeys::decode(node, reader)?;
                let servers = keys.servers.take();
                let servers =
                    servers.unwrap_or_else(|| Required::absent("servers", MissingKey::From(node.span), reader));
                Ok(Self { servers, keys })
            }
            YamlNode::List(_) => Err(reader.mismatch(node, "a URL or a map", "a list belongs under `servers`")),
            YamlNode::Scalar(_) | YamlNode::Refused => {
                let server = At::decode(node, reader);
                let servers = server.map(|server| At { span: node.span, value: OneOrMore { items: vec![server] } });
                Ok(Self { servers, keys: RawUpstreamKeys::absent("", MissingKey::From(node.span), reader) })
            }
        }
    }
}
