//! `issuers`: the external issuers whose tokens are accepted.

use std::collections::HashMap;
use std::time::Duration;

use super::super::decode::{Named, OneOrMore};
use super::super::raw::issuer::RawIssuer;
use super::super::source::At;
use super::super::types::{ExternalIssuer, Oauth};
use super::{Resolved, Resolver};
use crate::jose::algorithm::Algorithm;
use crate::oauth::caller::IssuerName;
use crate::oauth::identity::Identity;
use crate::trust::issuer::{IssuerSettings, Profile, TokenTypes};

const MAX_SKEW: Duration = Duration::from_secs(120);

impl Resolver<'_> {
    pub(super) fn issuers(&mut self, raw: Named<RawIssuer>, oauth: Option<&Resolved<Oauth>>) -> Vec<ExternalIssuer> {
        let mut seen: HashMap<String, Option<usize>> = HashMap::new();
        if let Some(Ok(oauth)) = oauth {
            seen.insert(oauth.server.endpoints.issuer.clone(), None);
        }
        let mut issuers = Vec::new();
        for (name, issuer) in raw.entries {
            self.issuer_name(&name);
            let Ok(issuer) = issuer else { continue };
            if let Ok(iss) = &issuer.value.issuer {
                let line = self.source.line(iss.span);
                match seen.insert(iss.value.clone(), Some(line)) {
                    Some(Some(first)) => {
                        self.faults.at(iss.span, format!("this issuer is listed twice, first at line {first}"));
                    }
                    Some(None) => {
                        self.faults.at(iss.span, "this is our own issuer, which is trusted as `self`: remove it");
                    }
                    None => {}
                }
            }
            issuers.extend(self.issuer(&name, issuer.value));
        }
        issuers
    }

    fn issuer_name(&mut self, name: &At<String>) {
        if name.value == IssuerName::OWN {
            self.faults.at(name.span, "`self` is the name of our own issuer: choose another");
        } else if name.value.contains(['/', '"', '\\']) || name.value.chars().any(char::is_control) {
            self.faults.at(name.span, "expected a name without `/`, quotes and control characters");
        }
    }

    fn issuer(&mut self, name: &At<String>, raw: RawIssuer) -> Option<ExternalIssuer> {
        let algorithms = raw.algorithms.as_ref();
        let algorithms = algorithms.map_or_else(|| Algorithm::DEFAULT.to_vec(), |list| self.algorithms(&list.value));
        let source = self.key_source(name, &raw, &algorithms);
        let audiences = self.audiences(raw.audiences, raw.audience_claim.as_ref());
        let subject_claims = self.subject_claims(raw.subject_claim.as_ref());
        let scope_claim = self.scope_claim(&raw.scope_claim.value);
        let allow_scopes = raw.allow_scopes.map(|list| self.scopes(&list.value));
        let types = raw.types.map_or_else(default_types, |list| types(&list.value));
        if raw.clock_skew.value > MAX_SKEW {
            let got = self.got(&raw.clock_skew);
            self.faults.at(raw.clock_skew.span, format!("expected a clock skew of at most `120s`{got}"));
        }
        let issuer = raw.issuer.ok()?;
        let Ok(iss) = Identity::parse(&issuer.value) else {
            self.faults.at(issuer.span, "an issuer is 1 to 1024 bytes without control characters");
            return None;
        };
        let settings = IssuerSettings {
            name: IssuerName::new(&name.value),
            issuer: iss,
            subject_claims,
            audiences: audiences.ok()?,
            algorithms,
            types,
            clock_skew: raw.clock_skew.value,
            scope_claim,
            allow_scopes,
            profile: Profile::External,
        };
        let (source, watch) = source?;
        Some(ExternalIssuer { settings, source, watch })
    }

    fn algorithms(&mut self, list: &OneOrMore<String>) -> Vec<Algorithm> {
        let mut algorithms = Vec::new();
        for algorithm in list.items.iter().filter_map(|name| self.algorithm(name)) {
            // `EdDSA` and `Ed25519` are one.
            if !algorithms.contains(&algorithm) {
                algorithms.push(algorithm);
            }
        }
        algorithms
    }
}

fn default_types() -> TokenTypes {
    TokenTypes { named: vec!["at+jwt".to_owned(), "jwt".to_owned()], absent: true }
}

fn types(list: &OneOrMore<String>) -> TokenTypes {
    let names = list.items.iter().map(|name| name.value.to_ascii_lowercase());
    let (absent, named): (Vec<_>, Vec<_>) = names.partition(|name| name == "absent");
    let short = |name: String| name.strip_prefix("application/").map_or(name.clone(), str::to_owned);
    TokenTypes { named: named.into_iter().map(short).collect(), absent: !absent.is_empty() }
}
