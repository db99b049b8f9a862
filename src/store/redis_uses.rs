//! The uses of assertions and DPoP proofs, which count once over all replicas, and the key of the DPoP nonces.

use std::time::Duration;

use super::redis_store::{RedisStore, StoreUnavailable};
use crate::oauth::caller::Digest;

/// The kinds of single-use credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SharedUse {
    Assertion,
    Proof,
}

impl SharedUse {
    fn prefix(self) -> &'static str {
        match self {
            Self::Assertion => "use",
            Self::Proof => "proof",
        }
    }
}

impl RedisStore {
    /// True if this is the first use. The store remembers it for `known_for`.
    pub(crate) async fn use_once(
        &self,
        what: SharedUse,
        digest: Digest,
        known_for: Duration,
    ) -> Result<bool, StoreUnavailable> {
        let key = self.key(&format!("{}:{:032x}", what.prefix(), digest.0));
        let millis = known_for.as_millis().max(1).to_string();
        let first: Option<String> = self
            .call(async move |mut connection| {
                redis::cmd("SET").arg(key).arg(1).arg("NX").arg("PX").arg(millis).query_async(&mut connection).await
            })
            .await?;
        Ok(first.is_some())
    }

    /// The key of the nonces of all replicas in an epoch. Stores `proposed` if there is none.
    pub(crate) async fn nonce_key(&self, epoch: &str, proposed: Vec<u8>) -> Result<Vec<u8>, StoreUnavailable> {
        let key = self.key(&format!("nonce-key:{epoch}"));
        self.call(async move |mut connection| {
            let mut both = redis::pipe();
            both.cmd("SET").arg(&key).arg(proposed).arg("NX").ignore();
            both.cmd("GET").arg(&key);
            both.query_async::<(Vec<u8>,)>(&mut connection).await.map(|(known,)| known)
        })
        .await
    }
}
