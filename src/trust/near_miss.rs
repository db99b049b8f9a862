//! What is wrong about an `iss` that no entry has: it differs little from that of an entry, or it is of a tenant that is
//! not listed.
//!
//! For the operator only: issuers are compared exactly, and a near miss is refused like any other.

use super::issuer::IssuerSettings;
use super::token_origin::{TenantTemplate, TokenOrigin, is_tenant};
use crate::oauth::discrepancy::{Discrepancy, one_of, short};

/// The values for a token with this `iss`. `known` are all entries. A near miss is named: it is the most frequent
/// mistake in a configuration.
pub(super) fn unknown_issuer<'s>(iss: &str, known: impl Iterator<Item = &'s IssuerSettings> + Clone) -> Discrepancy {
    let found = format!("iss={}", short(iss));
    if let Some(tenant) = known.clone().find_map(|settings| Some((settings, unlisted_tenant(iss, settings)?))) {
        let (settings, tenant) = tenant;
        let (name, template) = (settings.name.as_str(), settings.issuer.as_str());
        let found = format!("{found}, whose tenant {} is not listed by issuer `{name}`", short(tenant));
        return Discrepancy::new(found, format!("iss={template} with a tenant of issuers.{name}.tenants"));
    }
    if let Some((settings, near)) = known.clone().find_map(|settings| Some((settings, near_miss(iss, settings)?))) {
        let (name, NearMiss { difference, wanted, .. }) = (settings.name.as_str(), near);
        return Discrepancy::new(
            format!("{found}, which differs by {difference} from issuer `{name}`"),
            format!("iss={wanted}"),
        );
    }
    Discrepancy::new(found, one_of("issuer", known.map(|settings| settings.name.as_str())))
}

/// The tenant of this `iss`, if the entry is for other tenants of the same issuer.
pub(crate) fn unlisted_tenant<'i>(iss: &'i str, settings: &IssuerSettings) -> Option<&'i str> {
    match settings.origin {
        TokenOrigin::Issuer | TokenOrigin::Spiffe(_) => None,
        TokenOrigin::Tenants(_) => {
            let template = TenantTemplate::parse(settings.issuer.as_str())?;
            let tenant = template.segment_of(iss).filter(|tenant| is_tenant(tenant))?;
            (template.issuer_of(tenant).ok()?.as_str() == iss).then_some(tenant)
        }
    }
}

/// An entry with a similar `iss`.
pub(crate) struct NearMiss {
    pub(crate) difference: String,
    /// The `iss` that it has.
    pub(crate) wanted: String,
    /// The `issuer` with which it would have the other `iss`.
    pub(crate) written: String,
}

/// `None` if the entry has no issuer that is similar to this one.
pub(crate) fn near_miss(iss: &str, settings: &IssuerSettings) -> Option<NearMiss> {
    let same = || iss.to_owned();
    let (wanted, written) = match &settings.origin {
        TokenOrigin::Issuer => (settings.issuer.as_str().to_owned(), same()),
        TokenOrigin::Spiffe(spiffe) => (spiffe.issuer.as_ref()?.as_str().to_owned(), same()),
        TokenOrigin::Tenants(_) => {
            let template = TenantTemplate::parse(settings.issuer.as_str())?;
            let tenant = template.segment_of(iss).filter(|tenant| is_tenant(tenant))?;
            (template.issuer_of(tenant).ok()?.as_str().to_owned(), template.written_for(iss))
        }
    };
    Some(NearMiss { difference: difference(iss, &wanted)?, wanted, written })
}

/// The difference, such as `a trailing slash`, if everything else is equal. `None` for different issuers.
fn difference(found: &str, known: &str) -> Option<String> {
    let (found, known) = (Parts::of(found), Parts::of(known));
    let same_host = found.host.eq_ignore_ascii_case(known.host) && !found.host.is_empty();
    if !same_host || !found.path.eq_ignore_ascii_case(known.path) {
        return None;
    }
    let differences: Vec<&str> = [
        ("the scheme", !found.scheme.eq_ignore_ascii_case(known.scheme)),
        ("the port", found.port != known.port),
        ("letter case", differ_in_case(&found, &known)),
        ("a trailing slash", found.slashes != known.slashes),
        ("white space", found.has_space != known.has_space),
    ]
    .into_iter()
    .filter_map(|(name, differs)| differs.then_some(name))
    .collect();
    (!differences.is_empty()).then(|| differences.join(" and "))
}

