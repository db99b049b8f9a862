//! Mutations of a good proof: none is accepted, none makes the check panic.

use std::cell::RefCell;
use std::sync::Arc;

use http::Request;
use http::header::HOST;
use serde_json::{Value, json};

use super::*;
use crate::jose::algorithm::Algorithm;
use crate::jose::signing::SigningKey;
use crate::pipeline::request::authority::Authority;
use crate::pipeline::request::path_forms::PathForms;
use crate::pipeline::routing::own_hosts::OwnHosts;
use crate::server::limits::Limits;
use crate::server::received_request::ReceivedHead;
use crate::trust::proof_replays::ProofReplays;
use crate::trust::proof_rules::DpopSettings;

const NOW: u64 = 1_800_000_000;

struct Attack {
    key: SigningKey,
    header: Value,
    claims: Value,
    rules: ProofRules,
    request: CanonicalRequest,
    random: fastrand::Rng,
}

impl Attack {
    fn new(algorithm: Algorithm) -> Self {
        let (key, _) = SigningKey::generate(algorithm).unwrap();
        let jwk = Value::Object(key.public_jwk().clone());
        let (head, ()) = Request::post("/oauth/token?a=b").header(HOST, "a.example").body(()).unwrap().into_parts();
        let head = ReceivedHead::from_hyper(head).unwrap();
        let forms = PathForms::default();
        let request = CanonicalRequest::new(&head, "https", &RefCell::default(), &Limits::default(), forms).unwrap();
        Self {
            header: json!({"typ": "dpop+jwt", "alg": algorithm.as_str(), "jwk": jwk}),
            claims: json!({"jti": "first", "htm": "POST", "htu": "https://a.example/oauth/token", "iat": NOW}),
            rules: ProofRules::following(DpopSettings::default(), None, None, UnixTime::from_seconds(NOW)),
            key,
            request,
            random: fastrand::Rng::with_seed(7),
        }
    }

    fn sign(&self, header: &str, claims: &str) -> String {
        self.key.sign_under(header, claims.as_bytes()).unwrap()
    }

    fn good(&self) -> String {
        self.sign(&self.header.to_string(), &self.claims.to_string())
    }

    fn checked(&self, proof: &[u8]) -> Result<Option<CheckedProof>, FailedProof> {
        let Ok(value) = HeaderValue::from_bytes(proof) else { return Err(FailedProof::invalid("", "")) };
        let headers = HeaderMap::from_iter([(DPOP, value)]);
        let authority = Authority::parse(b"a.example", "https").unwrap();
        let origin = PublicOrigin::new("https", &authority, None);
        let now = UnixTime::from_seconds(NOW);
        let hosts = ProofHosts { own: &OwnHosts::default(), of_route: &[] };
        let request =
            ProofRequest { rules: &self.rules, headers: &headers, request: &self.request, origin, hosts, now };
        // Without a store of several replicas it never waits.
        futures_util::FutureExt::now_or_never(request.check()).unwrap()
    }

    /// Whether the signature and all claims are good. A proof that was used before had them.
    fn passes(&self, proof: &[u8]) -> bool {
        match self.checked(proof) {
            Ok(_) => true,
            Err(failed) => failed.reason == ProofError::Replayed,
        }
    }

    fn mutated(&mut self, text: &[u8]) -> Vec<u8> {
        const SIGNS: &[u8] = b"ABab09-_.=+/\"{}[]:,\\ \0\xff";
        let mut bytes = text.to_vec();
        for _ in 0..self.random.usize(1..4) {
            let at = self.random.usize(..bytes.len());
            match self.random.u8(..5) {
                0 => bytes[at] ^= 1 << self.random.u8(..8),
                1 => bytes[at] = SIGNS[self.random.usize(..SIGNS.len())],
                2 => drop(bytes.remove(at)),
                3 => bytes.insert(at, SIGNS[self.random.usize(..SIGNS.len())]),
                _ => bytes.truncate(at.max(1)),
            }
            if bytes.is_empty() {
                bytes.push(b'a');
            }
        }
        bytes
    }
}

