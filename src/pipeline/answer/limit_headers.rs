//! The header fields of rate limits: `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-11).

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::pipeline::routing::rate_limit::{CountedBy, LimitCount, RateLimit, seconds};

const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// Limits with their counts, by place.
pub(crate) type CountedLimits<'c> = (&'c [RateLimit], &'c [Option<LimitCount>]);

/// Adds the quota and window of every limit, of which a replica without the shared store has a share, and the remaining
/// quota of those that were counted: the limits of the rule and those of the client.
pub(crate) fn add_limit_headers(of_rule: CountedLimits<'_>, of_client: CountedLimits<'_>, headers: &mut HeaderMap) {
    if of_rule.0.is_empty() && of_client.0.is_empty() {
        return;
    }
    let (mut policy, mut left) = (List::default(), List::default());
    for (limits, counts) in [of_rule, of_client] {
        for (index, limit) in limits.iter().enumerate() {
            let by = counts.get(index).copied().flatten().map_or(CountedBy::Process, |count| count.by);
            let (quota, window) = limit.quota(by);
            policy.item(&limit.name, [(";q=", quota), (";w=", window)]);
            if let CountedBy::Share { replicas } = by {
                policy.parameter(";share=", replicas.into());
            }
        }
        for (limit, count) in limits.iter().zip(counts) {
            if let Some(count) = count {
                left.item(&limit.name, [(";r=", count.remaining.into()), (";t=", seconds(count.wait))]);
            }
        }
    }
    headers.insert(RATE_LIMIT_POLICY, policy.value());
    if !left.0.is_empty() {
        headers.insert(RATE_LIMIT, left.value());
    }
}

/// A list of strings with integer parameters (RFC 9651 §3.1). Every limited answer has two, so it is written without
/// `fmt` (faster).
#[derive(Debug, Default)]
struct List(Vec<u8>);

impl List {
    fn item(&mut self, name: &str, parameters: [(&'static str, u64); 2]) {
        self.0.reserve(64);
        self.0.extend_from_slice(if self.0.is_empty() { b"\"" } else { b", \"" });
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(b'"');
        for (name, value) in parameters {
            self.parameter(name, value);
        }
    }

    /// A parameter of the last item.
    fn parameter(&mut self, name: &str, value: u64) {
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    /// Names of limits are printable ASCII, so that the fallback is never taken.
    fn value(self) -> HeaderValue {
        HeaderValue::from_maybe_shared(Bytes::from(self.0)).unwrap_or(HeaderValue::from_static(""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_listed_as_structured_fields() {
        let mut list = List::default();
        list.item("client", [(";q=", 20), (";w=", 2)]);
        list.item("address", [(";q=", 5), (";w=", 1)]);
        assert_eq!(list.value(), "\"client\";q=20;w=2, \"address\";q=5;w=1");
    }
}
