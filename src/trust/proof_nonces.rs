//! The nonces that DPoP proofs carry (RFC 9449 §8, §9): a client can sign a proof only after it got one.
//!
//! A nonce is a MAC over the time, with a random key of this process. So nothing is stored, and the nonces of other
//! processes, which do not know the proofs that were used here, are not valid. It is good for one to two minutes.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use base64::Engine as _;
use http::HeaderValue;

use crate::clock::UnixTime;
use crate::jose::BASE64URL;

pub(crate) struct ProofNonces {
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

impl ProofNonces {
    pub(crate) fn new() -> Self {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok();
        Self { key, known: ArcSwapOption::empty() }
    }

    pub(crate) fn state(&self, nonce: &str, now: UnixTime) -> NonceState {
        match self.slot(now) {
            Some(slot) if slot.current == nonce => NonceState::Current,
            Some(slot) if slot.previous == nonce => NonceState::Previous,
            Some(_) | None => NonceState::Unknown,
        }
    }

    /// The nonce that clients get now.
    pub(crate) fn current(&self, now: UnixTime) -> Option<HeaderValue> {
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
        let keyless = ProofNonces { key: None, known: ArcSwapOption::empty() };
        assert_eq!((keyless.state("", now), keyless.current(now)), (NonceState::Unknown, None));
    }
}
