//! `issuers`: the external issuers whose tokens are accepted.

use std::path::PathBuf;
use std::time::Duration;

use super::super::decode::{Named, OneOrMore};
use super::super::raw::issuer::RawIssuer;
use super::super::raw::oauth::RawOauth;
use super::super::source::At;
use super::super::types::{ExternalIssuer, Oauth};
use super::federation::FederatedIssuers;
use super::issuer_choice::EntryTokens;
use super::{Resolved, Resolver};
use crate::jose::algorithm::Algorithm;
use crate::oauth::caller::IssuerName;
use crate::trust::issuer::{IssuerSettings, Profile, TokenTypes};

const MAX_SKEW: Duration = Duration::from_secs(120);

impl Resolver<'_> {
    /// Our own issuer and the external ones, which refer to each other. `known` are the names of all.
    pub(super) fn token_issuers(
        &mut self,
        (oauth, state): (Option<At<RawOauth>>, &At<PathBuf>),
        issuers: Named<RawIssuer>,
        (known, takes_certificates): (&[String], bool),
    ) -> (Option<Resolved<Oauth>>, Vec<ExternalIssuer>) {
        let federated = FederatedIssuers::of(&issuers, oauth.as_ref().map(|oauth| &oauth.value));
        let callers = (known, &federated, takes_certificates);
        let oauth = oauth.map(|oauth| self.oauth(oauth.value, state, callers));
        self.issuer_uses(&issuers, &federated);
        let issuers = self.issuers(issuers, oauth.as_ref(), &federated);
        (oauth, issuers)
    }

    pub(super) fn issuers(
        &mut self,
        raw: Named<RawIssuer>,
        oauth: Option<&Resolved<Oauth>>,
        federated: &FederatedIssuers,
    ) -> Vec<ExternalIssuer> {
        let own = oauth.and_then(|oauth| oauth.as_ref().ok()).map(|oauth| oauth.server.endpoints.issuer.as_str());
        let (mut issuers, mut entries) = (Vec::new(), Vec::new());
        for (name, issuer) in raw.entries {
            self.issuer_name(&name);
            let Ok(issuer) = issuer else { continue };
            issuers.extend(self.issuer(&name, issuer, &mut entries));
        }
        self.check_shared_issuers(&entries, own, federated);
        issuers
    }

    fn issuer_name(&mut self, name: &At<String>) {
        if name.value == IssuerName::OWN {
            self.faults.at(name.span, "`self` is the name of our own issuer: choose another");
        } else if name.value == IssuerName::STATIC {
            self.faults.at(name.span, "`static` stands for the tokens of `static_tokens`: choose another name");
        } else if name.value.contains(['/', '"', '\\']) || name.value.chars().any(char::is_control) {
            self.faults.at(name.span, "expected a name without `/`, quotes and control characters");
        }
    }

    fn issuer(
        &mut self,
        name: &At<String>,
        raw: At<RawIssuer>,
        entries: &mut Vec<EntryTokens>,
    ) -> Option<ExternalIssuer> {
        let At { value: raw, span } = raw;
        let faults = self.faults.count();
        let algorithms = raw.algorithms.as_ref();
        let algorithms = algorithms.map_or_else(|| Algorithm::DEFAULT.to_vec(), |list| self.algorithms(&list.value));
        // After an unknown algorithm, which has been reported, no key is reported as unusable with the others.
        let has_faults = self.faults.count() > faults;
        let source = self.key_source(name, &raw, if has_faults { &Algorithm::ALL } else { &algorithms });
        let audiences = self.audiences(raw.audiences.as_ref(), raw.audience_claim.as_ref());
        let subject_claims = self.subject_claims(&raw);
        let scope_claim = self.scope_claim(&raw.scope_claim.value);
        if let Some(list) = &raw.allow_scopes {
            let reason = "scopes are compared exactly";
            list.value.items.iter().for_each(|scope| self.must_be_literal(scope, reason));
        }
        let allow_scopes = raw.allow_scopes.as_ref().map(|list| self.scopes(&list.value));
        let token_field = raw.token_header.as_ref().and_then(|name| self.token_field(name));
        let types = raw.types.as_ref().map_or_else(|| default_types(raw.spiffe.is_some()), |list| types(&list.value));
        if raw.clock_skew.value > MAX_SKEW {
            let got = self.got(&raw.clock_skew);
            self.faults.at(raw.clock_skew.span, format!("expected a clock skew of at most `120s`{got}"));
        }
        let (iss, origin) = self.token_origin(&raw, span)?;
        if audiences.is_ok() {
            entries.push(EntryTokens::new(name, &raw, &origin));
        }
        let settings = IssuerSettings {
            name: IssuerName::new(&name.value),
            issuer: iss,
            origin,
            token_field,
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

fn default_types(is_spiffe: bool) -> TokenTypes {
    // A JWT-SVID has the type `JWT` or `JOSE`, or none (JWT-SVID §2.3).
    let named = if is_spiffe { ["jwt", "jose"] } else { ["at+jwt", "jwt"] };
    TokenTypes { named: named.map(str::to_owned).into(), absent: true }
}

fn types(list: &OneOrMore<String>) -> TokenTypes {
    let names = list.items.iter().map(|name| name.value.to_ascii_lowercase());
    let (absent, named): (Vec<_>, Vec<_>) = names.partition(|name| name == "absent");
    let short = |name: String| name.strip_prefix("application/").map_or(name.clone(), str::to_owned);
    TokenTypes { named: named.into_iter().map(short).collect(), absent: !absent.is_empty() }
}
