//! The servers of an upstream: their URLs, load balancing, health checks and failure handling.

use super::super::decode::{Decode, OneOrMore, Required, form_of, mirror};
use super::super::diagnostics::Reported;
use super::super::form::ValueForm;
use super::super::reader::Reader;
use super::super::source::At;
use super::super::tree::YamlNode;
use super::super::values::{Bound, Hint, Percent, Period, PositiveCount, Quotes, ScalarValue, count, percent, seconds};
use super::transport::ServerUrl;
use crate::trust::request_key::RequestKey;

/// A URL, or a map with further keys.
#[derive(Debug)]
pub(crate) struct RawServer {
    pub(crate) url: Required<ServerUrl>,
    pub(crate) weight: At<PositiveCount>,
}

mirror! {
    struct RawServerMap {
        /// `http://host:port`, `https://host:port` or `unix:path`.
        url: Required<ServerUrl>,
        /// The share of requests beside that of the other servers, 1000 at most. Default: `1`.
        weight: At<PositiveCount> = count(1),
    }
}

/// The load balancing method.
#[derive(Debug)]
pub(crate) enum RawBalance {
    LeastRequests,
    RoundRobin,
    Random,
    /// Requests with the same key go to the same server.
    Hash(Required<RequestKey>),
}

mirror! {
    struct RawHash {
        /// The key: requests with the same key go to the same server.
        hash: Required<RequestKey>,
    }
}

mirror! {
    struct RawHealthCheck {
        /// Default: a connection is enough.
        path: Option<At<String>>,
        /// The time between two checks.
        interval: At<Period> = seconds(5),
        /// The time for one check.
        timeout: At<Period> = seconds(1),
        /// Consecutive checks.
        unhealthy_after: At<PositiveCount> = count(3),
        healthy_after: At<PositiveCount> = count(2),
        /// Default: any 2xx.
        status: Option<At<OneOrMore<PositiveCount>>>,
        /// Text that the response must contain.
        body: Option<At<String>>,
    }
}

mirror! {
    struct RawBreaker {
        /// Failures in a row, counted over all servers. Default: `20`.
        consecutive_failures: At<PositiveCount> = count(20),
        /// The time in which every request gets 503. Default: `5s`.
        open_for: At<Period> = seconds(5),
    }
}

/// `none`, or a map.
#[derive(Debug)]
pub(crate) enum OrNone<T> {
    Nothing,
    Rules(T),
}

pub(crate) type RawEjection = OrNone<RawEjectionRules>;

mirror! {
    struct RawEjectionRules {
        consecutive_failures: At<PositiveCount> = count(5),
        error_rate: At<Bound<Percent>> = Bound::AtMost(percent(50)),
        duration: At<Period> = seconds(30),
        max_ejected: At<Percent> = percent(50),
    }
}

pub(crate) type RawRetries = OrNone<RawRetryRules>;

mirror! {
    struct RawRetryRules {
        /// Tries after the first, 5 at most. Default: `1`.
        attempts: At<PositiveCount> = count(1),
        /// The conditions of a retry. Default: `[connect, reset]`.
        on: Option<At<OneOrMore<RetryOn>>>,
        /// The time after which a try is given up that can be followed by another. Default: none.
        per_try_timeout: Option<At<Period>>,
    }
}

/// The failure after which a request is retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RetryOn {
    Connect,
    Reset,
    Status(u16),
}

impl Decode for RawServer {
    fn form() -> ValueForm {
        ValueForm::AnyOf(vec![form_of::<ServerUrl>(), form_of::<RawServerMap>()])
    }

    fn decode(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        if matches!(node.value, YamlNode::Map(_)) {
            let map = RawServerMap::decode(node, reader)?;
            return Ok(Self { url: map.url, weight: map.weight });
        }
        At::decode(node, reader).map(Self::bare)
    }
}

impl RawServer {
    pub(super) fn bare(url: At<ServerUrl>) -> Self {
        let weight = At { value: count(1), span: url.span };
        Self { url: Ok(url), weight }
    }
}

impl Decode for RawBalance {
    fn form() -> ValueForm {
        let words = ValueForm::Words(vec!["least_requests", "round_robin", "random"]);
        ValueForm::AnyOf(vec![words, form_of::<RawHash>()])
    }

    fn decode(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        const EXPECTED: &str =
            "`least_requests`, `round_robin`, `random`, or a map such as `{hash: client}` or `{hash: header:X-Tenant}`";
        if matches!(node.value, YamlNode::Map(_)) {
            return RawHash::decode(node, reader).map(|map| Self::Hash(map.hash));
        }
        match &*reader.text(node, EXPECTED)?.value {
            "least_requests" => Ok(Self::LeastRequests),
            "round_robin" => Ok(Self::RoundRobin),
            "random" => Ok(Self::Random),
            "hash" => Err(reader.mismatch(node, EXPECTED, "name the key to hash")),
            _ => Err(reader.mismatch(node, EXPECTED, "")),
        }
    }
}

impl<T: Decode> Decode for OrNone<T> {
    fn form() -> ValueForm {
        T::form().or_word("none")
    }

    fn decode(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        const EXPECTED: &str = "a map, or `none`";
        if matches!(node.value, YamlNode::Map(_)) {
            return T::decode(node, reader).map(Self::Rules);
        }
        match &*reader.text(node, EXPECTED)?.value {
            "none" => Ok(Self::Nothing),
            _ => Err(reader.mismatch(node, EXPECTED, "")),
        }
    }
}

impl ScalarValue for RetryOn {
    /// It may be a number.
    const QUOTES: Quotes = Quotes::MustNot;

    fn expected() -> String {
        "`connect`, `reset` or a status from 500 to 599".to_owned()
    }

    fn form() -> ValueForm {
        ValueForm::AnyOf(vec![ValueForm::Words(vec!["connect", "reset"]), ValueForm::Integer(500, 599)])
    }

    fn parse(text: &str) -> Result<Self, Hint> {
        match (text, text.parse()) {
            ("connect", _) => Ok(Self::Connect),
            ("reset", _) => Ok(Self::Reset),
            (_, Ok(status @ 500..=599)) if text.len() == 3 => Ok(Self::Status(status)),
            _ => Err(""),
        }
    }
}
