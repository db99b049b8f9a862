//! The rules for DPoP proofs of a configuration, and what the process knows of proofs that were used.

use std::sync::Arc;
use std::time::Duration;

use super::proof_nonces::ProofNonces;
use super::proof_replays::ProofReplays;
use crate::clock::UnixTime;

/// `oauth.dpop`. It counts on all routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DpopSettings {
    /// Whether a proof must carry a nonce of this process.
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
}

impl Default for DpopSettings {
    fn default() -> Self {
        Self { nonce: false, max_age: Duration::from_secs(60) }
    }
}

impl ProofRules {
    /// The proofs that are used by the rules `before` stay used.
    pub(crate) fn following(settings: DpopSettings, before: Option<&Self>, now: UnixTime) -> Self {
        let max_age = settings.max_age.as_secs();
        match before {
            Some(Self { settings: _, replays, nonces }) => {
                replays.set_max_age(max_age, now);
                Self { settings, replays: Arc::clone(replays), nonces: Arc::clone(nonces) }
            }
            None => {
                let (replays, nonces) = (ProofReplays::new(max_age), ProofNonces::new());
                Self { settings, replays: Arc::new(replays), nonces: Arc::new(nonces) }
            }
        }
    }
}
