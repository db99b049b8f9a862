//! The rules for DPoP proofs of a configuration, and the record of used proofs.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;

use super::proof_nonces::ProofNonces;
use super::proof_replays::{MAX_AHEAD, ProofReplays, ProofUse};
use crate::clock::UnixTime;
use crate::jose::BASE64URL;
use crate::jose::dpop::ProofClaims;
use crate::oauth::caller::Digest;
use crate::oauth::confirmation::Thumbprint;
use crate::store::redis_store::{RedisStore, StoreUnavailable};
use crate::store::redis_uses::SharedUse;

/// The clocks of replicas may differ by this.
const CLOCKS_DIFFER: Duration = Duration::from_secs(60);

/// `oauth.dpop`. It counts on all routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DpopSettings {
    /// Whether a proof must carry a nonce of this process or, with a shared store, of the replicas.
    pub(crate) nonce: bool,
    /// The age at which a proof is refused, in whole seconds.
    pub(crate) max_age: Duration,
}

/// The settings of one configuration, with the memory that all configurations of the process share.
#[derive(Debug)]
pub(crate) struct ProofRules {
    pub(crate) settings: DpopSettings,
    pub(crate) replays: Arc<ProofReplays>,
    pub(crate) nonces: Arc<ProofNonces>,
    /// The store in which all replicas record used proofs. `None`: only this process records them.
    pub(crate) store: Option<RedisStore>,
}

impl DpopSettings {
    /// The longest `max_age`.
    pub(crate) const LONGEST_AGE: Duration = Duration::from_secs(300);
}

impl Default for DpopSettings {
    fn default() -> Self {
        Self { nonce: false, max_age: Duration::from_secs(60) }
    }
}

impl ProofRules {
    /// The proofs that are used by the rules `before` stay used.
    pub(crate) fn following(
        settings: DpopSettings,
        before: Option<&Self>,
        store: Option<&RedisStore>,
        now: UnixTime,
    ) -> Self {
        let max_age = settings.max_age.as_secs();
        match before {
            Some(Self { settings: _, replays, nonces, store }) => {
                replays.set_max_age(max_age, now);
                Self { settings, replays: Arc::clone(replays), nonces: Arc::clone(nonces), store: store.clone() }
            }
            None => {
                let shared = store.map(|store| ProofNonces::shared(store.clone()));
                let nonces = shared.unwrap_or_else(|| Arc::new(ProofNonces::new()));
                Self { settings, replays: Arc::new(ProofReplays::new(max_age)), nonces, store: store.cloned() }
            }
        }
    }

    /// Records the use of a proof with this key, in this process and for all replicas.
    pub(crate) async fn use_once(&self, key: Thumbprint, proof: &ProofClaims, now: UnixTime) -> ProofUse {
        let here = self.replays.use_once(key, &proof.id, now);
        match &self.store {
            Some(store) if here == ProofUse::First => self.use_once_at(store, key, proof, now).await,
            Some(_) | None => here,
        }
    }

    /// While the store is unreachable, a proof counts once at each process. With `nonce`, only nonces of this process
    /// are valid then.
    async fn use_once_at(&self, store: &RedisStore, key: Thumbprint, proof: &ProofClaims, now: UnixTime) -> ProofUse {
        let digest = Digest::of(&[&BASE64URL.encode(key.0), &proof.id]);
        // Another replica may have a longer `max_age`, or this one after its next reload.
        let known_for = DpopSettings::LONGEST_AGE + Duration::from_secs(MAX_AHEAD) + CLOCKS_DIFFER;
        let is_own = || proof.nonce.as_deref().is_some_and(|nonce| self.nonces.is_own(nonce, now));
        match store.use_once(SharedUse::Proof, digest, known_for).await {
            Ok(true) => ProofUse::First,
            Ok(false) => ProofUse::Repeated,
            Err(StoreUnavailable) if self.settings.nonce && !is_own() => ProofUse::StoreUnreachable,
            Err(StoreUnavailable) => ProofUse::First,
        }
    }
}
