//! Finds entries of different clients that a credential would fit both, so that it would authenticate neither.

use std::collections::{BTreeMap, HashMap};

use super::FederatedIdentity;
use crate::oauth::caller::IssuerName;
use crate::oauth::subject_pattern::Wildcards;

/// An entry with the number of its client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OwnedIdentity<'i> {
    pub(crate) client: usize,
    pub(crate) identity: &'i FederatedIdentity,
}

type Group<'i> = Vec<(usize, OwnedIdentity<'i>)>;

/// Pairs of entries, by their places in the list, of which every credential of one fits the claims of the other and a
/// subject fits both. The number of pairs is bounded.
pub(crate) fn overlapping(entries: &[OwnedIdentity<'_>]) -> Vec<(usize, usize)> {
    let mut groups: HashMap<&IssuerName, BTreeMap<&Wildcards, Group<'_>>> = HashMap::new();
    for (place, entry) in entries.iter().enumerate() {
        let of_issuer = groups.entry(&entry.identity.issuer).or_default();
        of_issuer.entry(entry.identity.subject.wildcards()).or_default().push((place, *entry));
    }
    let mut pairs = Vec::new();
    for of_issuer in groups.into_values() {
        let forms: Vec<(&Wildcards, Group<'_>)> = of_issuer.into_iter().collect();
        for (index, one) in forms.iter().enumerate() {
            for other in forms.iter().skip(index) {
                join(one, other, &mut pairs);
            }
        }
    }
    pairs.sort_unstable();
    pairs.dedup();
    pairs
}

/// More pairs are not looked for.
const MAX_PAIRS: usize = 100;

/// Two patterns fit one subject if and only if they are equal where neither has a wildcard.
fn join<'i>(one: &(&Wildcards, Group<'i>), other: &(&Wildcards, Group<'i>), pairs: &mut Vec<(usize, usize)>) {
    let mut by_text: HashMap<_, Vec<&(usize, OwnedIdentity<'i>)>> = HashMap::new();
    for entry in &one.1 {
        if let Some(text) = other.0.mask(entry.1.identity.subject.as_str()) {
            by_text.entry(text).or_default().push(entry);
        }
    }
    for (place, entry) in &other.1 {
        let Some(text) = one.0.mask(entry.identity.subject.as_str()) else { continue };
        for (earlier, before) in by_text.get(&text).into_iter().flatten() {
            if pairs.len() < MAX_PAIRS
                && before.client != entry.client
                && fit_one_token(before.identity, entry.identity)
            {
                pairs.push((*earlier.min(place), *earlier.max(place)));
            }
        }
    }
}

/// Where the claims that both want differ, a token may fit one of them only.
fn fit_one_token(one: &FederatedIdentity, other: &FederatedIdentity) -> bool {
    one.is_of_issuer_of(other)
        && one.subject.overlaps(&other.subject)
        && (one.takes_claims_of(other) || other.takes_claims_of(one))
}
