//! The tokens that a configured entry is for: those with its `iss`, those of its tenants, or those of a trust domain.
//!
//! Takes claims that are not verified. `iss` is compared as a whole, never by a pattern: of an issuer with tenants the
//! `iss` of each tenant is known. A trust domain is compared as a whole, too.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::jose::claims::Claims;
use crate::oauth::discrepancy::{Discrepancy, short, value_text};
use crate::oauth::identity::{Identity, InvalidIdentity};
use crate::oauth::spiffe_id::{SCHEME, SpiffeId, TrustDomain};

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum TokenOrigin {
    /// Tokens with the entry's `iss`.
    Issuer,
    /// Tokens with the `iss` of one of the tenants.
    Tenants(Tenants),
    /// JWT-SVIDs of a trust domain.
    Spiffe(SpiffeOrigin),
}

/// The JWT-SVIDs of workloads in one trust domain. They need no `iss`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SpiffeOrigin {
    pub(crate) domain: TrustDomain,
    /// The domain's own SPIFFE ID.
    pub(crate) id: Identity,
    /// The `iss` of its tokens that have one. `None`: any that no other entry has.
    pub(crate) issuer: Option<Identity>,
}

/// The tenants of one issuer, such as those of Entra ID.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tenants {
    /// By their `iss`.
    names: HashMap<Identity, Box<str>>,
    first: Identity,
}

/// Why a token belongs to no entry, with the values that were found and wanted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoEntry {
    MissingIssuer(Box<Discrepancy>),
    UnknownIssuer(Box<Discrepancy>),
    BadAudience(Box<Discrepancy>),
    Malformed(Box<Discrepancy>),
}

/// A tenant as a token names it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tenant<'t> {
    pub(crate) name: &'t str,
    pub(crate) issuer: &'t Identity,
}

/// An `iss` with `{tenant}` as one whole segment of its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TenantTemplate<'t> {
    before: &'t str,
    after: &'t str,
}

/// Stands for the name of a tenant.
pub(crate) const TENANT: &str = "{tenant}";
/// The claim of Entra ID that names the tenant once more.
const TENANT_CLAIM: &str = "tid";

impl Tenants {
    /// Each name is a [legal one](is_tenant). `None` if there is none.
    pub(crate) fn new(template: TenantTemplate<'_>, names: &[&str]) -> Result<Option<Self>, InvalidIdentity> {
        let issuers = names.iter().map(|name| Ok((template.issuer_of(name)?, Box::from(*name))));
        let issuers: Vec<(Identity, Box<str>)> = issuers.collect::<Result<_, InvalidIdentity>>()?;
        let first = issuers.first().map(|(issuer, _)| issuer.clone());
        Ok(first.map(|first| Self { names: issuers.into_iter().collect(), first }))
    }

    pub(super) fn first(&self) -> &Identity {
        &self.first
    }

    pub(super) fn of(&self, claims: &Claims) -> Option<Tenant<'_>> {
        self.find(claims.issuer.as_deref()?)
    }

    /// A token that names its tenant twice names the same one.
    pub(super) fn check(&self, claims: &Claims) -> Result<(), NoEntry> {
        let Some(tenant) = self.of(claims) else {
            return Err(NoEntry::UnknownIssuer(Box::new(Discrepancy::new("iss of no tenant", "iss of a tenant"))));
        };
        tenant.check(claims)
    }

    pub(super) fn find(&self, issuer: &str) -> Option<Tenant<'_>> {
        self.names.get_key_value(issuer).map(|(issuer, name)| Tenant { name, issuer })
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.values().map(|name| &**name)
    }

    pub(crate) fn issuers(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(Identity::as_str)
    }
}

impl SpiffeOrigin {
    /// The tokens whose `iss` is `issuer`, and those without `iss`.
    pub(crate) fn new(domain: TrustDomain, issuer: Option<Identity>) -> Result<Self, InvalidIdentity> {
        Ok(Self { id: Identity::parse(&format!("{SCHEME}{}", domain.as_str()))?, domain, issuer })
    }

    /// The subject is a workload of this trust domain.
    pub(super) fn check(&self, claims: &Claims) -> Result<(), NoEntry> {
        let subject = subject(&claims.all);
        if subject.and_then(|subject| SpiffeId::parse(subject).ok()).is_some_and(|id| self.has(id)) {
            return Ok(());
        }
        let found = subject.map_or_else(|| "no sub".to_owned(), |subject| format!("sub={}", short(subject)));
        let values = Discrepancy::new(found, format!("sub={}/…", self.id));
        Err(NoEntry::UnknownIssuer(Box::new(values)))
    }

    pub(super) fn has(&self, id: SpiffeId<'_>) -> bool {
        self.domain.as_str() == id.trust_domain
    }
}

pub(super) fn subject(claims: &Map<String, Value>) -> Option<&str> {
    claims.get("sub")?.as_str()
}

impl Tenant<'_> {
    fn check(&self, claims: &Claims) -> Result<(), NoEntry> {
        let values = |found: &Value| {
            let found = format!("{TENANT_CLAIM}={}", value_text(found));
            Box::new(Discrepancy::new(found, format!("{TENANT_CLAIM}={}, as in iss", self.name)))
        };
        match claims.all.get(TENANT_CLAIM) {
            None | Some(Value::Null) => Ok(()),
            Some(Value::String(name)) if name == self.name => Ok(()),
            Some(other @ Value::String(_)) => Err(NoEntry::UnknownIssuer(values(other))),
            Some(other) => Err(NoEntry::Malformed(values(other))),
        }
    }
}

