//! Confusion of algorithms: a signature counts for the key and the algorithm that it was made with, and for no other.

use serde_json::json;

use super::edges::edges_of_signatures;
use super::*;

/// Names that mean another algorithm than any of a key, or none.
const FOREIGN_NAMES: [&str; 12] =
    ["none", "HS256", "HS384", "HS512", "RS1", "ES256K", "Ed448", "ed25519", "EDDSA", "rs512", "RS512 ", ""];

fn names() -> impl Iterator<Item = &'static str> {
    Algorithm::ALL.into_iter().map(Algorithm::as_str).chain(["Ed25519"]).chain(FOREIGN_NAMES)
}

#[tokio::test]
async fn a_signature_counts_for_its_own_key_and_algorithm_only() {
    let mut attack = Attack::of(&Algorithm::ALL).await;
    edges_of_signatures(&mut attack).await;
    public_keys_as_secrets(&mut attack).await;
    keys_supplied_by_the_token(&mut attack).await;
    exchanged_signatures(&mut attack).await;
    other_names(&mut attack).await;
    attack
        .each(|token| {
            let signature = decoded(parts(token)[2]);
            let flipped = (0..signature.len() * 8).map(|bit| {
                let mut flipped = signature.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                replaced(token, 2, &BASE64URL.encode(flipped))
            });
            flipped.collect()
        })
        .await;
    attack.accepts_good_ones().await;
    let tried = attack.tried.len();
    assert!(tried >= 15_000, "only {tried} were tried");
}

/// The signature of one valid token under the header and the claims of another.
async fn exchanged_signatures(attack: &mut Attack) {
    let signatures: Vec<String> = attack.good.iter().map(|token| parts(token)[2].to_owned()).collect();
    attack.each(|token| signatures.iter().map(|signature| replaced(token, 2, signature)).collect()).await;
}

/// Signed by each key, with every other name of an algorithm and every key id.
async fn other_names(attack: &mut Attack) {
    let ids: Vec<Value> = attack.keys.iter().map(|key| json!(key.key_id())).chain([json!("none")]).collect();
    let mut all = Vec::new();
    for key in &attack.keys {
        let own = key.algorithm();
        for name in names().filter(|name| Algorithm::from_name(name) != Some(own)) {
            for id in &ids {
                let header = json!({"typ": "JWT", "alg": name, "kid": id});
                all.push(key.sign_under(&header.to_string(), claims().to_string().as_bytes()).unwrap());
            }
            let header = json!({"typ": "JWT", "alg": name});
            all.push(key.sign_under(&header.to_string(), claims().to_string().as_bytes()).unwrap());
        }
    }
    for token in all {
        attack.refuses(token).await;
    }
}

/// One RSA key may be published for several algorithms under one id. Each signature counts for its own.
#[tokio::test]
async fn one_key_for_six_algorithms_is_six_keys() {
    use Algorithm::{Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};
    let (_, pkcs8) = SigningKey::generate(Rs256).unwrap();
    let keys = [Rs256, Rs384, Rs512, Ps256, Ps384, Ps512].map(|one| SigningKey::from_pkcs8(one, &pkcs8).unwrap());
    let trust = trust(settings(), &keys);
    for key in &keys {
        for name in names() {
            let header = json!({"alg": name, "kid": key.key_id()}).to_string();
            let token = key.sign_under(&header, claims().to_string().as_bytes()).unwrap();
            let accepted = trust.verify(&token, EXPECTED, UnixTime::from_seconds(NOW), &mut Unobserved).await.is_ok();
            assert_eq!(accepted, name == key.algorithm().as_str(), "{} as {name}", key.algorithm());
        }
    }
}

#[tokio::test]
async fn a_token_may_call_eddsa_by_the_name_of_its_curve() {
    let (key, _) = SigningKey::generate(Algorithm::EdDsa).unwrap();
    let header = json!({"alg": "Ed25519", "kid": key.key_id()}).to_string();
    let token = key.sign_under(&header, claims().to_string().as_bytes()).unwrap();
    assert!(
        trust(settings(), &[key]).verify(&token, EXPECTED, UnixTime::from_seconds(NOW), &mut Unobserved).await.is_ok()
    );
}

#[tokio::test]
async fn an_algorithm_that_is_not_listed_is_refused() {
    for algorithm in Algorithm::ALL.into_iter().filter(|one| !Algorithm::DEFAULT.contains(one)) {
        let (key, _) = SigningKey::generate(algorithm).unwrap();
        let token = key.sign("JWT", claims().to_string().as_bytes()).unwrap();
        let keys = Arc::new(KeyCache::own(KeySet::from_keys(vec![Arc::new(key.verifying_key().unwrap())])));
        let settings = IssuerSettings { algorithms: Algorithm::DEFAULT.to_vec(), ..settings() };
        let trust = Trust::new(vec![Arc::new(TrustedIssuer { settings, keys, introspection: None })], Arc::default());
        let refused = trust.verify(&token, EXPECTED, UnixTime::from_seconds(NOW), &mut Unobserved).await.unwrap_err();
        assert_eq!(refused.reason, TokenError::AlgNotAllowed, "{algorithm}");
    }
}

#[tokio::test]
async fn without_a_key_id_there_must_be_no_choice() {
    let keys: Vec<SigningKey> = [Algorithm::Es256, Algorithm::Es256, Algorithm::EdDsa]
        .map(|algorithm| SigningKey::generate(algorithm).unwrap().0)
        .into();
    let trust = trust(settings(), &keys);
    for (key, good) in [(&keys[0], false), (&keys[1], false), (&keys[2], true)] {
        let header = json!({"alg": key.algorithm().as_str()}).to_string();
        let token = key.sign_under(&header, claims().to_string().as_bytes()).unwrap();
        let verdict = trust.verify(&token, EXPECTED, UnixTime::from_seconds(NOW), &mut Unobserved).await;
        assert_eq!(verdict.is_ok(), good, "{header}");
    }
}
