//! SPIFFE IDs, which name workloads: `spiffe://TRUST_DOMAIN/PATH` (SPIFFE-ID §2).

/// A trust domain: lower-case letters, digits, `.`, `-` and `_`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TrustDomain(Box<str>);

/// A workload's ID. Both parts are parts of its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SpiffeId<'i> {
    pub(crate) trust_domain: &'i str,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a trust domain such as `example.org`, of at most 255 lower-case letters, digits, `.`, `-` and `_`")]
pub(crate) struct InvalidTrustDomain;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not the SPIFFE ID of a workload")]
pub(crate) struct InvalidSpiffeId;

pub(crate) const SCHEME: &str = "spiffe://";
const MAX_BYTES: usize = 2048;
const MAX_DOMAIN_BYTES: usize = 255;

impl TrustDomain {
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidTrustDomain> {
        if is_trust_domain(text) { Ok(Self(text.into())) } else { Err(InvalidTrustDomain) }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'i> SpiffeId<'i> {
    /// The ID of a workload has a path.
    pub(crate) fn parse(text: &'i str) -> Result<Self, InvalidSpiffeId> {
        let rest = text.strip_prefix(SCHEME).filter(|_| text.len() <= MAX_BYTES).ok_or(InvalidSpiffeId)?;
        let (trust_domain, path) = rest.split_once('/').ok_or(InvalidSpiffeId)?;
        let is_valid = is_trust_domain(trust_domain) && path.split('/').all(is_segment);
        if is_valid { Ok(Self { trust_domain }) } else { Err(InvalidSpiffeId) }
    }
}

fn is_trust_domain(text: &str) -> bool {
    let is_legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_');
    (1..=MAX_DOMAIN_BYTES).contains(&text.len()) && text.bytes().all(is_legal)
}

fn is_segment(text: &str) -> bool {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    !text.is_empty() && !matches!(text, "." | "..") && text.bytes().all(is_legal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_trust_domain_of_a_workload_is_its_whole_authority() {
        for (id, trust_domain) in [
            ("spiffe://example.org/a", "example.org"),
            ("spiffe://example.org/ns/default/sa/Web_1.x-y", "example.org"),
            ("spiffe://a_b-c.1/...", "a_b-c.1"),
        ] {
            assert_eq!(SpiffeId::parse(id), Ok(SpiffeId { trust_domain }), "{id}");
        }
        let longest = format!("spiffe://{}/{}", "a".repeat(255), "b".repeat(MAX_BYTES - 9 - 255 - 1));
        assert!(SpiffeId::parse(&longest).is_ok());
        assert!(SpiffeId::parse(&(longest + "b")).is_err());
    }

    #[test]
    fn anything_else_is_no_spiffe_id() {
        for bad in [
            "",
            "spiffe://",
            "spiffe:///a",
            "spiffe://example.org",
            "spiffe://example.org/",
            "spiffe://example.org/a/",
            "spiffe://example.org//a",
            "spiffe://example.org/./a",
            "spiffe://example.org/../a",
            "spiffe://example.org/a/..",
            "spiffe://example.org/a%2fb",
            "spiffe://example.org/a b",
            "spiffe://example.org/ü",
            "spiffe://example.org/a?x",
            "spiffe://example.org/a#x",
            "spiffe://example.org:443/a",
            "spiffe://user@example.org/a",
            "spiffe://Example.org/a",
            "SPIFFE://example.org/a",
            "https://example.org/a",
            " spiffe://example.org/a",
            "spiffe://example.org\\a/b",
        ] {
            assert_eq!(SpiffeId::parse(bad), Err(InvalidSpiffeId), "{bad}");
        }
        let long = format!("spiffe://{}/a", "a".repeat(256));
        assert_eq!(SpiffeId::parse(&long), Err(InvalidSpiffeId));
    }

    #[test]
    fn a_trust_domain_is_a_name_without_scheme_and_path() {
        assert_eq!(TrustDomain::parse("example.org").unwrap().as_str(), "example.org");
        for bad in ["", "spiffe://example.org", "example.org/", "Example.org", "example.org:1", "*", "*.example.org"] {
            assert_eq!(TrustDomain::parse(bad), Err(InvalidTrustDomain), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_workloads_id_begins_with_its_trust_domain_and_a_slash(id in "spiffe://[a-c./_ ]{1,8}/[aA./%]{0,8}") {
            if let Ok(SpiffeId { trust_domain }) = SpiffeId::parse(&id) {
                let prefix = format!("spiffe://{trust_domain}/");
                prop_assert!(id.starts_with(&prefix));
                prop_assert!(TrustDomain::parse(trust_domain).is_ok());
            }
        }
    }
}