fn differ_in_case(found: &Parts<'_>, known: &Parts<'_>) -> bool {
    let differs = |found: &str, known: &str| found != known && found.eq_ignore_ascii_case(known);
    [(found.scheme, known.scheme), (found.host, known.host), (found.path, known.path)]
        .into_iter()
        .any(|(found, known)| differs(found, known))
}

/// An issuer that is no URL is all host.
struct Parts<'t> {
    scheme: &'t str,
    host: &'t str,
    port: Option<&'t str>,
    /// Without slashes at its end.
    path: &'t str,
    slashes: usize,
    has_space: bool,
}

impl<'t> Parts<'t> {
    fn of(text: &'t str) -> Self {
        let trimmed = text.trim();
        let (scheme, rest) = trimmed.split_once("://").unwrap_or(("", trimmed));
        let without_slashes = rest.trim_end_matches('/');
        let (authority, path) = match without_slashes.find('/') {
            Some(at) => without_slashes.split_at(at),
            None => (without_slashes, ""),
        };
        let is_port = |port: &str| !scheme.is_empty() && !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        let (host, port) = match authority.rsplit_once(':').filter(|(_, port)| is_port(port)) {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        };
        let slashes = rest.len() - without_slashes.len();
        Self { scheme, host, port, path, slashes, has_space: trimmed.len() != text.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KNOWN: &str = "https://acme.example.com/oauth2/default";

    #[test]
    fn a_near_miss_is_named_by_its_difference() {
        for (found, expected) in [
            ("https://acme.example.com/oauth2/default/", "a trailing slash"),
            ("http://acme.example.com/oauth2/default", "the scheme"),
            ("acme.example.com/oauth2/default", "the scheme"),
            ("https://acme.example.com:443/oauth2/default", "the port"),
            ("https://acme.example.com:8443/oauth2/default", "the port"),
            ("https://Acme.example.com/oauth2/default", "letter case"),
            ("HTTPS://acme.example.com/oauth2/default", "letter case"),
            ("https://acme.example.com/OAuth2/default", "letter case"),
            ("http://acme.example.com/oauth2/default/", "the scheme and a trailing slash"),
            (" https://acme.example.com/oauth2/default", "white space"),
        ] {
            assert_eq!(difference(found, KNOWN).as_deref(), Some(expected), "{found}");
            assert_eq!(difference(KNOWN, found).as_deref(), Some(expected), "{found}");
        }
        assert_eq!(difference("Corp", "corp").as_deref(), Some("letter case"));
        assert_eq!(difference("urn:corp:a/", "urn:corp:a").as_deref(), Some("a trailing slash"));
    }

    #[test]
    fn another_issuer_is_no_near_miss() {
        for found in [
            KNOWN,
            "",
            "/",
            "https://",
            "https://acme.example.com",
            "https://acme.example.com/oauth2",
            "https://acme.example.com.evil.example/oauth2/default",
            "https://evil.example/oauth2/default",
            "https://acme.example.com@evil.example/oauth2/default",
        ] {
            assert_eq!(difference(found, KNOWN), None, "{found}");
        }
        assert_eq!(difference("urn:corp:1", "urn:corp:2"), None);
    }

    proptest! {
        #[test]
        fn it_is_symmetric_and_an_issuer_is_no_near_miss_of_itself(
            one in "[hH]ttps?://[aA]b?(:[12])?/?[xX]?/?", other in "[hH]ttps?://[aA]b?(:[12])?/?[xX]?/?",
        ) {
            prop_assert_eq!(difference(&one, &other), difference(&other, &one));
            prop_assert_eq!(difference(&one, &one), None);
        }

        #[test]
        fn no_text_makes_it_panic(one in any::<String>(), other in any::<String>()) {
            let _ = difference(&one, &other);
        }
    }
}
