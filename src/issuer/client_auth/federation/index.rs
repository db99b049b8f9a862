//! Finds the client of a platform token among all clients.
//!
//! The entries of an issuer are grouped by the places of their wildcards. A subject has one masked form for each group,
//! which is looked up in a map. So the work depends on the number of different forms of patterns, and not on the number
//! of clients.

use std::collections::{BTreeMap, HashMap};

use foldhash::quality::RandomState;

use super::FederatedIdentity;
use crate::oauth::caller::IssuerName;
use crate::oauth::discrepancy::{Discrepancy, short};
use crate::oauth::identity::Identity;
use crate::oauth::subject_pattern::Wildcards;
use crate::trust::platform_credential::PlatformCredential;

/// All entries, by issuer.
#[derive(Debug, Default)]
pub(crate) struct FederationIndex {
    by_issuer: HashMap<IssuerName, BTreeMap<Wildcards, EntriesByText>>,
}

type EntriesByText = HashMap<Box<str>, Vec<IndexedIdentity>, RandomState>;

/// An entry with its client.
#[derive(Debug)]
struct IndexedIdentity {
    client: Identity,
    identity: FederatedIdentity,
}

/// The only client of a credential.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FederatedClient<'i> {
    pub(crate) client: &'i Identity,
    /// Whether the token counts once only.
    pub(crate) once: bool,
}

/// Why a credential has no client. The caller gets the same answer in both cases.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoSingleClient {
    None(Box<Discrepancy>),
    Several(Box<Discrepancy>),
}

/// Clients that a text names.
const NAMED_CLIENTS: usize = 5;

impl FederationIndex {
    /// Takes the ids of all clients, with the entries of each.
    pub(crate) fn new<'c>(clients: impl Iterator<Item = (&'c Identity, &'c [FederatedIdentity])>) -> Self {
        let mut index = Self::default();
        for (client, identities) in clients {
            for identity in identities {
                let of_issuer = index.by_issuer.entry(identity.issuer.clone()).or_default();
                let of_form = of_issuer.entry(identity.subject.wildcards().clone()).or_default();
                let indexed = IndexedIdentity { client: client.clone(), identity: identity.clone() };
                of_form.entry(identity.subject.as_str().into()).or_default().push(indexed);
            }
        }
        index
    }

    /// Whether a client names this issuer.
    pub(crate) fn names(&self, issuer: &IssuerName) -> bool {
        self.by_issuer.contains_key(issuer)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_issuer.is_empty()
    }

    /// The only client whose entries a verified credential fits.
    pub(crate) fn find(&self, credential: &PlatformCredential) -> Result<FederatedClient<'_>, NoSingleClient> {
        let by_subject: Vec<&IndexedIdentity> = self.by_subject(credential).collect();
        let claims = Some(&credential.claims.all);
        let fits = |entry: &&&IndexedIdentity| entry.identity.claims.iter().all(|claim| claim.holds(claims));
        let matching: Vec<&IndexedIdentity> = by_subject.iter().filter(fits).copied().collect();
        let Some(first) = matching.first() else {
            return Err(NoSingleClient::None(Box::new(no_client(credential, &by_subject))));
        };
        if matching.iter().any(|other| other.client != first.client) {
            return Err(NoSingleClient::Several(Box::new(several_clients(credential, &matching))));
        }
        // The strictest of several entries of one client counts.
        Ok(FederatedClient { client: &first.client, once: matching.iter().any(|entry| entry.identity.once) })
    }

    /// The entries whose issuer, tenant and subject are those of the credential.
    fn by_subject(&self, credential: &PlatformCredential) -> impl Iterator<Item = &IndexedIdentity> {
        let subject = credential.subject.as_str();
        let forms = self.by_issuer.get(&credential.issuer).into_iter().flatten();
        let entries = forms.filter_map(|(wildcards, by_text)| by_text.get(&*wildcards.mask(subject)?)).flatten();
        entries.filter(|entry| entry.identity.tenant == credential.tenant && entry.identity.subject.matches(subject))
    }
}

fn no_client(credential: &PlatformCredential, by_subject: &[&IndexedIdentity]) -> Discrepancy {
    let found = credential_text(credential);
    let claims = Some(&credential.claims.all);
    let broken = by_subject.iter().find_map(|entry| {
        let rule = entry.identity.claims.iter().find(|rule| !rule.holds(claims))?;
        Some((entry, rule.discrepancy(claims)))
    });
    match broken {
        None if credential.tenant.is_some() => {
            Discrepancy::new(found, "the tenant and the subject of an entry of `federation`")
        }
        None => Discrepancy::new(found, "the subject of an entry of `federation`"),
        Some((entry, values)) => {
            let wanted = format!("{} for client {}", values.wanted, short(entry.client.as_str()));
            Discrepancy::new(format!("{found}, {}", values.found), wanted)
        }
    }
}

fn several_clients(credential: &PlatformCredential, matching: &[&IndexedIdentity]) -> Discrepancy {
    let text = |entry: &&IndexedIdentity| format!("{} ({})", short(entry.client.as_str()), entry.identity.subject);
    let shown: Vec<String> = matching.iter().take(NAMED_CLIENTS).map(text).collect();
    let found = format!("{}, which fits the clients {}", credential_text(credential), shown.join(", "));
    Discrepancy::new(found, "a credential of one client")
}

/// The issuer and the subject of a credential.
fn credential_text(credential: &PlatformCredential) -> String {
    let tenant = credential.tenant.as_deref().map(|tenant| format!(", tenant={}", short(tenant))).unwrap_or_default();
    format!("issuer={}{tenant}, subject={}", credential.issuer.as_str(), short(credential.subject.as_str()))
}

#[cfg(test)]
mod tests;
