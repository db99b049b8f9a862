//! A set of verifying keys, as published by an issuer (RFC 7517 §5).

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use super::algorithm::Algorithm;
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
    #[error("it has more than {MAX_KEYS} keys")]
    TooMany,
    #[error("it has no usable key")]
    Empty,
}

const MAX_KEYS: usize = 64;

impl KeySet {
    /// Reads a JWK Set document. Unusable keys go to `skipped` with the reason, even if no usable key is left.
    pub(crate) fn parse(
        document: &[u8],
        allowed: &[Algorithm],
        skipped: &mut Vec<Skipped>,
    ) -> Result<Self, KeySetFault> {
        let document: Value = serde_json::from_slice(document).map_err(|_| KeySetFault::Malformed)?;
        let list = document.get("keys").and_then(Value::as_array).ok_or(KeySetFault::Malformed)?;
        if list.len() > MAX_KEYS {
            return Err(KeySetFault::TooMany);
        }
        let mut keys = Vec::new();
        for value in list {
            match VerifyingKey::from_jwk(value, allowed) {
                Ok(key) => keys.push(Arc::new(key)),
                Err(reason) => skipped.push(Skipped { key_id: key_id(value), reason }),
            }
        }
        let set = Self { keys: without_ambiguous(keys, skipped) };
        if set.keys.is_empty() { Err(KeySetFault::Empty) } else { Ok(set) }
    }

    pub(crate) fn from_keys(keys: Vec<Arc<VerifyingKey>>) -> Self {
        Self { keys }
    }

    /// The one key that may have signed a token with this header. A token without a key id matches only if exactly one
    /// key has its algorithm.
    pub(crate) fn find(&self, key_id: Option<&str>, algorithm: Algorithm) -> Option<&Arc<VerifyingKey>> {
        let Some(key_id) = key_id else {
            let mut fitting = self.keys.iter().filter(|key| key.algorithm == algorithm);
            return fitting.next().filter(|_| fitting.next().is_none());
        };
        self.keys.iter().find(|key| key.key_id.as_deref() == Some(key_id) && key.algorithm == algorithm)
    }

    /// True if this exact key is still in the set. Another key with the same id does not count.
    pub(crate) fn holds(&self, key: &VerifyingKey) -> bool {
        self.keys.iter().any(|other| other.thumbprint == key.thumbprint && other.algorithm == key.algorithm)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &VerifyingKey> {
        self.keys.iter().map(|key| &**key)
    }

    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }
}

/// Removes keys with the same id but different content: it is unclear which one is meant.
fn without_ambiguous(keys: Vec<Arc<VerifyingKey>>, skipped: &mut Vec<Skipped>) -> Vec<Arc<VerifyingKey>> {
    let mut by_id: HashMap<Option<Arc<str>>, Vec<Arc<VerifyingKey>>> = HashMap::new();
    for key in keys {
        let same = by_id.entry(key.key_id.clone()).or_default();
        if !same.iter().any(|other| other.thumbprint == key.thumbprint && other.algorithm == key.algorithm) {
            same.push(key);
        }
    }
    let (unambiguous, ambiguous): (Vec<_>, Vec<_>) =
        by_id.into_iter().partition(|(id, keys)| id.is_none() || keys.len() == 1);
    let reason = UnusableKey::Ambiguous;
    skipped.extend(ambiguous.into_iter().map(|(id, _)| Skipped { key_id: id.as_deref().map(truncated), reason }));
    unambiguous.into_iter().flat_map(|(_, keys)| keys).collect()
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
        assert!(set.find(Some("a"), Algorithm::Es256).is_some());
        assert!(set.find(Some("a"), Algorithm::Es384).is_none());
        assert!(set.find(Some("b"), Algorithm::Es256).is_none());
    }

    #[test]
    fn a_token_without_key_id_matches_a_single_key_only() {
        let one = set(&[jwk(Algorithm::Es256, Some("a")), jwk(Algorithm::EdDsa, None)]).unwrap();
        assert!(one.find(None, Algorithm::Es256).is_some());
        let two = set(&[jwk(Algorithm::Es256, Some("a")), jwk(Algorithm::Es256, Some("b"))]).unwrap();
        assert!(two.find(None, Algorithm::Es256).is_none());
    }

    #[test]
    fn different_keys_of_one_id_are_both_refused() {
        let (first, second) = (jwk(Algorithm::Es256, Some("a")), jwk(Algorithm::EdDsa, Some("a")));
        assert_eq!(set(&[first.clone(), second.clone()]).err(), Some(KeySetFault::Empty));
        assert_eq!(set(&[first.clone(), first.clone()]).unwrap().len(), 1);
        let document = json!({ "keys": [first, second, jwk(Algorithm::Es256, Some("b"))] }).to_string();
        let (set, skipped) = parse(document.as_bytes());
        let [twins] = &skipped[..] else { panic!("{skipped:?}") };
        assert_eq!((set.unwrap().len(), twins.key_id.as_deref(), twins.reason), (1, Some("a"), UnusableKey::Ambiguous));
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
    fn more_than_64_keys_are_refused() {
        assert_eq!(set(&vec![json!({}); 65]).err(), Some(KeySetFault::TooMany));
    }
}
