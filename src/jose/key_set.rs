//! A set of verifying keys, as published by an issuer (RFC 7517 §5).

use std::sync::Arc;

use serde_json::Value;

use super::algorithm::Algorithm;
use super::header::KeyReference;
use super::jwk::{UnusableKey, VerifyingKey};

/// The usable keys of one issuer. Never empty if parsed from a document.
#[derive(Debug, Default)]
pub(crate) struct KeySet {
    keys: Vec<Arc<VerifyingKey>>,
}

/// A skipped key, for the operator.
#[derive(Clone, Debug)]
pub(crate) struct Skipped {
    pub(crate) key_id: Option<String>,
    pub(crate) reason: UnusableKey,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeySetFault {
    #[error("it is not a JWK Set")]
    Malformed,
    #[error("it has no usable key")]
    Empty,
}

/// The usable keys of a set that are used. Later ones are ignored.
const MAX_KEYS: usize = 64;
/// Further unusable keys are not reported: a set of 256 KiB may have tens of thousands.
const MAX_SKIPPED: usize = 64;

impl KeySet {
    /// Reads a JWK Set document. Unusable keys go to `skipped` with the reason, even if no usable key is left.
    pub(crate) fn parse(
        document: &[u8],
        allowed: &[Algorithm],
        skipped: &mut Vec<Skipped>,
    ) -> Result<Self, KeySetFault> {
        let document: Value = serde_json::from_slice(document).map_err(|_| KeySetFault::Malformed)?;
        let list = document.get("keys").and_then(Value::as_array).ok_or(KeySetFault::Malformed)?;
        let mut keys = Vec::new();
        for value in list {
            match VerifyingKey::from_jwk(value, allowed) {
                Ok(_) if keys.len() == MAX_KEYS => {
                    report(skipped, key_id(value), UnusableKey::BeyondLimit);
                    break;
                }
                Ok(key) => keys.push(Arc::new(key)),
                Err(reason) => report(skipped, key_id(value), reason),
            }
        }
        let set = Self { keys: without_ambiguous(keys, skipped) };
        if set.keys.is_empty() { Err(KeySetFault::Empty) } else { Ok(set) }
    }

    pub(crate) fn from_keys(keys: Vec<Arc<VerifyingKey>>) -> Self {
        Self { keys }
    }

    /// The one key that may have signed a token with this header. If the header names no key, or a certificate and no
    /// key of its algorithm has one, exactly one key must have the algorithm.
    pub(crate) fn find(&self, named: KeyReference<'_>, algorithm: Algorithm) -> Option<&Arc<VerifyingKey>> {
        let mut fitting = self.keys.iter().filter(|key| key.algorithm == algorithm);
        match named {
            KeyReference::Id(id) => fitting.find(|key| key.key_id.as_deref() == Some(id)),
            KeyReference::Certificate(named) if fitting.clone().any(|key| !key.certificate.is_unknown()) => {
                only(fitting.filter(|key| key.certificate.agrees(named)))
            }
            KeyReference::Certificate(_) | KeyReference::Unnamed => only(fitting),
        }
    }

    /// The keys that may have signed with this algorithm. A key without a name fits every name.
    pub(crate) fn fitting<'s>(
        &'s self,
        named: KeyReference<'s>,
        algorithm: Algorithm,
    ) -> impl Iterator<Item = &'s Arc<VerifyingKey>> {
        self.keys.iter().filter(move |key| key.algorithm == algorithm && may_be(key, named))
    }

    /// True if this exact key is still in the set. Another key with the same id does not count.
    pub(crate) fn holds(&self, key: &VerifyingKey) -> bool {
        self.keys.iter().any(|other| other.is_same(key))
    }

    /// True if both have the same keys under the same names.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let are_same = |(one, other): (&Arc<VerifyingKey>, &Arc<VerifyingKey>)| {
            one.key_id == other.key_id && one.certificate == other.certificate && one.is_same(other)
        };
        self.keys.len() == other.keys.len() && self.keys.iter().zip(&other.keys).all(are_same)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &VerifyingKey> {
        self.keys.iter().map(|key| &**key)
    }

    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }
}

/// True if the key may be the one that is named so.
fn may_be(key: &VerifyingKey, named: KeyReference<'_>) -> bool {
    match named {
        KeyReference::Id(id) => key.key_id.as_deref().is_none_or(|own| own == id),
        KeyReference::Certificate(named) => key.certificate.is_unknown() || key.certificate.agrees(named),
        KeyReference::Unnamed => true,
    }
}

fn only<'k>(mut keys: impl Iterator<Item = &'k Arc<VerifyingKey>>) -> Option<&'k Arc<VerifyingKey>> {
    keys.next().filter(|_| keys.next().is_none())
}

