//! A hundred thousand invalid tokens for [`Trust::verify`]: none is accepted and none causes a panic.
//!
//! Systematic cases: every bit of valid tokens flipped, truncation at every position, exchanged parts, rewritten
//! headers and claims (under an old signature or signed again), and signatures at arithmetic edge cases. Further cases
//! are random, from one seed.

mod algorithms;
mod edges;
mod loosened;
mod token_cases;

use std::sync::Arc;

use aws_lc_rs::hmac;
use base64::Engine as _;
use foldhash::HashSet;
use serde_json::{Value, json};

use super::example::{NOW, claims, settings};
use super::failed_check::TokenError;
use super::issuer::{IssuerSettings, TrustedIssuer};
use super::key_cache::KeyCache;
use super::verify::{AllowedAudiences, AllowedIssuers, Expectations, Trust};
use crate::clock::UnixTime;
use crate::jose::BASE64URL;
use crate::jose::algorithm::Algorithm;
use crate::jose::key_set::KeySet;
use crate::jose::signing::SigningKey;
use crate::oauth::observer::Unobserved;
use edges::edges_of_signatures;
use token_cases::{bad_claims, bad_headers};

/// The expectations of a route without requirements of its own.
const EXPECTED: Expectations<'_> = Expectations { issuers: AllowedIssuers::All, audiences: AllowedAudiences::OfIssuer };
const ALGORITHMS: [Algorithm; 3] = [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa];

/// The verifier with the keys of one issuer, and the number of tokens tried.
struct Attack {
    trust: Trust,
    keys: Vec<SigningKey>,
    /// A valid token for each key.
    good: Vec<String>,
    tried: HashSet<String>,
    random: Random,
}

/// The same choices in every run.
struct Random(fastrand::Rng);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0.usize(..bound)
    }

    fn pick<'p, T>(&mut self, from: &'p [T]) -> &'p T {
        &from[self.below(from.len())]
    }
}

fn with(mut object: Value, name: &str, value: impl Into<Value>) -> Value {
    object[name] = value.into();
    object
}

fn parts(token: &str) -> [&str; 3] {
    let parts: Vec<&str> = token.split('.').collect();
    parts.try_into().unwrap()
}

fn decoded(part: &str) -> Vec<u8> {
    BASE64URL.decode(part).unwrap()
}

/// The token with one part replaced.
fn replaced(token: &str, place: usize, part: &str) -> String {
    let mut all = parts(token);
    all[place] = part;
    all.join(".")
}

/// The trust in one issuer that publishes these keys.
fn trust(settings: IssuerSettings, keys: &[SigningKey]) -> Trust {
    let public = keys.iter().map(|key| Arc::new(key.verifying_key().unwrap())).collect();
    let keys = Arc::new(KeyCache::own(KeySet::from_keys(public)));
    Trust::new(vec![Arc::new(TrustedIssuer { settings, keys, introspection: None })], Arc::default())
}

impl Attack {
    async fn new() -> Self {
        Self::of(&ALGORITHMS).await
    }

    /// With one key for each algorithm.
    async fn of(algorithms: &[Algorithm]) -> Self {
        Self::on(settings(), &claims(), algorithms).await
    }

    /// An issuer with these settings, and its valid tokens with these claims.
    async fn on(settings: IssuerSettings, claims: &Value, algorithms: &[Algorithm]) -> Self {
        let keys: Vec<SigningKey> = algorithms.iter().map(|one| SigningKey::generate(*one).unwrap().0).collect();
        let trust = trust(settings, &keys);
        let claims = claims.to_string();
        let good = keys.iter().map(|key| key.sign("JWT", claims.as_bytes()).unwrap()).collect();
        let attack = Self { trust, keys, good, tried: HashSet::default(), random: Random(fastrand::Rng::with_seed(7)) };
        attack.accepts_good_ones().await;
        attack
    }

    async fn accepts(&self, token: &str) -> bool {
        self.trust.verify(token, EXPECTED, UnixTime::from_seconds(NOW), &mut Unobserved).await.is_ok()
    }

    async fn accepts_good_ones(&self) {
        for token in &self.good {
            assert!(self.accepts(token).await, "a valid token is refused, so the other refusals prove nothing");
        }
    }

