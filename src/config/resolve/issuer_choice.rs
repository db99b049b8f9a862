//! `issuer`, `tenants`, `spiffe` and `token_header`: the tokens that belong to an entry of `issuers`, and the header field
//! that has them. Of several entries, no token may belong to two.

use std::collections::{HashMap, HashSet};

use http::HeaderName;
use http::header::AUTHORIZATION;

use super::super::decode::OneOrMore;
use super::super::raw::issuer::{RawAudiences, RawIssuer, RawSpiffe};
use super::super::source::{At, Span};
use super::Resolver;
use super::federation::FederatedIssuers;
use crate::oauth::caller::IssuerName;
use crate::oauth::identity::Identity;
use crate::oauth::spiffe_id::TrustDomain;
use crate::pipeline::request::headers::is_protected;
use crate::trust::token_origin::{SpiffeOrigin, TENANT, TenantTemplate, Tenants, TokenOrigin, is_tenant};

/// The tokens that belong to an entry, as the file has them, for the comparison with other entries.
#[derive(Debug)]
pub(super) struct EntryTokens {
    name: String,
    issuer: Option<At<String>>,
    /// Every `iss` of its tokens.
    issuers: Vec<String>,
    trust_domain: Option<At<String>>,
    audiences: Vec<At<String>>,
    /// The place of `audiences: unlimited`.
    unlimited: Option<Span>,
    /// Without `audiences`.
    is_federation_only: bool,
}

impl EntryTokens {
    pub(super) fn new(name: &At<String>, raw: &RawIssuer, origin: &TokenOrigin) -> Self {
        let issuer = raw.issuer.as_ref().and_then(|issuer| issuer.as_ref().ok()).cloned();
        let issuers = match origin {
            TokenOrigin::Issuer | TokenOrigin::Spiffe(_) => issuer.iter().map(|issuer| issuer.value.clone()).collect(),
            TokenOrigin::Tenants(tenants) => tenants.issuers().map(str::to_owned).collect(),
        };
        let trust_domain = raw.spiffe.as_ref().and_then(|spiffe| spiffe.value.trust_domain.as_ref().ok()).cloned();
        let (audiences, unlimited) = match &raw.audiences {
            Some(Ok(At { value: RawAudiences::Listed(list), .. })) => (list.items.clone(), None),
            Some(Ok(At { value: RawAudiences::Unlimited, span })) => (Vec::new(), Some(*span)),
            Some(Err(_)) | None => (Vec::new(), None),
        };
        let is_federation_only = raw.audiences.is_none();
        Self { name: name.value.clone(), issuer, issuers, trust_domain, audiences, unlimited, is_federation_only }
    }
}

