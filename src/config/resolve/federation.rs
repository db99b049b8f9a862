//! `oauth.clients.ID.federation`: the platform tokens of clients, and the issuers whose tokens authenticate clients
//! only.

use std::collections::HashMap;

use super::super::decode::Named;
use super::super::lint::Lint;
use super::super::raw::federation::{RawFederation, RawSubject};
use super::super::raw::issuer::RawIssuer;
use super::super::raw::oauth::{ClientsIn, RawOauth};
use super::super::source::{At, Span};
use super::Resolver;
use crate::issuer::client::Client;
use crate::issuer::client_auth::federation::FederatedIdentity;
use crate::issuer::client_auth::federation::overlap::{OwnedIdentity, overlapping};
use crate::oauth::caller::IssuerName;
use crate::oauth::segment_pattern::ANY;
use crate::oauth::spiffe_id::SCHEME;
use crate::oauth::subject_pattern::{InvalidSubjectPattern, SubjectPattern};

/// The issuers of the file, as far as clients name them.
#[derive(Clone, Debug, Default)]
pub(super) struct FederatedIssuers {
    /// All external issuers.
    external: Vec<String>,
    /// The names of the tenants of those that have some.
    tenants: HashMap<String, Vec<String>>,
    /// Those whose tokens are opaque.
    introspecting: Vec<String>,
    /// Those whose subjects are SPIFFE IDs, with the trust domain.
    spiffe: Vec<(String, At<String>)>,
    /// False if a name could not be read. Then an unknown name is not reported.
    complete: bool,
    /// Those that a client names.
    named: Vec<String>,
    /// False if an entry could not be read. Then an issuer that no entry names is not reported.
    all_named: bool,
}

impl FederatedIssuers {
    pub(super) fn of(issuers: &Named<RawIssuer>, oauth: Option<&RawOauth>) -> Self {
        let clients = oauth.map(|oauth| &oauth.clients);
        let entries = clients.into_iter().flat_map(|clients| &clients.entries);
        let (mut named, mut all_named) = (Vec::new(), clients.is_none_or(|clients| clients.complete));
        // A client in the database may name any issuer.
        all_named &= oauth.is_none_or(|oauth| oauth.clients_in.value == ClientsIn::File);
        for (_, client) in entries {
            let Ok(client) = client else {
                all_named = false;
                continue;
            };
            all_named &= client.value.federation.as_ref().is_none_or(Result::is_ok);
            for entry in client.value.federation() {
                match &entry.value.issuer {
                    Ok(issuer) => named.push(issuer.value.clone()),
                    Err(_) => all_named = false,
                }
            }
        }
        named.sort_unstable();
        named.dedup();
        let external = issuers.names().map(str::to_owned).collect();
        let is_opaque = |issuer: &At<RawIssuer>| issuer.value.introspection.is_some();
        let opaque = issuers.entries.iter().filter(|(_, issuer)| issuer.as_ref().is_ok_and(is_opaque));
        let introspecting = opaque.map(|(name, _)| name.value.clone()).collect();
        let with_tenants = issuers.entries.iter().filter_map(|(name, issuer)| {
            let tenants = issuer.as_ref().ok()?.value.tenants.as_ref()?;
            Some((name.value.clone(), tenants.value.items.iter().map(|tenant| tenant.value.clone()).collect()))
        });
        let tenants = with_tenants.collect();
        let spiffe = issuers.entries.iter().filter_map(|(name, issuer)| {
            let raw = &issuer.as_ref().ok()?.value;
            let domain = raw.spiffe.as_ref()?.value.trust_domain.as_ref().ok()?;
            raw.subject_claim.is_none().then(|| (name.value.clone(), domain.clone()))
        });
        let spiffe = spiffe.collect();
        Self { external, tenants, introspecting, spiffe, complete: issuers.complete, named, all_named }
    }

    pub(super) fn is_named(&self, issuer: &str) -> bool {
        self.named.binary_search_by(|name| name.as_str().cmp(issuer)).is_ok()
    }
}

