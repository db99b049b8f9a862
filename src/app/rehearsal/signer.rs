//! The key of a rehearsal, which signs for every issuer in place of its own keys, and the values of its static tokens.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;

use super::kept_facts::KeptFacts;
use crate::clock;
use crate::issuer::ring::{Ring, RingKey};
use crate::issuer::rotation::{KeyRecord, SigningEnd};
use crate::jose::BASE64URL;
use crate::jose::algorithm::Algorithm;
use crate::jose::key_set::KeySet;
use crate::jose::signing::{SigningKey, SigningKeyFault};
use crate::trust::introspection::Introspection;
use crate::trust::issuer::{IssuerSettings, TrustedIssuer};
use crate::trust::key_cache::KeyCache;
use crate::trust::static_tokens::{StaticTokenSettings, StaticTokens, TokenHash};

/// Signs for every issuer of a rehearsal.
pub(super) struct Signer {
    pub(super) key: Arc<SigningKey>,
}

/// Of the tokens of a rehearsal.
pub(super) const LIFETIME: Duration = Duration::from_secs(3600);

impl Signer {
    pub(super) fn new(algorithm: Algorithm) -> Result<Self, SigningKeyFault> {
        let (key, _) = SigningKey::generate(algorithm)?;
        Ok(Self { key: Arc::new(key) })
    }

    /// The issuer, with the signer's key in place of its own, unless its own keys are among the facts. An issuer that
    /// would be asked about its tokens has JWTs of the signer instead; about a real token nothing is asked.
    pub(super) fn trusted(
        &self,
        mut settings: IssuerSettings,
        is_introspected: bool,
        facts: &KeptFacts,
    ) -> Result<Arc<TrustedIssuer>, SigningKeyFault> {
        if let Some(keys) = facts.keys.get(&settings.name) {
            return Ok(Arc::new(TrustedIssuer {
                settings,
                keys: Arc::new(KeyCache::local(Arc::clone(keys))),
                introspection: None,
            }));
        }
        if facts.has_real_token && is_introspected {
            let (keys, name) = (Arc::new(KeyCache::local(Arc::default())), settings.name.clone());
            let introspection = Some(Arc::new(Introspection::offline(name)));
            return Ok(Arc::new(TrustedIssuer { settings, keys, introspection }));
        }
        let algorithm = self.key.algorithm();
        if !facts.has_real_token && !settings.algorithms.contains(&algorithm) {
            settings.algorithms.push(algorithm);
        }
        let keys = KeySet::from_keys(vec![Arc::new(self.key.verifying_key()?)]);
        Ok(Arc::new(TrustedIssuer { settings, keys: Arc::new(KeyCache::own(keys)), introspection: None }))
    }

    pub(super) fn ring(&self) -> Ring {
        let now = clock::now();
        let record = KeyRecord {
            signs_until: SigningEnd::WithNext,
            key_id: self.key.key_id().to_owned(),
            thumbprint: None,
            algorithm: self.key.algorithm(),
            made_at: now,
            signs_from: now,
            token_ttl: LIFETIME,
            max_age: LIFETIME,
        };
        Ring::of_one(RingKey { key: Arc::clone(&self.key), certificate: None }, record)
    }
}

/// The static tokens of a configuration, with values of the rehearsal in place of their own, of which only hashes are known. A real
/// token is compared with the real values.
pub(super) fn static_tokens(settings: &[StaticTokenSettings], facts: &KeptFacts) -> StaticTokens {
    if facts.has_real_token {
        return StaticTokens::new(settings.to_vec(), None);
    }
    let known = |token: &StaticTokenSettings| {
        let hash = TokenHash::of(rehearsed_value(token.name.as_str()).as_bytes());
        StaticTokenSettings { hash, ..token.clone() }
    };
    StaticTokens::new(settings.iter().map(known).collect(), None)
}

pub(super) fn rehearsed_value(name: &str) -> String {
    format!("rehearsed-static-token-{}", BASE64URL.encode(name))
}
