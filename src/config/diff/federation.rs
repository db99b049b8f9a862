//! The platform tokens of clients in two configurations.

use super::bound::{added_and_removed, listed_texts};
use super::change::{ChangeSubject, Changes, Direction};
use super::route_rules::claim_text;
use crate::issuer::client_auth::federation::FederatedIdentity;

/// An entry that an entry before covers adds nothing; one that no entry now covers is lost.
pub(super) fn compare(
    (id, subject): (&str, &ChangeSubject),
    old: &[FederatedIdentity],
    new: &[FederatedIdentity],
    changes: &mut Changes,
) {
    let lacking = |list: &[FederatedIdentity], others: &[FederatedIdentity]| -> Vec<String> {
        let lacking = list.iter().filter(|one| !others.iter().any(|other| other.covers(one)));
        lacking.map(|one| described(one, others)).collect()
    };
    let (gained, lost) = (lacking(new, old), lacking(old, new));
    if !gained.is_empty() {
        let text = format!("client `{id}` may use the platform tokens {}", listed_texts(gained));
        changes.add(Direction::Wider, subject, text);
    }
    if !lost.is_empty() {
        let text = format!("client `{id}` may no longer use all of the platform tokens {}", listed_texts(lost));
        changes.add(Direction::Narrower, subject, text);
    }
}

/// An entry, with its differences from one for the same subject.
fn described(one: &FederatedIdentity, others: &[FederatedIdentity]) -> String {
    let FederatedIdentity { issuer, tenant, subject, claims, once } = one;
    let of_tenant = tenant.as_ref().map(|tenant| format!(", tenant {tenant}")).unwrap_or_default();
    let name = format!("`{subject}` of {}{of_tenant}", issuer.as_str());
    let Some(other) =
        others.iter().find(|other| other.issuer == *issuer && other.tenant == *tenant && other.subject == *subject)
    else {
        return name;
    };
    let [own, others] = [claims, &other.claims].map(|claims| claims.iter().map(claim_text).collect::<Vec<_>>());
    // The conditions of the other entry are the old ones.
    let (own, others) = added_and_removed(&others, &own);
    let claims = condition("with", &own).into_iter().chain(condition("without", &others));
    let uses = (*once != other.once).then(|| if *once { "once only" } else { "more than once" }.to_owned());
    let differences: Vec<String> = claims.chain(uses).collect();
    if differences.is_empty() { name } else { format!("{name} ({})", differences.join(", ")) }
}

fn condition(word: &str, claims: &[&String]) -> Option<String> {
    let names: Vec<&str> = claims.iter().map(|claim| claim.as_str()).collect();
    (!names.is_empty()).then(|| format!("{word} {}", names.join(" and ")))
}