/// `PORTCULLIS_PROOF_MUTATIONS` asks for more.
fn count() -> usize {
    std::env::var("PORTCULLIS_PROOF_MUTATIONS").ok().and_then(|count| count.parse().ok()).unwrap_or(2400)
}

#[test]
fn a_good_proof_is_accepted_once() {
    let attack = Attack::new(Algorithm::Es256);
    let key = attack.checked(attack.good().as_bytes()).unwrap().unwrap().key;
    assert_eq!(key.to_base64url(), attack.key.thumbprint());
    let again = attack.checked(attack.good().as_bytes()).unwrap_err();
    assert_eq!(again.reason, ProofError::Replayed);
}

#[test]
fn a_proof_that_cannot_be_remembered_is_refused() {
    let mut attack = Attack::new(Algorithm::Es256);
    attack.rules.replays = Arc::new(ProofReplays::without_room());
    let refused = attack.checked(attack.good().as_bytes()).unwrap_err();
    assert_eq!(refused.reason, ProofError::NoRoom);
}

#[test]
fn a_client_gets_a_new_nonce_when_its_own_gets_old() {
    let mut attack = Attack::new(Algorithm::Es256);
    attack.rules.settings.nonce = true;
    let nonce_of = |attack: &Attack, seconds| attack.rules.nonces.current(UnixTime::from_seconds(seconds)).unwrap();
    for (age, expected) in [(0, None), (60, Some(nonce_of(&attack, NOW)))] {
        attack.claims["jti"] = json!(format!("{age}"));
        attack.claims["nonce"] = json!(nonce_of(&attack, NOW - age).to_str().unwrap());
        let checked = attack.checked(attack.good().as_bytes()).unwrap().unwrap();
        assert_eq!(checked.next_nonce, expected, "{age}");
    }
    attack.claims["nonce"] = json!(nonce_of(&attack, NOW - 120).to_str().unwrap());
    assert_eq!(attack.checked(attack.good().as_bytes()).unwrap_err().reason, ProofError::Nonce);
}

#[test]
fn no_mutation_of_a_proof_is_accepted() {
    for algorithm in [Algorithm::Es256, Algorithm::EdDsa] {
        let mut attack = Attack::new(algorithm);
        let good = attack.good().into_bytes();
        assert!(attack.passes(&good));
        for _ in 0..count() / 4 {
            let mutated = attack.mutated(&good);
            assert!(mutated == good || !attack.passes(&mutated), "{}", String::from_utf8_lossy(&mutated));
        }
    }
}

/// The signature is good: only the content is not.
#[test]
fn no_mutation_of_signed_claims_is_accepted() {
    let mut attack = Attack::new(Algorithm::EdDsa);
    let (header, good) = (attack.header.to_string(), attack.claims.to_string());
    let mut tried = 0;
    while tried < count() / 2 {
        let Ok(text) = String::from_utf8(attack.mutated(good.as_bytes())) else { continue };
        let read: Value = serde_json::from_str(&text).unwrap_or_default();
        let is_same = |name: &str| read[name].as_str().map(plain) == attack.claims[name].as_str().map(plain);
        // A proof with another `jti`, an `iat` of the same minute, or another spelling of the URL is good.
        if ["htm", "htu"].into_iter().all(is_same) {
            continue;
        }
        tried += 1;
        assert!(!attack.passes(attack.sign(&header, &text).as_bytes()), "{text}");
    }
}

/// Without the differences that two spellings of one URL may have.
fn plain(text: &str) -> String {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = host.strip_suffix('.').unwrap_or(host);
    format!("{}://{}{}", scheme.to_ascii_lowercase(), host.to_ascii_lowercase(), path.replace("/./", "/"))
}
