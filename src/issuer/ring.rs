//! The signing-key ring in memory: the current signing key and the published JWK Set.
//!
//! Immutable: a rotation makes a new ring. All keys are published, also those that do not sign yet.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::rotation::{self, KeyRecord};
use crate::clock::UnixTime;
use crate::jose::BASE64URL;
use crate::jose::algorithm::Algorithm;
use crate::jose::key_set::KeySet;
use crate::jose::signing::{SigningKey, SigningKeyFault};

/// The own signing keys.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ring {
    keys: Vec<RingKey>,
    records: Vec<KeyRecord>,
    /// Why rows of the database are not used, a text for each.
    left_aside: Vec<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct RingKey {
    pub(crate) key: Arc<SigningKey>,
    /// DER, for verifiers that want `x5c` (RFC 7517 §4.7).
    pub(crate) certificate: Option<Vec<u8>>,
}

impl Ring {
    /// `keys` and `records` describe the same keys in the same order. `None` if there are none.
    pub(crate) fn new(keys: Vec<RingKey>, records: Vec<KeyRecord>) -> Option<Self> {
        (!keys.is_empty() && keys.len() == records.len()).then_some(Self { keys, records, left_aside: Vec::new() })
    }

    /// A ring of this key alone.
    pub(crate) fn of_one(key: RingKey, record: KeyRecord) -> Self {
        Self { keys: vec![key], records: vec![record], left_aside: Vec::new() }
    }

    /// The same, beside rows of the database that are not used.
    pub(crate) fn beside(self, left_aside: Vec<String>) -> Self {
        Self { left_aside, ..self }
    }

    /// Why rows of the database are not used, a text for each.
    pub(crate) fn left_aside(&self) -> &[String] {
        &self.left_aside
    }

    /// The key that signs at `now`. `None` if no key may sign.
    pub(crate) fn signer(&self, now: UnixTime) -> Option<&Arc<SigningKey>> {
        let signer = &*rotation::signer(&self.records, now)?.key_id;
        self.keys.iter().find(|key| key.key.key_id() == signer).map(|key| &key.key)
    }

    /// Whether a key has no certificate.
    pub(crate) fn lacks_certificate(&self) -> bool {
        self.keys.iter().any(|key| key.certificate.is_none())
    }

    pub(crate) fn records(&self) -> &[KeyRecord] {
        &self.records
    }

    /// The algorithms of the published keys: of the one that signs, and of those before and after it.
    pub(crate) fn algorithms(&self) -> Vec<Algorithm> {
        let is_used = |algorithm: &Algorithm| self.records.iter().any(|record| record.algorithm == *algorithm);
        Algorithm::SIGNING.into_iter().filter(is_used).collect()
    }

    /// The JWK Set document (RFC 7517 §5).
    pub(crate) fn public_jwks(&self) -> Value {
        let jwks = self.published().map(|(key, key_id)| key.public_jwk(key_id));
        json!({ "keys": jwks.collect::<Vec<_>>() })
    }

    /// Every key, once for each of its ids.
    fn published(&self) -> impl Iterator<Item = (&RingKey, &str)> {
        let pairs = self.keys.iter().zip(&self.records);
        pairs.flat_map(|(key, record)| record.key_ids().map(move |key_id| (key, key_id)))
    }

    pub(crate) fn verifying_keys(&self) -> Result<KeySet, SigningKeyFault> {
        let keys = self.published().map(|(key, key_id)| {
            let mut verifying = key.key.verifying_key()?;
            verifying.key_id = Some(key_id.into());
            Ok(Arc::new(verifying))
        });
        Ok(KeySet::from_keys(keys.collect::<Result<_, _>>()?))
    }
}

/// The same keys have the same ids. Rows that are left aside count, because they are reported.
impl PartialEq for Ring {
    fn eq(&self, other: &Self) -> bool {
        let certificates = |ring: &Self| ring.keys.iter().map(|key| key.certificate.clone()).collect::<Vec<_>>();
        self.records == other.records
            && self.left_aside == other.left_aside
            && certificates(self) == certificates(other)
    }
}

impl RingKey {
    fn public_jwk(&self, key_id: &str) -> Value {
        let mut jwk = self.key.public_jwk().clone();
        jwk.insert("kid".to_owned(), json!(key_id));
        if let Some(certificate) = &self.certificate {
            jwk.insert("x5c".to_owned(), json!([STANDARD.encode(certificate)]));
            let thumbprint = BASE64URL.encode(digest(&SHA256, certificate));
            jwk.insert("x5t#S256".to_owned(), json!(thumbprint));
        }
        Value::Object(jwk)
    }
}
