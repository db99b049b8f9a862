//! What requests are told apart by, for who counts them and for who spreads them.

use http::header::HeaderName;

/// Every request has one key by each; where there is nothing to tell by, it is that of all such requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Per {
    Client,
    /// IPv6 by /64.
    Address,
    Route,
    Subject,
    /// A claim's value, found as in access rules.
    Claim(String),
    Header(HeaderName),
}