/// The places of the subjects in the file.
pub(super) fn subject_places(raw: &[At<RawFederation>]) -> impl Iterator<Item = Span> {
    raw.iter().map(|entry| entry.value.subject.as_ref().map_or(entry.span, |subject| subject.span))
}

impl Resolver<'_> {
    pub(super) fn federation(
        &mut self,
        raw: &[At<RawFederation>],
        issuers: &FederatedIssuers,
    ) -> Vec<FederatedIdentity> {
        raw.iter().filter_map(|entry| self.federated_identity(&entry.value, issuers)).collect()
    }

    fn federated_identity(&mut self, raw: &RawFederation, issuers: &FederatedIssuers) -> Option<FederatedIdentity> {
        let issuer = raw.issuer.as_ref().ok().map(|name| self.federated_issuer(name, issuers));
        let subject = raw.subject.as_ref().ok().and_then(|subject| self.subject_pattern(subject));
        if subject.is_some() {
            self.must_be_in_domain(raw, issuers);
        }
        let tenant =
            raw.issuer.as_ref().ok().and_then(|name| self.federated_tenant(name, raw.tenant.as_ref(), issuers));
        let claims = self.claim_rules(&raw.claims);
        Some(FederatedIdentity { issuer: issuer?, tenant, subject: subject?, claims, once: raw.once.value })
    }

    /// Another tenant of the issuer could give its tokens the same subject.
    fn federated_tenant(
        &mut self,
        issuer: &At<String>,
        tenant: Option<&At<String>>,
        issuers: &FederatedIssuers,
    ) -> Option<String> {
        match (issuers.tenants.get(&issuer.value), tenant) {
            (None, None) => {}
            (None, Some(tenant)) if issuers.external.contains(&issuer.value) => {
                self.faults.at(tenant.span, "this issuer has no `tenants`: remove `tenant`");
            }
            // Reported as an unknown issuer, if it is one.
            (None, Some(_)) => {}
            (Some(tenants), None) => {
                let message = format!(
                    "each tenant of this issuer can issue a token with this subject: name that of the client in `tenant`, \
                     one of {}",
                    tenants.join(", ")
                );
                self.faults.at(issuer.span, message);
            }
            (Some(tenants), Some(tenant)) if !tenants.contains(&tenant.value) => {
                self.unknown("tenant", tenant, tenants)
            }
            (Some(_), Some(_)) => {}
        }
        tenant.map(|tenant| tenant.value.clone())
    }

    fn federated_issuer(&mut self, name: &At<String>, issuers: &FederatedIssuers) -> IssuerName {
        if name.value == IssuerName::OWN {
            self.faults.at(name.span, "our own tokens are not accepted as credentials: name an entry of `issuers`");
        } else if issuers.complete && !issuers.external.contains(&name.value) {
            self.unknown("issuer", name, &issuers.external);
        } else if issuers.introspecting.contains(&name.value) {
            let message =
                "the tokens of this issuer are opaque, and a credential must be a signed JWT: name another issuer";
            self.faults.at(name.span, message);
        }
        IssuerName::new(&name.value)
    }

    /// The subjects of a trust domain are the SPIFFE IDs below it.
    fn must_be_in_domain(&mut self, raw: &RawFederation, issuers: &FederatedIssuers) {
        let (Ok(issuer), Ok(subject)) = (&raw.issuer, &raw.subject) else { return };
        let Some((_, domain)) = issuers.spiffe.iter().find(|(name, _)| *name == issuer.value) else { return };
        let below = subject.value.0.strip_prefix(SCHEME).and_then(|rest| rest.split_once('/'));
        if !below.is_some_and(|(first, path)| (first == domain.value || first == ANY) && !path.is_empty()) {
            let (quoted, got) = (self.quoted(domain), self.got(subject));
            let message = format!(
                "expected a SPIFFE ID of the trust domain{quoted}{got}: no token of this issuer has another subject; \
                 write `spiffe://`, the trust domain and the path of the workload"
            );
            self.faults.at(subject.span, message);
        }
    }

    fn subject_pattern(&mut self, text: &At<RawSubject>) -> Option<SubjectPattern> {
        let fault = match SubjectPattern::parse(&text.value.0) {
            Ok(pattern) => return Some(pattern),
            Err(fault) => fault,
        };
        let way_out = match fault {
            InvalidSubjectPattern::Empty => "write the subject that the platform gives to this client",
            InvalidSubjectPattern::PartOfSegment => "name the subjects one by one, or require a claim",
            InvalidSubjectPattern::FirstSegment => "write out the first segment, which names the kind of the subject",
        };
        let got = self.got(text);
        self.faults.at(text.span, format!("{fault}{got}: {way_out}"));
        None
    }

    /// Reports entries of two clients that one token fits: it would be a credential of neither. `places` are those of
    /// the entries.
    pub(super) fn overlapping_federation(&mut self, clients: &[Client], places: &[Span]) {
        let entries = clients.iter().enumerate().flat_map(|(client, settings)| {
            settings.credentials.federation.iter().map(move |identity| OwnedIdentity { client, identity })
        });
        let entries: Vec<OwnedIdentity<'_>> = entries.collect();
        // After a fault in an entry, the places do not fit the entries.
        if entries.len() != places.len() {
            return;
        }
        for (first, second) in overlapping(&entries) {
            let (Some(first), Some(second)) = (places.get(first), places.get(second)) else { continue };
            let line = self.source.line(*first);
            let message = format!(
                "a token may fit this entry and that of another client at line {line}, and would then be refused: make \
                 the subjects different, or give both entries `claims` that exclude each other"
            );
            self.faults.at(*second, message);
        }
    }

    /// Checks the use of each issuer: for requests, for clients, or for both.
    pub(super) fn issuer_uses(&mut self, raw: &Named<RawIssuer>, issuers: &FederatedIssuers) {
        for (name, issuer) in &raw.entries {
            let Ok(issuer) = issuer else { continue };
            match (&issuer.value.audiences, issuers.is_named(&name.value)) {
                (Some(Ok(audiences)), true) => self.warn(Lint::FederatedIssuerWithAudiences, audiences.span, TWO_USES),
                (None, false)
                    if issuer.value.introspection.is_none()
                        && issuers.all_named
                        && self.needs.includes("oauth.clients") =>
                {
                    let message = "this issuer has no effect: list the `audiences` that its tokens have for requests, or name \
                                   it in `federation` of a client";
                    self.faults.at(name.span, message);
                }
                (Some(_), _) | (None, _) => {}
            }
            match (&issuer.value.audiences, &issuer.value.introspection) {
                (None, Some(introspection)) => {
                    let message =
                        "opaque tokens authenticate requests only, and this issuer has no `audiences`: list them";
                    self.faults.at(introspection.span, message);
                }
                (None, None) => self.keys_of_requests(&issuer.value),
                (Some(_), _) => {}
            }
        }
    }

    /// Keys that are about tokens of requests have no effect without `audiences`.
    fn keys_of_requests(&mut self, raw: &RawIssuer) {
        let keys = [
            ("audience_claim", raw.audience_claim.as_ref().map(|at| at.span)),
            ("token_header", raw.token_header.as_ref().map(|at| at.span)),
            ("allow_scopes", raw.allow_scopes.as_ref().map(|at| at.span)),
        ];
        for (key, span) in keys {
            let Some(span) = span else { continue };
            let message = format!(
                "`{key}` has no effect without `audiences`: the tokens of this issuer authenticate clients, and no requests"
            );
            self.faults.at(span, message);
        }
    }
}

const TWO_USES: &str = "tokens of this issuer authenticate requests and, by `federation`, clients: a token for the one use is kept \
                        from the other by its audience alone; remove `audiences` if no request needs its tokens";

/// The issuers without audiences.
pub(super) fn federation_only(raw: &Named<RawIssuer>) -> Vec<String> {
    let entries =
        raw.entries.iter().filter(|(_, issuer)| issuer.as_ref().is_ok_and(|issuer| issuer.value.audiences.is_none()));
    entries.map(|(name, _)| name.value.clone()).collect()
}