impl<'t> TenantTemplate<'t> {
    /// `None` unless the text is a URL that has `{tenant}` once, as a whole segment of its path.
    pub(crate) fn parse(text: &'t str) -> Option<Self> {
        let (before, after) = text.split_once(TENANT)?;
        let (_, authority_and_path) = before.split_once("://")?;
        let is_plain = |part: &str| !part.contains(['{', '}', '*', '?', '#']);
        let begins_segment = authority_and_path.find('/').is_some_and(|at| at > 0) && before.ends_with('/');
        let ends_segment = after.is_empty() || after.starts_with('/');
        (begins_segment && ends_segment && is_plain(before) && is_plain(after)).then_some(Self { before, after })
    }

    pub(super) fn issuer_of(&self, tenant: &str) -> Result<Identity, InvalidIdentity> {
        Identity::parse(&format!("{}{tenant}{}", self.before, self.after))
    }
}

impl TenantTemplate<'_> {
    /// The segment of this issuer at the place of the tenant.
    pub(super) fn segment_of<'i>(&self, issuer: &'i str) -> Option<&'i str> {
        issuer.split('/').nth(self.tenant_at())
    }

    /// The template with which this would be the issuer of the tenant in it.
    pub(super) fn written_for(&self, issuer: &str) -> String {
        let segments = issuer.split('/').enumerate();
        let written: Vec<&str> =
            segments.map(|(at, segment)| if at == self.tenant_at() { TENANT } else { segment }).collect();
        written.join("/")
    }

    /// The place of the tenant among the segments.
    fn tenant_at(&self) -> usize {
        self.before.matches('/').count()
    }
}

/// Whether this may be the name of a tenant: letters, digits, `-`, `.` and `_`, and no dot segment.
pub(crate) fn is_tenant(name: &str) -> bool {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    !name.is_empty() && name.bytes().all(is_legal) && !matches!(name, "." | "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRA: &str = "https://login.microsoftonline.com/{tenant}/v2.0";

    fn tenants() -> Tenants {
        Tenants::new(TenantTemplate::parse(ENTRA).unwrap(), &["b", "a"]).unwrap().unwrap()
    }

    #[test]
    fn a_template_has_the_tenant_once_as_a_whole_segment() {
        for good in [ENTRA, "https://sts.windows.net/{tenant}/", "https://x/{tenant}", "https://x/a/{tenant}"] {
            assert!(TenantTemplate::parse(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "https://x/",
            "{tenant}",
            "{tenant}/x",
            "https://{tenant}/x",
            "https:///{tenant}/x",
            "https://{tenant}.x/y",
            "https://x/{tenant}/{tenant}",
            "https://x/{tenant}/{other}",
            "https://x/{other}/{tenant}",
            "https://x/{tenant}/*",
            "https://x/a{tenant}",
            "https://x/{tenant}a",
            "https://x/{tenant}?a",
            "https://x/?a=/{tenant}",
            "https://x/#/{tenant}",
            "https://x/{TENANT}",
        ] {
            assert!(TenantTemplate::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn only_the_whole_issuer_of_a_listed_tenant_is_found() {
        let tenants = tenants();
        assert_eq!(tenants.first.as_str(), "https://login.microsoftonline.com/b/v2.0");
        let found = |issuer: &str| tenants.find(issuer).map(|tenant| tenant.name);
        assert_eq!(found("https://login.microsoftonline.com/a/v2.0"), Some("a"));
        for bad in [
            "",
            ENTRA,
            "https://login.microsoftonline.com/c/v2.0",
            "https://login.microsoftonline.com/A/v2.0",
            "https://login.microsoftonline.com//v2.0",
            "https://login.microsoftonline.com/a/v2.0/",
            "https://login.microsoftonline.com/a/b/v2.0",
            "https://login.microsoftonline.com/c/../a/v2.0",
            "https://login.microsoftonline.com/a%2fb/v2.0",
            "http://login.microsoftonline.com/a/v2.0",
            "https://evil.example/https://login.microsoftonline.com/a/v2.0",
        ] {
            assert_eq!(found(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_tenant_that_is_named_twice_is_the_same_one() {
        let tenants = tenants();
        let check = |tid: &str| {
            let text = format!(r#"{{"iss":"i","sub":"s","aud":"a","exp":2000000000{tid}}}"#);
            let claims = Claims::parse(text.as_bytes()).unwrap();
            tenants.find("https://login.microsoftonline.com/a/v2.0").unwrap().check(&claims)
        };
        for good in ["", r#","tid":"a""#, r#","tid":null"#] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in ["b", "A", "", "a "] {
            let checked = check(&format!(r#","tid":"{bad}""#));
            assert!(matches!(checked, Err(NoEntry::UnknownIssuer(_))), "{bad}");
        }
        for bad in ["7", r#"["a"]"#, "{}", "true"] {
            assert!(matches!(check(&format!(r#","tid":{bad}"#)), Err(NoEntry::Malformed(_))), "{bad}");
        }
    }

    #[test]
    fn names_of_tenants_need_no_encoding_in_a_path() {
        for good in ["9188040d-6c67-4c5b-b112-36a304b66dad", "contoso.onmicrosoft.com", "a_b", "A"] {
            assert!(is_tenant(good), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "*", "{tenant}", "a%2f", "ü", "a?"] {
            assert!(!is_tenant(bad), "{bad}");
        }
    }
}
