use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::issuer::client::Client;
use crate::issuer::client_auth::KeptCredentials;
use crate::issuer::client_auth::federation::overlap::{OwnedIdentity, overlapping};
use crate::jose::claims::Claims;
use crate::oauth::bound::TokenBinding;
use crate::oauth::identity::Identity;
use crate::oauth::scope::ScopeSet;
use crate::oauth::subject_pattern::SubjectPattern;
use crate::trust::claim_rule::{ClaimRule, WantedValue};

type Entry<'e> = (&'e str, &'e [(&'e str, &'e str)]);

/// An entry of the issuer `ci` for this subject and these claims.
fn identity((subject, claims): Entry<'_>) -> FederatedIdentity {
    let claims = claims.iter().map(|(path, value)| ClaimRule {
        path: (*path).to_owned(),
        values: vec![WantedValue::Equal(Value::from(*value))],
    });
    FederatedIdentity {
        issuer: IssuerName::new("ci"),
        tenant: None,
        subject: SubjectPattern::parse(subject).unwrap(),
        claims: claims.collect(),
        once: false,
    }
}

fn client(id: &str, federation: Vec<FederatedIdentity>) -> Client {
    Client {
        id: Identity::parse(id).unwrap(),
        credentials: KeptCredentials { federation, ..KeptCredentials::default() },
        scopes: ScopeSet::parse("a").unwrap(),
        audiences: vec!["x".to_owned()],
        token_ttl: Duration::from_secs(60),
        claims: Map::new(),
        allow_from: None,
        bound: TokenBinding::None,
    }
}

