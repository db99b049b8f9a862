//! The keys by which requests are counted (rate limits) and distributed (consistent hashing).

use http::header::HeaderName;

/// Every request has exactly one key of each kind. Requests without the value, such as a missing header, share one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Per {
    Client,
    /// IPv6 addresses are grouped by /64.
    Address,
    Route,
    Subject,
    /// The value of a claim, found as in access rules.
    Claim(String),
    Header(HeaderName),
}