impl Resolver<'_> {
    /// The identity of the issuer, and the tokens that belong to its entry. `None` if there is a fault.
    pub(super) fn token_origin(&mut self, raw: &RawIssuer, entry: Span) -> Option<(Identity, TokenOrigin)> {
        if let Some(spiffe) = &raw.spiffe {
            return self.spiffe(raw, &spiffe.value);
        }
        let Some(issuer) = &raw.issuer else {
            self.faults.at(entry, "missing key `issuer`");
            return None;
        };
        let issuer = issuer.as_ref().ok()?;
        match &raw.tenants {
            Some(tenants) => self.issuer_with_tenants(issuer, tenants),
            None => Some((self.exact_issuer(issuer)?, TokenOrigin::Issuer)),
        }
    }

    fn spiffe(&mut self, raw: &RawIssuer, spiffe: &RawSpiffe) -> Option<(Identity, TokenOrigin)> {
        if let Some(tenants) = &raw.tenants {
            self.faults.at(tenants.span, "a trust domain has no tenants: remove this");
        }
        let issuer = match &raw.issuer {
            Some(issuer) => Some(self.exact_issuer(issuer.as_ref().ok()?)?),
            None => None,
        };
        let written = spiffe.trust_domain.as_ref().ok()?;
        let domain = match TrustDomain::parse(&written.value) {
            Ok(domain) => domain,
            Err(fault) => {
                let got = self.got(written);
                self.faults.at(written.span, format!("{fault}{got}"));
                return None;
            }
        };
        let origin = SpiffeOrigin::new(domain, issuer.clone()).ok()?;
        Some((issuer.unwrap_or_else(|| origin.id.clone()), TokenOrigin::Spiffe(origin)))
    }

    fn exact_issuer(&mut self, issuer: &At<String>) -> Option<Identity> {
        let name = Identity::parse(&issuer.value).ok();
        if issuer.value == IssuerName::STATIC {
            self.faults
                .at(issuer.span, "upstreams see `static` as the issuer of static tokens: no issuer has this name");
        } else if name.is_none() {
            self.faults.at(issuer.span, "an issuer is 1 to 1024 bytes without control characters");
        } else if issuer.value.contains(TENANT) {
            self.faults.at(issuer.span, format!("`{TENANT}` stands for the names under `tenants`: list them there"));
        } else {
            self.must_be_literal(issuer, "`iss` is compared exactly");
        }
        name
    }

    fn issuer_with_tenants(
        &mut self,
        issuer: &At<String>,
        tenants: &At<OneOrMore<String>>,
    ) -> Option<(Identity, TokenOrigin)> {
        let names = self.tenants(&tenants.value);
        let (Ok(name), Some(template)) = (Identity::parse(&issuer.value), TenantTemplate::parse(&issuer.value)) else {
            let message = format!(
                "with `tenants` the issuer is a URL that has `{TENANT}` once, as a whole segment of its path, such as \
                 `https://login.microsoftonline.com/{TENANT}/v2.0`"
            );
            self.faults.at(issuer.span, message);
            return None;
        };
        match Tenants::new(template, &names) {
            Ok(known) => known.map(|known| (name, TokenOrigin::Tenants(known))),
            Err(_) => {
                self.faults.at(issuer.span, "with a tenant in it, the issuer has more than 1024 bytes");
                None
            }
        }
    }

    fn tenants<'t>(&mut self, list: &'t OneOrMore<String>) -> Vec<&'t str> {
        let mut names = Vec::new();
        for name in &list.items {
            if !is_tenant(&name.value) {
                let got = self.got(name);
                let message = "expected the name of one tenant, of letters, digits, `-`, `.` and `_`: tenants are listed \
                               one by one, and there is no name for all";
                self.faults.at(name.span, format!("{message}{got}"));
            } else if names.contains(&name.value.as_str()) {
                self.faults.at(name.span, "this tenant is listed twice");
            } else {
                names.push(&name.value);
            }
        }
        names
    }

    /// Reports a text that looks like a pattern where texts are compared as they are written.
    pub(super) fn must_be_literal(&mut self, text: &At<String>, reason: &str) {
        let Some(found) = ["*", "{", "}"].into_iter().find(|found| text.value.contains(found)) else { return };
        let found = if found == "*" { "`*` has" } else { "`{…}` has" };
        self.faults.at(text.span, format!("{found} no meaning here: {reason}"));
    }

    /// `None` if it is `Authorization`, or there is a fault.
    pub(super) fn token_field(&mut self, name: &At<String>) -> Option<HeaderName> {
        let header = self.any_header_name(name)?;
        if header == AUTHORIZATION {
            return None;
        }
        let quoted = self.quoted(name);
        let is_plain = header.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if !is_plain {
            let message = "a field for tokens is made of letters, digits and `-`, because services read other characters \
                           as `-`";
            self.faults.at(name.span, message);
        } else if is_protected(&header) {
            self.faults
                .at(name.span, format!("the header{quoted} is managed by the gateway: tokens cannot come in it"));
        } else if has_other_use(header.as_str()) {
            let message =
                format!("the header{quoted} has another use, and a field for tokens is removed from requests");
            self.faults.at(name.span, message);
        } else {
            if !self.token_fields.contains(&header) {
                self.token_fields.push(header.clone());
            }
            return Some(header);
        }
        None
    }

    /// Of several entries for one `iss`, each token must belong to one only.
    pub(super) fn check_shared_issuers(
        &mut self,
        entries: &[EntryTokens],
        own: Option<&str>,
        federated: &FederatedIssuers,
    ) {
        let (mut known, mut domains): (HashMap<&str, Vec<usize>>, HashMap<&str, Span>) = Default::default();
        for (place, entry) in entries.iter().enumerate() {
            if let (Some(issuer), Some(own)) = (&entry.issuer, own)
                && entry.issuers.iter().any(|issuer| issuer == own)
            {
                self.faults.at(issuer.span, "this is our own issuer, which is trusted as `self`: remove it");
            }
            if let Some(domain) = &entry.trust_domain
                && let Some(first) = domains.insert(&domain.value, domain.span)
            {
                let line = self.source.line(first);
                self.faults.at(domain.span, format!("this trust domain is listed twice, first at line {line}"));
            }
            let mut earlier: Vec<usize> =
                entry.issuers.iter().filter_map(|issuer| known.get(issuer.as_str())).flatten().copied().collect();
            earlier.sort_unstable();
            earlier.dedup();
            for earlier in earlier {
                self.check_disjoint(&entries[earlier], entry, federated);
            }
            for issuer in &entry.issuers {
                known.entry(issuer).or_default().push(place);
            }
        }
    }

    fn check_disjoint(&mut self, first: &EntryTokens, second: &EntryTokens, federated: &FederatedIssuers) {
        let (Some(issuer), Some(other), name) = (&first.issuer, &second.issuer, &first.name) else { return };
        let line = self.source.line(issuer.span);
        if issuer.value != other.value {
            let message = format!(
                "issuer `{name}` (line {line}) has the same `iss` in another form: write both in the same way, so that a \
                 revocation for one counts for both"
            );
            self.faults.at(other.span, message);
            return;
        }
        if first.is_federation_only || second.is_federation_only {
            let message = format!(
                "issuer `{name}` (line {line}) has the same `iss`, and one of the two has no `audiences`: write one entry \
                 for both uses, with `audiences`"
            );
            self.faults.at(other.span, message);
            return;
        }
        if federated.is_named(&first.name) && federated.is_named(&second.name) {
            let message = format!(
                "issuer `{name}` (line {line}) has the same `iss`, and `federation` names both: the audience of a \
                 credential is ours, so that it could belong to both and would be refused; name one of them only"
            );
            self.faults.at(other.span, message);
        }
        if let Some(unlimited) = second.unlimited.or(first.unlimited) {
            let message = format!(
                "issuer `{name}` (line {line}) has the same `iss`, so with `unlimited` a token for any audience would belong \
                 to both: list the audiences of each entry"
            );
            self.faults.at(unlimited, message);
            return;
        }
        let taken: HashSet<&str> = first.audiences.iter().map(|audience| audience.value.as_str()).collect();
        for audience in second.audiences.iter().filter(|audience| taken.contains(audience.value.as_str())) {
            let quoted = self.quoted(audience);
            let message = format!(
                "issuer `{name}` (line {line}) has the same `iss` and the audience{quoted} too, so a token for it would \
                 belong to both: name each audience of an `iss` in one entry only"
            );
            self.faults.at(audience.span, message);
        }
    }
}

/// Fields with a meaning of their own in HTTP, browsers, gRPC or tracing.
fn has_other_use(name: &str) -> bool {
    const PREFIXES: [&str; 6] = ["accept", "access-control-", "content-", "grpc-", "if-", "sec-"];
    const NAMES: [&str; 20] = [
        "alt-svc",
        "baggage",
        "cache-control",
        "cookie",
        "cookie2",
        "date",
        "dpop",
        "from",
        "max-forwards",
        "origin",
        "pragma",
        "priority",
        "range",
        "referer",
        "set-cookie",
        "traceparent",
        "tracestate",
        "user-agent",
        "warning",
        "www-authenticate",
    ];
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}