/// Removes keys with the same id and algorithm but different content: it is unclear which one is meant. One id may
/// stand for keys of several algorithms (RFC 7517 §4.5). The order stays.
fn without_ambiguous(keys: Vec<Arc<VerifyingKey>>, skipped: &mut Vec<Skipped>) -> Vec<Arc<VerifyingKey>> {
    let mut distinct: Vec<Arc<VerifyingKey>> = Vec::new();
    for key in keys {
        if !distinct.iter().any(|other| other.key_id == key.key_id && other.is_same(&key)) {
            distinct.push(key);
        }
    }
    let has_twin = |key: &VerifyingKey| distinct.iter().filter(|other| are_named_alike(key, other)).count() > 1;
    let (ambiguous, unambiguous): (Vec<_>, Vec<_>) = distinct.iter().cloned().partition(|key| has_twin(key));
    for (at, key) in ambiguous.iter().enumerate() {
        if !ambiguous.iter().take(at).any(|earlier| are_named_alike(key, earlier)) {
            report(skipped, key.key_id.as_deref().map(truncated), UnusableKey::Ambiguous);
        }
    }
    unambiguous
}

fn are_named_alike(key: &VerifyingKey, other: &VerifyingKey) -> bool {
    key.key_id.is_some() && key.key_id == other.key_id && key.algorithm == other.algorithm
}

fn report(skipped: &mut Vec<Skipped>, key_id: Option<String>, reason: UnusableKey) {
    if skipped.len() < MAX_SKIPPED {
        skipped.push(Skipped { key_id, reason });
    }
}

fn key_id(value: &Value) -> Option<String> {
    value.get("kid").and_then(Value::as_str).map(truncated)
}

