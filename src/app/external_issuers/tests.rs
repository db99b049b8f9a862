use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use tempfile::tempdir;
use url::Url;

use super::*;
use crate::jose::algorithm::Algorithm;
use crate::jose::signing::SigningKey;
use crate::oauth::identity::Identity;
use crate::trust::audiences::AcceptedAudiences;
use crate::trust::fetch::ClearText;
use crate::trust::fetch_access::FetchAccess;
use crate::trust::issuer::{Profile, TokenTypes};
use crate::trust::key_source::{FetchedKeys, KeySetPlace, LocalKeys};
use crate::trust::scope_claim::ScopeClaim;
use crate::trust::token_origin::TokenOrigin;

const KEYS: &str = "https://i.example/keys";

fn issuer(name: &str, audience: &str, uri: &str) -> ExternalIssuer {
    let settings = IssuerSettings {
        name: IssuerName::new(name),
        issuer: Identity::parse("https://i.example").unwrap(),
        origin: TokenOrigin::Issuer,
        token_field: None,
        subject_claims: vec!["sub".to_owned()],
        audiences: AcceptedAudiences::listed(vec![audience.to_owned()]),
        algorithms: vec![Algorithm::Es256],
        types: TokenTypes { named: Vec::new(), absent: true },
        clock_skew: Duration::ZERO,
        scope_claim: ScopeClaim::Auto,
        allow_scopes: None,
        profile: Profile::External,
    };
    let source = FetchedKeys {
        place: KeySetPlace::Uri(Url::parse(uri).unwrap()),
        ca: None,
        max_stale: Duration::ZERO,
        clear_text: ClearText::Loopback,
        access: FetchAccess::default(),
    };
    ExternalIssuer { settings, source: KeySource::Fetched(Box::new(source)), watch: None }
}

fn with(mut issuer: ExternalIssuer, change: impl FnOnce(&mut IssuerSettings, &mut FetchedKeys)) -> ExternalIssuer {
    let KeySource::Fetched(source) = &mut issuer.source else { panic!("it is fetched") };
    change(&mut issuer.settings, source);
    issuer
}

fn after(issuers: Vec<ExternalIssuer>, before: &[IssuerInUse]) -> Vec<IssuerInUse> {
    let folder = tempdir().unwrap();
    let is_known = |settings: &&IssuerSettings| before.iter().any(|known| known.trusted.settings == **settings);
    let all = issuers.iter().map(|issuer| &issuer.settings);
    let changed: Vec<IssuerSettings> = all.filter(|settings| !is_known(settings)).cloned().collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    IssuerInUse::all(issuers, &changed, (folder.path(), runtime.handle()), before)
}

fn has_same_tokens(one: &IssuerInUse, other: &IssuerInUse) -> bool {
    Arc::ptr_eq(&one.trusted, &other.trusted)
}

fn has_same_keys(one: &IssuerInUse, other: &IssuerInUse) -> bool {
    Arc::ptr_eq(&one.trusted.keys, &other.trusted.keys)
}

#[test]
fn an_issuer_keeps_its_tokens_and_keys_as_far_as_it_is_the_same() {
    let first = after(vec![issuer("a", "x", KEYS)], &[]);
    let following = |issuer| after(vec![issuer], &first).remove(0);
    let same = following(issuer("a", "x", KEYS));
    assert!(has_same_tokens(&same, &first[0]) && same.number == first[0].number);
    let own_keys = [
        issuer("a", "y", KEYS),
        issuer("b", "x", KEYS),
        with(issuer("a", "x", KEYS), |settings, _| {
            settings.token_field = Some(http::HeaderName::from_static("x-token"))
        }),
        with(issuer("a", "x", KEYS), |settings, _| settings.subject_claims = vec!["client_id".to_owned()]),
        with(issuer("a", "x", KEYS), |_, source| source.access.token_file = Some(PathBuf::from("token"))),
    ];
    for other in own_keys.map(following) {
        assert!(!has_same_tokens(&other, &first[0]) && other.number != first[0].number);
        assert!(has_same_keys(&other, &first[0]));
    }
    let other_keys = [
        issuer("a", "x", "https://i.example/other"),
        with(issuer("a", "x", KEYS), |settings, _| settings.algorithms.push(Algorithm::Es384)),
        with(issuer("a", "x", KEYS), |settings, _| settings.issuer = Identity::parse("https://other.example").unwrap()),
        with(issuer("a", "x", KEYS), |_, source| source.ca = Some(IssuerCa::new(PathBuf::from("ca"), Vec::new()))),
    ];
    for other in other_keys.map(following) {
        assert!(!has_same_keys(&other, &first[0]));
    }
}

#[test]
fn a_changed_entry_has_tokens_of_its_issuer_verified_again() {
    let other = || {
        let other = Identity::parse("https://other.example").unwrap();
        with(issuer("other", "x", KEYS), |settings, _| settings.issuer = other)
    };
    let first = after(vec![issuer("a", "x", KEYS), issuer("b", "y", KEYS), other()], &[]);
    let second = after(vec![issuer("a", "x", KEYS), issuer("b", "z", KEYS), other()], &first);
    assert!(!has_same_tokens(&second[0], &first[0]) && second[0].number == first[0].number);
    assert!(!has_same_tokens(&second[1], &first[1]));
    assert!(has_same_tokens(&second[2], &first[2]));
    assert!(second.iter().zip(&first).all(|(now, before)| has_same_keys(now, before)), "each its own");
    let third = after(vec![issuer("c", "x", KEYS), issuer("b", "q", KEYS), issuer("d", "r", KEYS)], &second);
    assert!(has_same_keys(&third[1], &second[1]) && has_same_keys(&third[0], &second[0]));
    assert!(!has_same_keys(&third[2], &second[0]), "two entries do not share a cache");
}

#[test]
fn keys_in_a_file_are_kept_as_long_as_the_file_has_them() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let write = |path: &Path| {
        let (key, _) = SigningKey::generate(Algorithm::Es256).unwrap();
        fs::write(path, json!({"keys": [key.public_jwk()]}).to_string()).unwrap();
    };
    let read = |path: &Path| {
        let watch = Some(FileWatch::new(vec![path.to_owned()]));
        let keys = LocalKeys::read(path.to_owned(), &[Algorithm::Es256]).unwrap();
        ExternalIssuer { source: KeySource::Local(keys), watch, ..issuer("a", "x", KEYS) }
    };
    write(&path);
    let first = after(vec![read(&path)], &[]);
    let following = |issuer| after(vec![issuer], &first).remove(0);
    let same = following(read(&path));
    assert!(has_same_tokens(&same, &first[0]) && same.number == first[0].number);
    let moved = folder.path().join("moved.json");
    fs::copy(&path, &moved).unwrap();
    let moved = following(read(&moved));
    write(&path);
    for other in [moved, following(read(&path)), following(issuer("a", "x", KEYS))] {
        assert!(!has_same_tokens(&other, &first[0]) && !has_same_keys(&other, &first[0]));
        assert_ne!(other.number, first[0].number);
    }
    assert!(first[0].task(folder.path()).is_some(), "the file is watched");
    let written = ExternalIssuer { watch: None, ..read(&path) };
    assert!(following(written).task(folder.path()).is_none(), "nothing to watch");
}