fn clients(entries: &[(&str, &[Entry<'_>])]) -> Vec<Client> {
    entries.iter().map(|(id, list)| client(id, list.iter().copied().map(identity).collect())).collect()
}

fn credential(issuer: &str, subject: &str, claims: &Value) -> PlatformCredential {
    let mut all = json!({"iss": "https://ci.example", "exp": 2_000_000_000});
    all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
    PlatformCredential {
        issuer: IssuerName::new(issuer),
        iss: "https://ci.example".to_owned(),
        tenant: None,
        subject: Identity::parse(subject).unwrap(),
        refused_from: 2_000_000_000,
        claims: Claims::parse(all.to_string().as_bytes()).unwrap(),
    }
}

fn index_of(clients: &[Client]) -> FederationIndex {
    FederationIndex::new(clients.iter().map(|client| (&client.id, &*client.credentials.federation)))
}

fn found(clients: &[Client], subject: &str, claims: &Value) -> Result<String, NoSingleClient> {
    let index = index_of(clients);
    Ok(index.find(&credential("ci", subject, claims))?.client.as_str().to_owned())
}

#[test]
fn a_credential_is_of_the_only_client_that_it_fits() {
    let all = clients(&[
        ("main", &[("repo:acme/*:ref:refs/heads/main", &[])]),
        ("api", &[("repo:acme/api:environment:production", &[]), ("repo:acme/web:environment:production", &[])]),
        ("gold", &[("repo:acme/x:y", &[("tier", "gold")])]),
        ("iron", &[("repo:acme/x:y", &[("tier", "iron")])]),
    ]);
    for (subject, claims, client) in [
        ("repo:acme/api:ref:refs/heads/main", json!({}), "main"),
        ("repo:acme/api:environment:production", json!({}), "api"),
        ("repo:acme/web:environment:production", json!({}), "api"),
        ("repo:acme/x:y", json!({"tier": "gold"}), "gold"),
        ("repo:acme/x:y", json!({"tier": ["iron", "other"]}), "iron"),
    ] {
        assert_eq!(found(&all, subject, &claims).as_deref(), Ok(client), "{subject}");
    }
    for subject in [
        "repo:acme/a/b:ref:refs/heads/main",
        "repo:acme/:ref:refs/heads/main",
        "repo:acme-evil/api:ref:refs/heads/main",
        "repo:acme/api:ref:refs/heads/main2",
        "repo:acme/api:pull_request",
        "repo:acme/x:y",
        "*",
    ] {
        assert!(matches!(found(&all, subject, &json!({})), Err(NoSingleClient::None(_))), "{subject}");
    }
}

#[test]
fn a_credential_that_fits_two_clients_is_of_none() {
    let all = clients(&[("one", &[("repo:acme/*:x", &[("a", "1")])]), ("two", &[("repo:acme/api:*", &[("b", "1")])])]);
    let both = json!({"a": "1", "b": "1"});
    let Err(NoSingleClient::Several(values)) = found(&all, "repo:acme/api:x", &both) else { panic!() };
    let text = "issuer=ci, subject=repo:acme/api:x, which fits the clients one (repo:acme/*:x), two (repo:acme/api:*)";
    let texts = [values.found, values.wanted];
    assert!(texts[0] == text || texts[0].contains("two (repo:acme/api:*), one (repo:acme/*:x)"), "{texts:?}");
    assert_eq!(found(&all, "repo:acme/api:x", &json!({"a": "1"})).as_deref(), Ok("one"));
}

#[test]
fn two_entries_of_one_client_are_one_client() {
    let mut all = clients(&[("one", &[("repo:acme/*:x", &[]), ("repo:acme/api:*", &[])])]);
    all[0].credentials.federation[1].once = true;
    let index = index_of(&all);
    let once = |subject: &str| index.find(&credential("ci", subject, &json!({}))).map(|found| found.once);
    assert_eq!(once("repo:acme/api:x"), Ok(true), "the stricter of the two counts");
    assert_eq!(once("repo:acme/web:x"), Ok(false));
}

#[test]
fn an_entry_counts_for_its_issuer_alone() {
    let all = clients(&[("one", &[("a:b", &[])])]);
    let index = index_of(&all);
    assert!(index.find(&credential("other", "a:b", &json!({}))).is_err());
    assert!(index.names(&IssuerName::new("ci")) && !index.names(&IssuerName::new("other")));
}

#[test]
fn a_tenant_counts_for_its_own_client_alone() {
    let mut all = clients(&[("one", &[("a:b", &[])]), ("two", &[("a:b", &[])])]);
    for (client, tenant) in all.iter_mut().zip(["alpha", "beta"]) {
        client.credentials.federation[0].tenant = Some(tenant.to_owned());
    }
    let index = index_of(&all);
    let find = |tenant: Option<&str>| {
        let credential =
            PlatformCredential { tenant: tenant.map(str::to_owned), ..credential("ci", "a:b", &json!({})) };
        index.find(&credential).map(|found| found.client.as_str())
    };
    assert_eq!((find(Some("alpha")), find(Some("beta"))), (Ok("one"), Ok("two")));
    let Err(NoSingleClient::None(values)) = find(Some("gamma")) else { panic!() };
    assert_eq!(values.found, "issuer=ci, tenant=gamma, subject=a:b");
    assert!(find(None).is_err());
    let owned = |client: usize| OwnedIdentity { client, identity: &all[client].credentials.federation[0] };
    assert_eq!(overlapping(&[owned(0), owned(1)]), []);
    assert!(!owned(0).identity.covers(owned(1).identity));
}

#[test]
fn a_refusal_names_the_claim_that_differs() {
    let all = clients(&[("gold", &[("repo:acme/x:y", &[("tier", "gold")])])]);
    let Err(NoSingleClient::None(values)) = found(&all, "repo:acme/x:y", &json!({"tier": "iron"})) else { panic!() };
    assert_eq!(values.found, "issuer=ci, subject=repo:acme/x:y, tier=iron");
    assert_eq!(values.wanted, "tier=gold for client gold");
}

#[test]
fn overlaps_are_found_where_the_claims_do_not_differ() {
    let overlap = |one: Entry<'_>, other: Entry<'_>| {
        let (one, other) = (identity(one), identity(other));
        let owned = |client, identity| OwnedIdentity { client, identity };
        assert_eq!(overlapping(&[owned(0, &one), owned(0, &other)]), [], "one client");
        !overlapping(&[owned(0, &one), owned(1, &other)]).is_empty()
    };
    for (one, other) in [
        (("a:b", &[][..]), ("a:b", &[][..])),
        (("a:*", &[]), ("a:b", &[])),
        (("a:*:c", &[]), ("a:b:*", &[])),
        (("a:*", &[("t", "1")]), ("a:b", &[("t", "1"), ("u", "1")])),
        (("a:*", &[]), ("a:b", &[("t", "1")])),
    ] {
        assert!(overlap(one, other) && overlap(other, one), "{one:?} {other:?}");
    }
    for (one, other) in [
        (("a:b", &[][..]), ("a:c", &[][..])),
        (("a:*:c", &[]), ("a:*:d", &[])),
        (("a:*", &[("t", "1")]), ("a:*", &[("t", "2")])),
        (("a:*", &[("t", "1")]), ("a:*", &[("u", "1")])),
    ] {
        assert!(!overlap(one, other) && !overlap(other, one), "{one:?} {other:?}");
    }
}

fn subject() -> impl Strategy<Value = String> {
    "[ab*]([:/][ab*]{1,2}){0,3}"
}

proptest! {
    /// The same by another way: every entry of every client is tried.
    #[test]
    fn never_more_than_one_client_is_found(patterns in prop::collection::vec(subject(), 1..12), name in subject()) {
        let entries = patterns.iter().filter(|text| SubjectPattern::parse(text).is_ok()).enumerate();
        let all: Vec<Client> =
            entries.map(|(at, text)| client(&format!("c{}", at / 2), vec![identity((text, &[]))])).collect();
        let fitting = all.iter().filter(|one| one.credentials.federation[0].subject.matches(&name));
        let mut expected: Vec<&str> = fitting.map(|one| one.id.as_str()).collect();
        expected.dedup();
        match (found(&all, &name, &json!({})), &expected[..]) {
            (Ok(found), [only]) => prop_assert_eq!(&found, only),
            (Err(NoSingleClient::None(_)), []) | (Err(NoSingleClient::Several(_)), [_, _, ..]) => {}
            (found, _) => prop_assert!(false, "{:?} for {:?}", found, expected),
        }
    }

    /// A pair of clients without claims that `check` lets pass is never refused as two clients.
    #[test]
    fn patterns_without_overlap_never_fit_two_clients(one in subject(), other in subject(), name in subject()) {
        if let (Ok(_), Ok(_)) = (SubjectPattern::parse(&one), SubjectPattern::parse(&other)) {
            let all = clients(&[("one", &[(&one, &[])]), ("two", &[(&other, &[])])]);
            let owned = |client: usize| OwnedIdentity { client, identity: &all[client].credentials.federation[0] };
            if overlapping(&[owned(0), owned(1)]).is_empty() {
                let found = found(&all, &name, &Value::Object(Map::new()));
                prop_assert!(!matches!(found, Err(NoSingleClient::Several(_))), "{found:?}");
            }
        }
    }
}