/// The first 64 characters of a key id.
fn truncated(id: &str) -> String {
    id.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::super::jwk::certificate::CertificateReference;
    use super::super::signing::SigningKey;
    use super::*;
    use serde_json::json;

    fn jwk(algorithm: Algorithm, key_id: Option<&str>) -> Value {
        let (key, _) = SigningKey::generate(algorithm).unwrap();
        let mut jwk = Value::Object(key.public_jwk().clone());
        match key_id {
            Some(id) => jwk["kid"] = json!(id),
            None => drop(jwk.as_object_mut().unwrap().remove("kid")),
        }
        jwk
    }

    fn set(keys: &[Value]) -> Result<KeySet, KeySetFault> {
        parse(json!({ "keys": keys }).to_string().as_bytes()).0
    }

    fn parse(document: &[u8]) -> (Result<KeySet, KeySetFault>, Vec<Skipped>) {
        let mut skipped = Vec::new();
        (KeySet::parse(document, &Algorithm::ALL, &mut skipped), skipped)
    }

    #[test]
    fn a_key_is_found_by_its_id_for_its_own_algorithm_only() {
        let set = set(&[jwk(Algorithm::Es256, Some("a"))]).unwrap();
        assert!(set.find(KeyReference::Id("a"), Algorithm::Es256).is_some());
        assert!(set.find(KeyReference::Id("a"), Algorithm::Es384).is_none());
        assert!(set.find(KeyReference::Id("b"), Algorithm::Es256).is_none());
    }

    #[test]
    fn a_token_without_key_id_matches_a_single_key_only() {
        let one = set(&[jwk(Algorithm::Es256, Some("a")), jwk(Algorithm::EdDsa, None)]).unwrap();
        assert!(one.find(KeyReference::Unnamed, Algorithm::Es256).is_some());
        let two = set(&[jwk(Algorithm::Es256, Some("a")), jwk(Algorithm::Es256, Some("b"))]).unwrap();
        assert!(two.find(KeyReference::Unnamed, Algorithm::Es256).is_none());
    }

    /// A JWK with the thumbprints of a certificate.
    fn certified(algorithm: Algorithm, sha1: &str, sha256: Option<&str>) -> Value {
        let mut jwk = jwk(algorithm, Some(sha1));
        jwk["x5t"] = json!(sha1);
        if let Some(sha256) = sha256 {
            jwk["x5t#S256"] = json!(sha256);
        }
        jwk
    }

    /// The id of the key that a header with this certificate finds among those of ES256.
    fn by_certificate<'s>(set: &'s KeySet, sha1: Option<&str>, sha256: Option<&str>) -> Option<&'s str> {
        let named = KeyReference::Certificate(CertificateReference { sha1, sha256 });
        set.find(named, Algorithm::Es256).and_then(|key| key.key_id.as_deref())
    }

    #[test]
    fn a_certificate_finds_the_one_key_that_it_is_of() {
        let es256 = |sha1, sha256| certified(Algorithm::Es256, sha1, sha256);
        let bare = jwk(Algorithm::Es256, Some("bare"));
        let set = set(&[es256("A", Some("a")), es256("B", Some("b")), es256("C", None), bare]).unwrap();
        assert_eq!(by_certificate(&set, Some("A"), None), Some("A"));
        assert_eq!(by_certificate(&set, None, Some("b")), Some("B"));
        assert_eq!(by_certificate(&set, Some("B"), Some("b")), Some("B"));
        for (sha1, sha256) in
            [(Some("A"), Some("b")), (Some("C"), Some("c")), (Some("D"), None), (Some("a"), None), (Some(""), None)]
        {
            assert_eq!(by_certificate(&set, sha1, sha256), None, "{sha1:?} {sha256:?}");
        }
    }

    #[test]
    fn a_certificate_of_two_keys_finds_none() {
        let (one, mut other) = (certified(Algorithm::Es256, "A", None), certified(Algorithm::Es256, "A", None));
        other["kid"] = json!("other");
        assert_eq!(by_certificate(&set(&[one, other]).unwrap(), Some("A"), None), None);
    }

    #[test]
    fn a_certificate_finds_the_only_key_of_a_set_without_any() {
        let bare = |id| jwk(Algorithm::Es256, Some(id));
        let one = set(&[bare("a"), certified(Algorithm::EdDsa, "A", None)]).unwrap();
        assert_eq!(by_certificate(&one, Some("X"), None), Some("a"));
        assert_eq!(by_certificate(&set(&[bare("a"), bare("b")]).unwrap(), Some("X"), None), None);
    }

    /// RFC 7517 §4.5 allows it.
    #[test]
    fn one_id_may_stand_for_a_key_of_each_algorithm() {
        let set = set(&[jwk(Algorithm::Es256, Some("a")), jwk(Algorithm::EdDsa, Some("a"))]).unwrap();
        for algorithm in [Algorithm::Es256, Algorithm::EdDsa] {
            assert_eq!(set.find(KeyReference::Id("a"), algorithm).unwrap().algorithm, algorithm);
        }
    }

    #[test]
    fn different_keys_of_one_id_and_algorithm_are_both_refused() {
        let (first, second) = (jwk(Algorithm::Es256, Some("a")), jwk(Algorithm::Es256, Some("a")));
        assert_eq!(set(&[first.clone(), second.clone()]).err(), Some(KeySetFault::Empty));
        assert_eq!(set(&[first.clone(), first.clone()]).unwrap().len(), 1);
        let others = [jwk(Algorithm::Es256, Some("b")), jwk(Algorithm::EdDsa, Some("a"))];
        let document = json!({ "keys": [first, second, others[0], others[1]] }).to_string();
        let (set, skipped) = parse(document.as_bytes());
        let [twins] = &skipped[..] else { panic!("{skipped:?}") };
        assert_eq!((set.unwrap().len(), twins.key_id.as_deref(), twins.reason), (2, Some("a"), UnusableKey::Ambiguous));
    }

    #[test]
    fn bad_keys_do_not_cost_good_ones() {
        let keys = [
            json!(7),
            json!({"kty": "oct", "k": "AAAA"}),
            json!({"kty": "RSA", "kid": 7}),
            jwk(Algorithm::Es256, Some("good")),
        ];
        let document = json!({ "keys": keys }).to_string();
        let (set, skipped) = parse(document.as_bytes());
        assert_eq!((set.unwrap().len(), skipped.len()), (1, 3));
    }

    #[test]
    fn a_set_without_usable_keys_still_says_why() {
        let (set, skipped) = parse(br#"{"keys":[{"kty":"oct","k":"AAAA","kid":"a"}]}"#);
        assert_eq!(set.err(), Some(KeySetFault::Empty));
        assert_eq!(skipped[0].reason, UnusableKey::Symmetric);
    }

    #[test]
    fn documents_that_are_no_key_set_are_refused() {
        for document in ["", "{}", "<html>", r#"{"keys":{}}"#, r#"{"keys":[]}"#, r#"{"keys":["#, "[]"] {
            assert!(parse(document.as_bytes()).0.is_err(), "{document}");
        }
    }

    #[test]
    fn the_first_64_usable_keys_count() {
        let unusable = vec![json!({"kty": "XYZ"}); 100];
        let good: Vec<Value> = (0..66).map(|n| jwk(Algorithm::EdDsa, Some(&n.to_string()))).collect();
        let all = [unusable, good].concat();
        let document = json!({ "keys": all }).to_string();
        let (set, skipped) = parse(document.as_bytes());
        let set = set.unwrap();
        assert_eq!((set.len(), skipped.len()), (64, MAX_SKIPPED));
        assert!(set.find(KeyReference::Id("63"), Algorithm::EdDsa).is_some());
        assert!(set.find(KeyReference::Id("64"), Algorithm::EdDsa).is_none());
    }

    #[test]
    fn the_first_key_beyond_the_limit_is_reported() {
        let good: Vec<Value> = (0..66).map(|n| jwk(Algorithm::EdDsa, Some(&n.to_string()))).collect();
        let (_, skipped) = parse(json!({ "keys": good }).to_string().as_bytes());
        let [beyond] = &skipped[..] else { panic!("{skipped:?}") };
        assert_eq!((beyond.key_id.as_deref(), beyond.reason), (Some("64"), UnusableKey::BeyondLimit));
    }
}
