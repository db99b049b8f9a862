//! The authenticated caller. It is named, counted and listed as (issuer, client id).

use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use http::HeaderValue;

use super::identity::Identity;
use super::scope::ScopeSet;

/// The name of an issuer in the configuration. The gateway's own issuer is [`IssuerName::own`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct IssuerName(Arc<str>);

/// An authenticated caller. A client of an external issuer never equals a client of the gateway's own issuer, even if
/// both have the same name.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) issuer: IssuerName,
    /// Absent if an external issuer names no client.
    pub(crate) client: Option<Identity>,
    /// Absent if an external issuer names a client only.
    pub(crate) subject: Option<Identity>,
    pub(crate) scope: ScopeSet,
    /// `scope` as a header value. Empty if the set is empty.
    pub(crate) scope_header: HeaderValue,
    /// The issuer's `iss` as a header value. Each caller has its own copy.
    pub(crate) issuer_header: HeaderValue,
    /// (issuer, client), or (issuer, subject) if the issuer names no client. `per: client` counts by it.
    pub(crate) client_digest: Digest,
    /// (issuer, subject), or (issuer, client) if the issuer names no subject. `per: subject` counts by it.
    pub(crate) subject_digest: Digest,
}

/// A 128-bit digest used as a table key: cheap to store and compare, and collisions cannot be constructed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Digest(pub(crate) u128);

impl IssuerName {
    /// The built-in authorization server's name.
    pub(crate) const OWN: &'static str = "self";
    /// The name that stands for an issuer in the callers of static tokens: `static/NAME`.
    pub(crate) const STATIC: &'static str = "static";

    pub(crate) fn new(name: &str) -> Self {
        Self(name.into())
    }

    pub(crate) fn own() -> Self {
        Self(Self::OWN.into())
    }

    pub(crate) fn of_static() -> Self {
        Self(Self::STATIC.into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Caller {
    /// `None` without a client and a subject.
    pub(crate) fn new(
        issuer: IssuerName,
        iss: &Identity,
        client: Option<Identity>,
        subject: Option<Identity>,
        scope: ScopeSet,
    ) -> Option<Self> {
        // A scope set is printable ASCII, and an identity's header value is valid, so the fallbacks are never used.
        let empty = HeaderValue::from_static("");
        let scope_header = HeaderValue::try_from(scope.to_string()).unwrap_or_else(|_| empty.clone());
        let issuer_header = HeaderValue::from_bytes(iss.header().as_bytes()).unwrap_or(empty);
        let digest = |kind, name: &Option<Identity>| {
            name.as_ref().map(|name: &Identity| Digest::of(&[issuer.as_str(), kind, name.as_str()]))
        };
        let (by_client, by_subject) = (digest("client", &client), digest("subject", &subject));
        let client_digest = by_client.or(by_subject)?;
        let subject_digest = by_subject.or(by_client)?;
        Some(Self { issuer, client, subject, scope, scope_header, issuer_header, client_digest, subject_digest })
    }

    /// The same caller at one tenant of its issuer: one client id in two tenants is two callers.
    pub(crate) fn of_tenant(mut self, tenant: &str) -> Self {
        self.client_digest = self.client_digest.within(tenant);
        self.subject_digest = self.subject_digest.within(tenant);
        self
    }
}

impl Digest {
    /// Digest of the parts in order. Each part is prefixed with its length, so that different lists never give the same
    /// input.
    pub(crate) fn of(parts: &[&str]) -> Self {
        let mut context = Context::new(&SHA256);
        for part in parts {
            context.update(&part.len().to_le_bytes());
            context.update(part.as_bytes());
        }
        let mut half = [0; 16];
        half.copy_from_slice(&context.finish().as_ref()[..16]);
        Self(u128::from_le_bytes(half))
    }

    fn within(self, part: &str) -> Self {
        Self::of(&[part, &format!("{:032x}", self.0)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller<'n>(issuer: &str, client: Option<&str>, subject: impl Into<Option<&'n str>>) -> Caller {
        let identity = |text| Identity::parse(text).unwrap();
        Caller::new(
            IssuerName::new(issuer),
            &identity("https://i.example"),
            client.map(identity),
            subject.into().map(identity),
            ScopeSet::default(),
        )
        .unwrap()
    }

    #[test]
    fn the_same_client_name_at_two_issuers_is_two_callers() {
        assert_ne!(caller("self", Some("a"), "a").client_digest, caller("corp", Some("a"), "a").client_digest);
    }

    #[test]
    fn a_subject_never_counts_as_a_client_of_the_same_name() {
        assert_ne!(caller("corp", None, "a").client_digest, caller("corp", Some("a"), "b").client_digest);
    }

    #[test]
    fn a_caller_without_a_subject_counts_by_its_client() {
        let client = caller("corp", Some("a"), None);
        assert_eq!(client.subject_digest, client.client_digest);
        assert_ne!(client.subject_digest, caller("corp", Some("b"), "a").subject_digest);
        assert_ne!(client.subject_digest, caller("corp", Some("a"), "a").subject_digest);
    }

    #[test]
    fn a_caller_has_a_name() {
        let iss = Identity::parse("https://i.example").unwrap();
        assert!(Caller::new(IssuerName::new("corp"), &iss, None, None, ScopeSet::default()).is_none());
    }

    #[test]
    fn the_same_client_and_subject_in_two_tenants_are_two_callers() {
        let of = |tenant: Option<&str>| {
            let caller = caller("corp", Some("a"), "a");
            let caller = tenant.map_or(caller.clone(), |tenant| caller.of_tenant(tenant));
            [caller.client_digest, caller.subject_digest]
        };
        let digests = [of(None), of(Some("one")), of(Some("two"))].concat();
        for (place, digest) in digests.iter().enumerate() {
            assert!(!digests[..place].contains(digest), "{place}");
        }
        assert_eq!(of(Some("one")), of(Some("one")));
    }

    #[test]
    fn parts_do_not_run_together() {
        assert_ne!(Digest::of(&["ab", "c"]), Digest::of(&["a", "bc"]));
    }
}
