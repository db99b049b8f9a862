//! Finds the client of a platform credential among all clients.
//!
//! The entries of an issuer are grouped by the places of their wildcards. A subject has one masked form for each group,
//! which is looked up in a map. So the work depends on the number of different forms of patterns, and not on the number
//! of clients.

use std::collections::{BTreeMap, HashMap};

use foldhash::quality::RandomState;

use super::FederatedIdentity;
use crate::issuer::client::Client;
use crate::oauth::caller::IssuerName;
use crate::oauth::discrepancy::{Discrepancy, short};
use crate::oauth::subject_pattern::Wildcards;
use crate::trust::platform_credential::PlatformCredential;

/// The places of all entries, by issuer.
#[derive(Debug, Default)]
pub(crate) struct FederationIndex {
    by_issuer: HashMap<IssuerName, BTreeMap<Wildcards, PlacesByText>>,
}

type PlacesByText = HashMap<Box<str>, Vec<IdentityPlace>, RandomState>;

/// The place of an entry: the position of its client, and its own position there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct IdentityPlace {
    client: usize,
    entry: usize,
}

/// The only client of a credential.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FederatedClient<'c> {
    pub(crate) client: &'c Client,
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
    pub(crate) fn new(clients: &[Client]) -> Self {
        let mut index = Self::default();
        for (place, client) in clients.iter().enumerate() {
            for (entry, identity) in client.credentials.federation.iter().enumerate() {
                let FederatedIdentity { issuer, subject, .. } = identity;
                let of_issuer = index.by_issuer.entry(issuer.clone()).or_default();
                let of_form = of_issuer.entry(subject.wildcards().clone()).or_default();
                of_form.entry(subject.as_str().into()).or_default().push(IdentityPlace { client: place, entry });
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

    /// The client of a credential. `clients` are those that the index was made of.
    pub(crate) fn find<'c>(
        &self,
        clients: &'c [Client],
        credential: &PlatformCredential,
    ) -> Result<FederatedClient<'c>, NoSingleClient> {
        let by_subject: Vec<Named<'c>> = self.by_subject(clients, credential);
        let fits =
            |named: &&Named<'_>| named.identity.claims.iter().all(|claim| claim.holds(Some(&credential.claims.all)));
        let matching: Vec<&Named<'c>> = by_subject.iter().filter(fits).collect();
        let Some(first) = matching.first() else {
            return Err(NoSingleClient::None(Box::new(no_client(credential, &by_subject))));
        };
        if matching.iter().any(|other| other.client.id != first.client.id) {
            return Err(NoSingleClient::Several(Box::new(several_clients(credential, &matching))));
        }
        // The strictest of several entries of one client counts.
        Ok(FederatedClient { client: first.client, once: matching.iter().any(|named| named.identity.once) })
    }

    /// The entries whose issuer and subject are those of the credential.
    fn by_subject<'c>(&self, clients: &'c [Client], credential: &PlatformCredential) -> Vec<Named<'c>> {
        let subject = credential.subject.as_str();
        let places = self
            .by_issuer
            .get(&credential.issuer)
            .into_iter()
            .flatten()
            .filter_map(|(wildcards, by_text)| by_text.get(&*wildcards.mask(subject)?));
        let named = places.flatten().filter_map(|place| {
            let client = clients.get(place.client)?;
            Some(Named { client, identity: client.credentials.federation.get(place.entry)? })
        });
        named.filter(|named| named.identity.subject.matches(subject)).collect()
    }
}

/// An entry with its client.
struct Named<'c> {
    client: &'c Client,
    identity: &'c FederatedIdentity,
}

fn no_client(credential: &PlatformCredential, by_subject: &[Named<'_>]) -> Discrepancy {
    let found = credential_text(credential);
    let claims = Some(&credential.claims.all);
    let broken = by_subject.iter().find_map(|named| {
        let rule = named.identity.claims.iter().find(|rule| !rule.holds(claims))?;
        Some((named, rule.discrepancy(claims)))
    });
    match broken {
        None => Discrepancy::new(found, "the subject of an entry of `federation`"),
        Some((named, values)) => {
            let wanted = format!("{} for client {}", values.wanted, short(named.client.id.as_str()));
            Discrepancy::new(format!("{found}, {}", values.found), wanted)
        }
    }
}

fn several_clients(credential: &PlatformCredential, matching: &[&Named<'_>]) -> Discrepancy {
    let text = |named: &&Named<'_>| format!("{} ({})", short(named.client.id.as_str()), named.identity.subject);
    let shown: Vec<String> = matching.iter().take(NAMED_CLIENTS).map(|named| text(named)).collect();
    let found = format!("{}, which fits the clients {}", credential_text(credential), shown.join(", "));
    Discrepancy::new(found, "a credential of one client")
}

/// The issuer and the subject of a credential.
pub(crate) fn credential_text(credential: &PlatformCredential) -> String {
    format!("issuer={}, subject={}", credential.issuer.as_str(), short(credential.subject.as_str()))
}

#[cfg(test)]
mod tests;