    /// Must be refused, unless it equals a valid token.
    async fn refuses(&mut self, token: String) {
        if self.good.contains(&token) || self.tried.contains(&token) {
            return;
        }
        assert!(!self.accepts(&token).await, "accepted:\n{token:.4000}");
        self.tried.insert(token);
    }

    /// Applies a change to every valid token.
    async fn each(&mut self, change: impl Fn(&str) -> Vec<String>) {
        for token in self.good.clone() {
            for changed in change(&token) {
                self.refuses(changed).await;
            }
        }
    }

    /// Signs the header and the claims with each key.
    async fn signed(&mut self, header: impl Fn(Value) -> String, claims: &str) {
        for place in 0..self.keys.len() {
            let key = &self.keys[place];
            let usual = json!({"typ": "JWT", "alg": key.algorithm().as_str(), "kid": key.key_id()});
            let token = key.sign_under(&header(usual), claims.as_bytes()).unwrap();
            self.refuses(token).await;
        }
    }

    /// Also tries them under the signature of a valid token.
    async fn rewritten(&mut self, header: impl Fn(Value) -> String + Copy, claims: &str) {
        self.each(|token| {
            let [old, _, signature] = parts(token);
            let header = header(serde_json::from_slice(&decoded(old)).unwrap());
            vec![[&BASE64URL.encode(header), &BASE64URL.encode(claims), signature].join(".")]
        })
        .await;
    }
}

fn flipped_characters(token: &str) -> Vec<String> {
    let flip = |place: usize, bit: u8| {
        let mut bytes = token.as_bytes().to_vec();
        bytes[place] ^= 1 << bit;
        String::from_utf8(bytes).unwrap()
    };
    (0..token.len()).flat_map(|place| (0..7).map(move |bit| flip(place, bit))).collect()
}

fn flipped_bits(token: &str) -> Vec<String> {
    let mut all = Vec::new();
    for (place, part) in parts(token).into_iter().enumerate() {
        let bytes = decoded(part);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            all.push(replaced(token, place, &BASE64URL.encode(flipped)));
        }
    }
    all
}

fn cut(token: &str) -> Vec<String> {
    let ends = (0..token.len()).flat_map(|at| [token[..at].to_owned(), token[at + 1..].to_owned()]);
    let holes = (0..token.len()).map(|at| format!("{}{}", &token[..at], &token[at + 1..]));
    let mut all: Vec<String> = ends.chain(holes).collect();
    for (place, part) in parts(token).into_iter().enumerate() {
        let bytes = decoded(part);
        all.extend((0..bytes.len()).map(|at| replaced(token, place, &BASE64URL.encode(&bytes[..at]))));
        all.extend((1..bytes.len()).map(|at| replaced(token, place, &BASE64URL.encode(&bytes[at..]))));
        all.push(replaced(token, place, &BASE64URL.encode([&bytes[..], &[0]].concat())));
        all.push(replaced(token, place, &BASE64URL.encode([&[0], &bytes[..]].concat())));
    }
    all
}

/// Other encodings of the same bytes.
fn other_encodings(token: &str) -> Vec<String> {
    let inserted = [" ", "\n", "\t", "=", ".", "+", "/", "%", "\0", "\u{fc}", "A"];
    let mut all: Vec<String> = (0..=token.len())
        .flat_map(|at| inserted.iter().map(move |text| format!("{}{text}{}", &token[..at], &token[at..])))
        .collect();
    all.extend([token.replace('-', "+").replace('_', "/") + "=", token.to_lowercase(), token.to_uppercase()]);
    all.extend([".", "..", ".AAAA", ".AAAA.AAAA", "=="].map(|tail| format!("{token}{tail}")));
    for (place, part) in parts(token).into_iter().enumerate() {
        let padding = "=".repeat((4 - part.len() % 4) % 4);
        all.push(replaced(token, place, &format!("{part}{padding}=")));
        all.push(replaced(token, place, &format!("{part}==")));
        all.push(replaced(token, place, ""));
        // The unused bits of the last character.
        let (head, last) = part.split_at(part.len() - 1);
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        all.extend(
            alphabet.chars().filter(|c| !last.starts_with(*c)).map(|c| replaced(token, place, &format!("{head}{c}"))),
        );
    }
    all
}

