//! A secret as the configuration keeps it: its hash, the time in which it is good, and the mark that it once matched.
//!
//! A secret outside its time of validity is compared like any other and never matches, so that a client cannot tell it
//! from a wrong one.

use std::sync::OnceLock;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;

use super::hash::{ClientSecret, SecretHash};
use crate::clock::UnixTime;

/// One of a client's secrets.
#[derive(Clone, Debug)]
pub(crate) struct KeptSecret {
    pub(crate) hash: SecretHash,
    pub(crate) validity: Validity,
    /// The mark of the secret that matched. Each configured hash has one, set only by a match, so that wrong secrets
    /// cannot fill memory or displace a mark.
    proven: OnceLock<SecretMark>,
}

/// The time of validity. `expires_at` is excluded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) not_before: Option<UnixTime>,
    pub(crate) expires_at: Option<UnixTime>,
}

/// A keyed hash of a secret. Without the key of this process it reveals nothing about the secret.
#[derive(Clone)]
pub(crate) struct SecretMark(hmac::Tag);

/// Makes [`SecretMark`]s by a fast keyed hash, so that the slow hash is computed once for each secret and process.
#[derive(Debug)]
pub(crate) struct SecretMarker(hmac::Key);

impl KeptSecret {
    pub(crate) fn new(hash: SecretHash, validity: Validity) -> Self {
        Self { hash, validity, proven: OnceLock::new() }
    }

    /// True if the secret with this mark has matched this hash before.
    pub(crate) fn is_proven_by(&self, mark: &SecretMark) -> bool {
        self.proven.get().is_some_and(|proven| verify_slices_are_equal(proven.0.as_ref(), mark.0.as_ref()).is_ok())
    }

    /// Notes the mark of an earlier configuration's secret with the same hash.
    pub(crate) fn take_over(&self, before: &Self) {
        before.proven.get().cloned().into_iter().for_each(|mark| self.prove(mark));
    }

    pub(crate) fn prove(&self, mark: SecretMark) {
        // Another request may have set the same mark before.
        let _ = self.proven.set(mark);
    }
}

impl Validity {
    pub(crate) fn holds(self, now: UnixTime) -> bool {
        self.not_before.is_none_or(|from| from <= now) && !self.is_over(now)
    }

    pub(crate) fn is_over(self, now: UnixTime) -> bool {
        self.expires_at.is_some_and(|until| until <= now)
    }
}

impl SecretMarker {
    pub(crate) fn new() -> Self {
        // If the random generator fails, the key is zero. The marks still never leave this process.
        let mut key = [0; 32];
        let _ = aws_lc_rs::rand::fill(&mut key);
        Self(hmac::Key::new(hmac::HMAC_SHA256, &key))
    }

    /// The mark of a secret that is presented for this client.
    pub(crate) fn mark(&self, client: &str, secret: &ClientSecret) -> SecretMark {
        let mut context = hmac::Context::with_key(&self.0);
        // A client id contains no zero byte, so that the separator is unambiguous.
        context.update(client.as_bytes());
        context.update(&[0]);
        context.update(secret.expose().as_bytes());
        SecretMark(context.sign())
    }
}

impl std::fmt::Debug for SecretMark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mark(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> ClientSecret {
        ClientSecret::new(text.to_owned())
    }

    #[test]
    fn a_secret_is_valid_from_its_first_instant_to_before_its_last() {
        let time = UnixTime::from_seconds;
        let validity = Validity { not_before: Some(time(10)), expires_at: Some(time(20)) };
        let good: Vec<u64> = (8..22).filter(|now| validity.holds(time(*now))).collect();
        assert_eq!(good, (10..20).collect::<Vec<_>>());
        assert!(Validity::default().holds(time(0)) && !Validity::default().is_over(time(u64::MAX)));
    }

    #[test]
    fn only_the_matching_secret_is_cached_for_its_client_only() {
        let marker = SecretMarker::new();
        let kept = KeptSecret::new(SecretHash::of(&secret("a")), Validity::default());
        assert!(!kept.is_proven_by(&marker.mark("app", &secret("a"))));
        kept.prove(marker.mark("app", &secret("a")));
        assert!(kept.is_proven_by(&marker.mark("app", &secret("a"))));
        for (client, other) in [("app", "b"), ("other", "a"), ("ap", "pa"), ("app", ""), ("app", "a\0")] {
            assert!(!kept.is_proven_by(&marker.mark(client, &secret(other))), "{client} {other}");
        }
        assert!(!kept.is_proven_by(&SecretMarker::new().mark("app", &secret("a"))), "another process remembers it");
    }
}
