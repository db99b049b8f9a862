//! The nonces that DPoP proofs carry (RFC 9449 §8, §9): a client can sign a proof only after it got one.
//!
//! A nonce is a MAC over the time, with a random key of this process. So nothing is stored, and the nonces of other
//! processes, which do not know the proofs that were used here, are not valid. It is valid for one to two minutes.
//! Replicas that share a store have a common key, and know the proofs that were used at any of them. While the store is
//! unreachable, only the nonces of this process are valid.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::{self, SystemRandom};
use base64::Engine as _;
use http::HeaderValue;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::clock::UnixTime;
use crate::jose::BASE64URL;
use crate::store::redis_store::RedisStore;
use crate::store::shared_state::SharedState;

pub(crate) struct ProofNonces {
    own: NonceSource,
    shared: Option<SharedNonces>,
}

/// The nonces of all replicas.
struct SharedNonces {
    states: watch::Receiver<SharedState>,
    /// `None` until the common key is known.
    common: ArcSwapOption<CommonNonces>,
}

/// The nonces of one epoch of the store. In another epoch, the store does not know the proofs that were used with them.
struct CommonNonces {
    epoch: String,
    source: NonceSource,
}

/// The nonces of one key.
struct NonceSource {
    /// `None` if there are no random bytes: then no nonce is good.
    key: Option<hmac::Key>,
    /// The nonces of the time at which one was last asked for.
    known: ArcSwapOption<NonceSlot>,
}

/// The nonces of one minute.
#[derive(Debug)]
struct NonceSlot {
    number: u64,
    current: HeaderValue,
    previous: HeaderValue,
}

/// The state of a nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NonceState {
    Current,
    /// Still good. The client should take a new one.
    Previous,
    /// Too old, of another process, or no nonce at all.
    Unknown,
}

const SECONDS_PER_NONCE: u64 = 60;
const NONCE_BYTES: usize = 16;
const KEY_BYTES: usize = 32;
const RETRY_AFTER: Duration = Duration::from_millis(200);

impl ProofNonces {
    pub(crate) fn new() -> Self {
        Self { own: NonceSource::random(), shared: None }
    }

    /// Follows the store in the control plane.
    pub(crate) fn shared(store: RedisStore) -> Arc<Self> {
        let (control, states) = (store.control().clone(), store.state());
        let shared = SharedNonces { states: states.clone(), common: ArcSwapOption::empty() };
        let nonces = Arc::new(Self { own: NonceSource::random(), shared: Some(shared) });
        control.spawn(Arc::clone(&nonces).follow(store, states));
        nonces
    }

    /// Takes the key of each epoch, and creates it if there is none.
    async fn follow(self: Arc<Self>, store: RedisStore, mut states: watch::Receiver<SharedState>) {
        let Some(shared) = &self.shared else { return };
        loop {
            let epoch = reached(&states.borrow_and_update()).map(ToOwned::to_owned);
            let is_known = |epoch: &String| shared.common.load().as_ref().is_some_and(|known| known.epoch == *epoch);
            let Some(epoch) = epoch.filter(|epoch| !is_known(epoch)) else {
                if states.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let mut proposed = vec![0; KEY_BYTES];
            if rand::fill(&mut proposed).is_err() {
                return;
            }
            match store.nonce_key(&epoch, proposed).await {
                Ok(key) => shared.common.store(Some(Arc::new(CommonNonces { epoch, source: NonceSource::of(&key) }))),
                Err(_) => sleep(RETRY_AFTER).await,
            }
        }
    }

    pub(crate) fn state(&self, nonce: &str, now: UnixTime) -> NonceState {
        let own = self.own.state(nonce, now);
        match (self.common(), own) {
            (None, own) => own,
            (Some(common), NonceState::Unknown) => common.source.state(nonce, now),
            // Valid at this process only.
            (Some(_), NonceState::Current | NonceState::Previous) => NonceState::Previous,
        }
    }

    /// Whether no other process accepts this nonce.
    pub(super) fn is_own(&self, nonce: &str, now: UnixTime) -> bool {
        match self.own.state(nonce, now) {
            NonceState::Current | NonceState::Previous => true,
            NonceState::Unknown => false,
        }
    }

    /// The nonce that clients get now.
    pub(crate) fn current(&self, now: UnixTime) -> Option<HeaderValue> {
        match self.common() {
            Some(common) => common.source.current(now),
            None => self.own.current(now),
        }
    }

    /// The nonces of all replicas, if they are valid now.
    fn common(&self) -> Option<Arc<CommonNonces>> {
        let shared = self.shared.as_ref()?;
        let common = shared.common.load_full()?;
        let is_of_store = reached(&shared.states.borrow()) == Some(&common.epoch);
        is_of_store.then_some(common)
    }
}

/// The epoch of a store that is reached.
fn reached(state: &SharedState) -> Option<&str> {
    match state {
        SharedState::Reached { epoch, .. } => Some(epoch),
        SharedState::Unknown | SharedState::Lost { .. } => None,
    }
}

impl NonceSource {
    fn random() -> Self {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok();
        Self { key, known: ArcSwapOption::empty() }
    }