#[tokio::test]
async fn a_hundred_thousand_hostile_tokens_are_refused() {
    let mut attack = Attack::new().await;
    attack.each(flipped_characters).await;
    attack.each(flipped_bits).await;
    attack.each(cut).await;
    attack.each(other_encodings).await;
    exchanged_parts(&mut attack).await;
    let usual = |header: Value| header.to_string();
    for header in bad_headers() {
        attack.signed(&*header, &claims().to_string()).await;
        attack.rewritten(&*header, &claims().to_string()).await;
    }
    for claims in bad_claims(&claims(), &[]) {
        attack.signed(usual, &claims).await;
        attack.rewritten(usual, &claims).await;
    }
    public_keys_as_secrets(&mut attack).await;
    keys_supplied_by_the_token(&mut attack).await;
    edges_of_signatures(&mut attack).await;
    other_serialisations(&mut attack).await;
    random_changes(&mut attack, 60_000).await;
    attack.accepts_good_ones().await;
    let tried = attack.tried.len();
    assert!(tried >= 100_000, "only {tried} were tried");
}

/// Combines the parts of different valid tokens, and swaps the parts of one token.
async fn exchanged_parts(attack: &mut Attack) {
    let mut pool: Vec<String> = attack.good.clone();
    let others = with(claims(), "sub", "root").to_string();
    pool.extend(attack.keys.iter().map(|key| key.sign("at+jwt", others.as_bytes()).unwrap()));
    let all: Vec<String> = pool.iter().flat_map(|token| parts(token)).map(str::to_owned).collect();
    for first in &all {
        for second in &all {
            for third in &all {
                let token = [first.as_str(), second, third].join(".");
                if !pool.contains(&token) {
                    attack.refuses(token).await;
                }
            }
        }
    }
}

/// Every possible encoding of the public keys, used as an HMAC secret.
async fn public_keys_as_secrets(attack: &mut Attack) {
    let mut secrets: Vec<Vec<u8>> = vec![Vec::new(), b"secret".to_vec(), vec![0; 32]];
    for key in &attack.keys {
        let jwk = Value::Object(key.public_jwk().clone());
        let member = |name: &str| jwk[name].as_str().map(decoded).unwrap_or_default();
        let bytes = [member("n"), member("x"), member("y")].concat();
        let pem = pem::encode(&pem::Pem::new("PUBLIC KEY", bytes.clone()));
        secrets.extend([bytes, jwk.to_string().into_bytes(), key.key_id().as_bytes().to_vec()]);
        secrets.extend([pem.trim_end().as_bytes().to_vec(), format!(" {pem}").into_bytes(), pem.into_bytes()]);
    }
    for (name, algorithm) in [
        ("HS256", hmac::HMAC_SHA256),
        ("HS384", hmac::HMAC_SHA384),
        ("HS512", hmac::HMAC_SHA512),
        ("RS256", hmac::HMAC_SHA256),
        ("ES256", hmac::HMAC_SHA256),
    ] {
        for secret in &secrets {
            let ids: Vec<String> = attack.keys.iter().map(|key| key.key_id().to_owned()).collect();
            for id in ids {
                let header = json!({"typ": "JWT", "alg": name, "kid": id}).to_string();
                let input = format!("{}.{}", BASE64URL.encode(header), BASE64URL.encode(claims().to_string()));
                let tag = hmac::sign(&hmac::Key::new(algorithm, secret), input.as_bytes());
                attack.refuses(format!("{input}.{}", BASE64URL.encode(tag))).await;
            }
        }
    }
}

