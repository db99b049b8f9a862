//! `rate_limits`: of routes, of the token endpoint, of clients, and those that routes share.

use super::super::decode::{Decode, Required, form_of, mirror};
use super::super::diagnostics::Reported;
use super::super::form::ValueForm;
use super::super::reader::Reader;
use super::super::source::At;
use super::super::tree::YamlNode;
use super::super::values::{PositiveCount, RatePerPeriod};
use crate::trust::request_key::RequestKey;

mirror! {
    struct RawRateLimit {
        /// The number of requests in a time: the speed at which the bucket fills.
        rate: Required<RatePerPeriod>,
        /// The size of the whole bucket. Default: the rate's number.
        burst: Option<At<PositiveCount>>,
        /// The key that is counted.
        per: Required<RequestKey>,
        /// Counted over all replicas. Default: `true` with `shared.redis`.
        shared: Option<At<bool>>,
    }
}

mirror! {
    /// A client's own. It counts by the client alone.
    struct RawClientLimit {
        /// The number of requests in a time: the speed at which the bucket fills.
        rate: Required<RatePerPeriod>,
        /// The size of the whole bucket. Default: the rate's number.
        burst: Option<At<PositiveCount>>,
        /// Counted over all replicas. Default: `true` with `shared.redis`.
        shared: Option<At<bool>>,
    }
}

/// An item of a list of limits.
#[derive(Debug)]
pub(crate) enum RawLimitUse {
    Own(RawRateLimit),
    /// One of the top level, by its name.
    Shared(String),
}

impl Decode for RawLimitUse {
    fn form() -> ValueForm {
        ValueForm::AnyOf(vec![ValueForm::Text, form_of::<RawRateLimit>()])
    }

    fn decode(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        const EXPECTED: &str = "a limit such as `{rate: 10/s, per: client}`, or the name of one under `rate_limits`";
        match &node.value {
            YamlNode::Map(_) => RawRateLimit::decode(node, reader).map(Self::Own),
            YamlNode::Scalar(scalar) if !scalar.is_nothing() => String::decode(node, reader).map(Self::Shared),
            YamlNode::Scalar(_) | YamlNode::List(_) | YamlNode::Refused => Err(reader.mismatch(node, EXPECTED, "")),
        }
    }
}
