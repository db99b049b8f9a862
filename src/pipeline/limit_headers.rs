//! What a limited route tells its callers: `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-11).

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::limits::{Count, Limit};

const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// Adds quota and window of every limit, and what is left of those that were counted.
pub(crate) fn announce(limits: &[Arc<Limit>], counts: &[Option<Count>], headers: &mut HeaderMap) {
    if limits.is_empty() {
        return;
    }
    headers.insert(RATE_LIMIT_POLICY, policy(limits));
    let counted = limits.iter().zip(counts).filter_map(|(limit, count)| Some((limit, count.as_ref()?)));
    let left =
        list(counted.map(|(limit, count)| (&*limit.name, [("r", count.remaining.into()), ("t", seconds(count.wait))])));
    if !left.is_empty() {
        headers.insert(RATE_LIMIT, value(left));
    }
}

/// Rounded up, so that who comes back then is let in.
pub(crate) fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

fn policy(limits: &[Arc<Limit>]) -> HeaderValue {
    value(list(limits.iter().map(|limit| {
        let window = limit.rate.period * limit.rate.burst.get() / limit.rate.amount.get();
        (&*limit.name, [("q", limit.rate.burst.get().into()), ("w", seconds(window).max(1))])
    })))
}

/// A list of strings with integer parameters (RFC 9651 §3.1).
fn list<'l>(items: impl Iterator<Item = (&'l str, [(&'static str, u64); 2])>) -> String {
    let mut text = String::with_capacity(64);
    for (name, [first, second]) in items {
        let separator = if text.is_empty() { "" } else { ", " };
        // Writing into a String does not fail.
        let _ = write!(text, "{separator}\"{name}\";{}={};{}={}", first.0, first.1, second.0, second.1);
    }
    text
}

/// Names of limits are printable ASCII, so that the fallback is never taken.
fn value(text: String) -> HeaderValue {
    HeaderValue::from_maybe_shared(Bytes::from(text)).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_rounded_up() {
        assert_eq!([0, 1, 1000, 1001].map(|ms| seconds(Duration::from_millis(ms))), [0, 1, 1, 2]);
    }

    #[test]
    fn limits_are_listed_as_structured_fields() {
        let text = list([("client", [("q", 20), ("w", 2)]), ("address", [("q", 5), ("w", 1)])].into_iter());
        assert_eq!(text, "\"client\";q=20;w=2, \"address\";q=5;w=1");
    }
}