/// Valid signatures by a foreign key that the header supplies or refers to.
async fn keys_supplied_by_the_token(attack: &mut Attack) {
    for place in 0..attack.keys.len() {
        let algorithm = attack.keys[place].algorithm();
        let (evil, _) = SigningKey::generate(algorithm).unwrap();
        let jwk = Value::Object(evil.public_jwk().clone());
        let id = attack.keys[place].key_id().to_owned();
        for kid in [json!(id), json!(evil.key_id()), json!("jwk")] {
            let header = json!({"typ": "JWT", "alg": algorithm.as_str(), "kid": kid});
            let members = [
                ("jwk", jwk.clone()),
                ("x5c", json!([jwk["x"], jwk["n"]])),
                ("x5t", json!("AAAA")),
                ("jku", json!("http://127.0.0.1:1/jwks")),
                ("x5u", json!("file:///etc/passwd")),
                ("none", json!(1)),
            ];
            for (name, value) in members {
                let mut header = with(header.clone(), name, value);
                attack.refuses(evil.sign_under(&header.to_string(), claims().to_string().as_bytes()).unwrap()).await;
                header.as_object_mut().unwrap().remove("kid");
                attack.refuses(evil.sign_under(&header.to_string(), claims().to_string().as_bytes()).unwrap()).await;
            }
        }
    }
}

async fn other_serialisations(attack: &mut Attack) {
    attack
        .each(|token| {
            let [header, claims, signature] = parts(token);
            let flattened = json!({"protected": header, "payload": claims, "signature": signature});
            let general = json!({"payload": claims, "signatures": [{"protected": header, "signature": signature}]});
            let nested = json!({"typ": "JWT", "alg": "RS256", "cty": "JWT"}).to_string();
            let encrypted = BASE64URL.encode(r#"{"alg":"RSA-OAEP","enc":"A256GCM"}"#);
            vec![
                flattened.to_string(),
                general.to_string(),
                BASE64URL.encode(token),
                format!("{}.{}.{signature}", BASE64URL.encode(nested), BASE64URL.encode(token)),
                format!("{encrypted}.AAAA.AAAA.{}.AAAA", BASE64URL.encode(token)),
                format!("{header}.{claims}.{signature}.{signature}"),
                format!("{header}..{claims}.{signature}"),
                format!("{header}.{claims}..{signature}"),
                format!(".{token}"),
                format!("Bearer {token}"),
                format!("{token},{token}"),
                format!("{header}.{}.{signature}", "A".repeat(1 << 20)),
                format!(
                    "{header}.{}.{signature}",
                    BASE64URL.encode(format!("{{\"sub\":\"{}\"}}", "x".repeat(1 << 20)))
                ),
                ".".repeat(100_000),
            ]
        })
        .await;
}

/// A few random changes at once: to the text, to the bytes of a part or to the claims.
async fn random_changes(attack: &mut Attack, count: usize) {
    let values = ["admin", "root", "*", "https://api.example.com", "0", "\u{fc}"];
    for _ in 0..count {
        let token = attack.random.pick(&attack.good).clone();
        let place = attack.random.below(3);
        let changed = match attack.random.below(4) {
            0 => changed(&mut attack.random, token.into_bytes()),
            1 => {
                let bytes = changed(&mut attack.random, decoded(parts(&token)[place]).clone());
                replaced(&token, place, &BASE64URL.encode(bytes)).into_bytes()
            }
            2 => {
                let name = *attack.random.pick(&["sub", "azp", "scope", "jti", "exp", "nbf", "aud", "admin"]);
                let value = format!("{}{}", attack.random.pick(&values), attack.random.below(1 << 30));
                let value =
                    if ["exp", "nbf"].contains(&name) { json!(attack.random.below(1 << 40)) } else { json!(value) };
                let claims = with(claims(), name, value).to_string();
                replaced(&token, 1, &BASE64URL.encode(claims)).into_bytes()
            }
            _ => {
                let length = decoded(parts(&token)[2]).len();
                let signature: Vec<u8> = (0..length).map(|_| attack.random.below(256) as u8).collect();
                replaced(&token, 2, &BASE64URL.encode(signature)).into_bytes()
            }
        };
        attack.refuses(String::from_utf8_lossy(&changed).into_owned()).await;
    }
}

fn changed(random: &mut Random, mut bytes: Vec<u8>) -> Vec<u8> {
    for _ in 0..1 + random.below(4) {
        let at = random.below(bytes.len());
        match random.below(4) {
            0 => bytes[at] = random.below(256) as u8,
            1 => bytes.insert(at, random.below(128) as u8),
            2 if bytes.len() > 1 => drop(bytes.remove(at)),
            _ => {
                let other = random.below(bytes.len());
                bytes.swap(at, other);
            }
        }
    }
    bytes
}
