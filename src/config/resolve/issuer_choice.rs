//! `issuer`, `tenants` and `token_header` of an issuer: which tokens are its own, and in which field they come.

use std::collections::{HashMap, HashSet};

use http::HeaderName;
use http::header::AUTHORIZATION;

use super::super::decode::OneOrMore;
use super::super::source::At;
use super::Resolver;
use crate::oauth::identity::Identity;
use crate::pipeline::request::headers::is_protected;
use crate::trust::token_origin::{TENANT, TenantTemplate, Tenants, TokenOrigin, is_tenant};

/// Which tokens an entry is for, as it is written: for the comparison with other entries.
#[derive(Debug)]
pub(super) struct EntryClaim {
    name: String,
    issuer: At<String>,
    /// Every `iss` of its tokens.
    issuers: Vec<String>,
    audiences: Vec<At<String>>,
}

impl EntryClaim {
    pub(super) fn new(name: &At<String>, issuer: At<String>, origin: &TokenOrigin, audiences: Vec<At<String>>) -> Self {
        let issuers = match origin {
            TokenOrigin::Issuer => vec![issuer.value.clone()],
            TokenOrigin::Tenants(tenants) => tenants.issuers().map(str::to_owned).collect(),
        };
        Self { name: name.value.clone(), issuer, issuers, audiences }
    }
}

impl Resolver<'_> {
    /// The name of the issuer, and the tokens that it is for.
    pub(super) fn token_origin(
        &mut self,
        issuer: &At<String>,
        tenants: Option<&At<OneOrMore<String>>>,
    ) -> Option<(Identity, TokenOrigin)> {
        let Ok(name) = Identity::parse(&issuer.value) else {
            self.faults.at(issuer.span, "an issuer is 1 to 1024 bytes without control characters");
            return None;
        };
        let Some(tenants) = tenants else {
            if issuer.value.contains(TENANT) {
                self.faults
                    .at(issuer.span, format!("`{TENANT}` stands for the names under `tenants`: list them there"));
            } else {
                self.must_be_literal(issuer, "`iss` is compared exactly");
            }
            return Some((name, TokenOrigin::Issuer));
        };
        let Some(template) = TenantTemplate::parse(&issuer.value) else {
            let message = format!(
                "with `tenants` the issuer is a URL that has `{TENANT}` once, as a whole segment of its path, such as \
                 `https://login.microsoftonline.com/{TENANT}/v2.0`"
            );
            self.faults.at(issuer.span, message);
            return None;
        };
        let names = self.tenants(&tenants.value);
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
    pub(super) fn check_shared_issuers(&mut self, entries: &[EntryClaim], own: Option<&str>) {
        let mut known: HashMap<&str, Vec<usize>> = HashMap::new();
        for (place, entry) in entries.iter().enumerate() {
            if own.is_some_and(|own| entry.issuers.iter().any(|issuer| issuer == own)) {
                self.faults.at(entry.issuer.span, "this is our own issuer, which is trusted as `self`: remove it");
            }
            let mut earlier: Vec<usize> =
                entry.issuers.iter().filter_map(|issuer| known.get(issuer.as_str())).flatten().copied().collect();
            earlier.sort_unstable();
            earlier.dedup();
            for earlier in earlier {
                self.check_disjoint(&entries[earlier], entry);
            }
            for issuer in &entry.issuers {
                known.entry(issuer).or_default().push(place);
            }
        }
    }

    fn check_disjoint(&mut self, first: &EntryClaim, second: &EntryClaim) {
        let line = self.source.line(first.issuer.span);
        let name = &first.name;
        if first.issuer.value != second.issuer.value {
            let message = format!(
                "issuer `{name}` (line {line}) has the same `iss` in another form: write both in the same way, so that a \
                 revocation for one counts for both"
            );
            self.faults.at(second.issuer.span, message);
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
