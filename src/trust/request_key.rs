//! The keys by which requests are counted (rate limits) and distributed (consistent hashing, sticky splits).
//!
//! A new key is a variant here: its name in the configuration, its text, its value, and whether it needs a caller.

use std::fmt;
use std::net::IpAddr;

use http::HeaderMap;
use http::header::HeaderName;

use super::scope_claim::claim_at;
use super::verify::Verified;
use crate::network::counted_network;
use crate::oauth::caller::Digest;

/// Every request has exactly one value of each key. Requests without the value, such as a missing header, share
/// [`ABSENT`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RequestKey {
    Client,
    /// IPv6 addresses are grouped by /64.
    Address,
    Route,
    Subject,
    /// The value of a claim, found as in access rules.
    Claim(String),
    Header(HeaderName),
}

/// The value where a request has none.
pub(crate) const ABSENT: Digest = Digest(0);

impl RequestKey {
    /// The texts that [`parse`](Self::parse) takes.
    pub(crate) const EXPECTED: &str = "`client`, `address`, `route`, `subject`, `claim:NAME` or `header:NAME`";

    /// `Err` is a hint, empty where there is nothing to say.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        match (text, text.split_once(':')) {
            ("client", _) => Ok(Self::Client),
            ("address", _) => Ok(Self::Address),
            ("route", _) => Ok(Self::Route),
            ("subject", _) => Ok(Self::Subject),
            (_, Some(("claim", name))) if !name.is_empty() => Ok(Self::Claim(name.to_owned())),
            (_, Some(("header", name))) if !name.is_empty() => {
                name.parse().map(Self::Header).map_err(|_| "a header's name is made of letters, digits and `-`")
            }
            _ => Err(""),
        }
    }

    /// Whether only a request with a verified token has a value: not on public routes.
    pub(crate) fn needs_caller(&self) -> bool {
        match self {
            Self::Client | Self::Subject | Self::Claim(_) => true,
            Self::Address | Self::Route | Self::Header(_) => false,
        }
    }

    /// The value of [`RequestKey::Address`], which is known before the caller is.
    pub(crate) fn by_address(address: IpAddr) -> Digest {
        let bits = match counted_network(address) {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
            IpAddr::V6(v6) => v6.to_bits(),
        };
        Digest(bits)
    }

    /// The value of a request. On public routes there is no caller.
    pub(crate) fn of(&self, address: IpAddr, headers: &HeaderMap, verified: Option<&Verified>) -> Digest {
        match self {
            Self::Address => Self::by_address(address),
            Self::Route => ABSENT,
            Self::Client => verified.map_or(ABSENT, |verified| verified.caller.client_digest),
            Self::Subject => verified.map_or(ABSENT, |verified| verified.caller.subject_digest),
            Self::Claim(path) => {
                let value = verified.and_then(|verified| claim_at(verified.claims()?, path));
                value.map_or(ABSENT, |value| Digest::of(&[&value.to_string()]))
            }
            Self::Header(name) => {
                let values: Vec<&str> =
                    headers.get_all(name).iter().map(|value| value.to_str().unwrap_or("?")).collect();
                if values.is_empty() { ABSENT } else { Digest::of(&values) }
            }
        }
    }
}

/// As it is written in the configuration.
impl fmt::Display for RequestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client => f.write_str("client"),
            Self::Address => f.write_str("address"),
            Self::Route => f.write_str("route"),
            Self::Subject => f.write_str("subject"),
            Self::Claim(name) => write!(f, "claim:{name}"),
            Self::Header(name) => write!(f, "header:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_reads_its_own_text() {
        for text in ["client", "address", "route", "subject", "claim:tenant", "header:x-api-key"] {
            assert_eq!(RequestKey::parse(text).unwrap().to_string(), text);
            assert!(RequestKey::EXPECTED.contains(text.split(':').next().unwrap()));
        }
        for text in ["", "Client", "claim:", "header:", "claim", "header:a b"] {
            assert!(RequestKey::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_address_counts_by_its_network() {
        let key = |text: &str| RequestKey::by_address(text.parse().unwrap());
        assert_eq!(key("2001:db8::1"), key("2001:db8::2"));
        assert_ne!(key("10.0.0.1"), key("10.0.0.2"));
        assert_eq!(key("10.0.0.1"), key("::ffff:10.0.0.1"));
    }
}