    fn of(key: &[u8]) -> Self {
        Self { key: Some(hmac::Key::new(hmac::HMAC_SHA256, key)), known: ArcSwapOption::empty() }
    }

    fn state(&self, nonce: &str, now: UnixTime) -> NonceState {
        match self.slot(now) {
            Some(slot) if slot.current == nonce => NonceState::Current,
            Some(slot) if slot.previous == nonce => NonceState::Previous,
            Some(_) | None => NonceState::Unknown,
        }
    }

    fn current(&self, now: UnixTime) -> Option<HeaderValue> {
        self.slot(now).map(|slot| slot.current.clone())
    }

    fn slot(&self, now: UnixTime) -> Option<Arc<NonceSlot>> {
        let number = now.seconds() / SECONDS_PER_NONCE;
        let known = self.known.load_full().filter(|slot| slot.number == number);
        known.or_else(|| {
            let (current, previous) = (self.nonce(number)?, self.nonce(number.checked_sub(1)?)?);
            let slot = Arc::new(NonceSlot { number, current, previous });
            self.known.store(Some(Arc::clone(&slot)));
            Some(slot)
        })
    }

    fn nonce(&self, number: u64) -> Option<HeaderValue> {
        let tag = hmac::sign(self.key.as_ref()?, &number.to_be_bytes());
        HeaderValue::try_from(BASE64URL.encode(tag.as_ref().get(..NONCE_BYTES)?)).ok()
    }
}

impl std::fmt::Debug for ProofNonces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ProofNonces(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_good_for_its_minute_and_the_next() {
        let nonces = ProofNonces::new();
        let begin = 1_800_000_000;
        let at = |seconds: u64| UnixTime::from_seconds(begin + seconds);
        let nonce = nonces.current(at(0)).unwrap();
        let state = |seconds| nonces.state(nonce.to_str().unwrap(), at(seconds));
        assert_eq!([0, 59].map(state), [NonceState::Current; 2]);
        assert_eq!([60, 119].map(state), [NonceState::Previous; 2]);
        assert_eq!([120, 3600].map(state), [NonceState::Unknown; 2]);
        assert_eq!(state(0), NonceState::Current);
    }

    #[test]
    fn a_nonce_of_another_process_is_unknown() {
        let now = UnixTime::from_seconds(1_800_000_000);
        let (one, other) = (ProofNonces::new(), ProofNonces::new());
        let nonce = other.current(now).unwrap();
        assert_eq!(one.state(nonce.to_str().unwrap(), now), NonceState::Unknown);
        assert_eq!(one.state("", now), NonceState::Unknown);
        let keyless = NonceSource { key: None, known: ArcSwapOption::empty() };
        let keyless = ProofNonces { own: keyless, shared: None };
        assert_eq!((keyless.state("", now), keyless.current(now)), (NonceState::Unknown, None));
    }
}
