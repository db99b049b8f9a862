//! The DPoP proofs that were used in this process, so that none is accepted twice (RFC 9449 §11.1).
//!
//! Takes the key and the `jti` of a proof. Says whether this is its first use. A use is remembered for at least as long
//! as the proof could be accepted. The memory is bounded; when it is full, it says so, and the proof must be refused.
//! All workers share it, and every configuration of the process.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::rand;
use foldhash::HashSet;

use crate::clock::UnixTime;
use crate::oauth::confirmation::Thumbprint;

#[derive(Debug)]
pub(crate) struct ProofReplays {
    shards: Vec<Mutex<ReplayShard>>,
    /// Random: no client can choose the shard of its proofs, and so fill one alone.
    seed: [u8; 32],
    /// Uses in each shard and window.
    room: usize,
    /// The seconds for which a use is known at least. It never shrinks.
    window: AtomicU64,
    /// Proofs of this second and of earlier ones may have been used and forgotten.
    forgotten: AtomicU64,
}

/// The uses since `began`, and those of the window before.
#[derive(Debug, Default)]
struct ReplayShard {
    current: HashSet<ProofDigest>,
    previous: HashSet<ProofDigest>,
    began: u64,
    /// The latest `iat` of a use that was forgotten.
    forgotten: u64,
}

type ProofDigest = [u8; 16];

/// Whether a proof was used before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProofUse {
    First,
    Repeated,
    /// It cannot be known: there is no room to note the use.
    NoRoom,
    /// Unknown: the proof has a nonce of all replicas, and their store is unreachable.
    StoreUnreachable,
}

const SHARDS: usize = 256;
/// In one window; over all shards 3,670,016. A set of so many is as full as it gets before it grows.
const USES_PER_SHARD: usize = 14_336;
/// Seconds that the `iat` of a proof may be ahead.
pub(crate) const MAX_AHEAD: u64 = 30;

impl ProofReplays {
    /// `max_age` is in seconds, as in the other functions.
    pub(crate) fn new(max_age: u64) -> Self {
        let shards = std::iter::repeat_with(Mutex::default).take(SHARDS).collect();
        let (window, forgotten) = (AtomicU64::new(max_age + MAX_AHEAD), AtomicU64::new(0));
        let mut seed = [0; 32];
        // Without random bytes the digest is good all the same.
        let _ = rand::fill(&mut seed);
        Self { shards, seed, room: USES_PER_SHARD, window, forgotten }
    }

    #[cfg(test)]
    pub(crate) fn without_room() -> Self {
        Self { room: 0, ..Self::new(60) }
    }

    /// Proofs are accepted up to this age from now on.
    pub(crate) fn set_max_age(&self, max_age: u64, now: UnixTime) {
        let before = self.window.fetch_max(max_age + MAX_AHEAD, Ordering::Relaxed);
        if max_age + MAX_AHEAD > before {
            // Uses from before the former window are forgotten.
            let forgotten = (now.seconds() + MAX_AHEAD).saturating_sub(before);
            self.forgotten.fetch_max(forgotten, Ordering::Relaxed);
        }
    }

    /// The latest `iat` of a proof whose use may be forgotten, although it is young enough.
    pub(crate) fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::Relaxed)
    }

    /// Notes the use of the proof with this key and `jti`.
    pub(crate) fn use_once(&self, key: Thumbprint, id: &str, now: UnixTime) -> ProofUse {
        let digest = proof_digest(&self.seed, key, id);
        let Some(shard) = self.shards.get(usize::from(digest[0]) % SHARDS) else { return ProofUse::NoRoom };
        let window = self.window.load(Ordering::Relaxed);
        // A thread that panicked has left a set that is whole.
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let noted = shard.use_once(digest, now.seconds(), (window, self.room));
        // Such proofs are too old by then, unless the clock is set back.
        if shard.forgotten > self.forgotten() {
            self.forgotten.fetch_max(shard.forgotten, Ordering::Relaxed);
        }
        noted
    }
}

impl ReplayShard {
    fn use_once(&mut self, digest: ProofDigest, now: u64, (window, room): (u64, usize)) -> ProofUse {
        let age = now.saturating_sub(self.began);
        let began = self.began;
        if age > window {
            self.forgotten = self.forgotten.max(began + MAX_AHEAD);
            self.previous = std::mem::take(&mut self.current);
            self.began = now;
        }
        if age > 2 * window {
            self.forgotten = began + window + MAX_AHEAD;
            self.previous = HashSet::default();
        }
        if self.current.contains(&digest) || self.previous.contains(&digest) {
            return ProofUse::Repeated;
        }
        if self.current.len() >= room {
            return ProofUse::NoRoom;
        }
        self.current.insert(digest);
        ProofUse::First
    }
}

/// Seed and key have a fixed length, so that no two pairs are one text.
fn proof_digest(seed: &[u8; 32], key: Thumbprint, id: &str) -> ProofDigest {
    let mut context = Context::new(&SHA256);
    context.update(seed);
    context.update(&key.0);
    context.update(id.as_bytes());
    let mut digest = ProofDigest::default();
    digest.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;
    const KEY: Thumbprint = Thumbprint([1; 32]);

    fn at(seconds: u64) -> UnixTime {
        UnixTime::from_seconds(seconds)
    }

    #[test]
    fn a_proof_counts_once_for_its_key() {
        let replays = ProofReplays::new(60);
        assert_eq!(replays.use_once(KEY, "a", at(NOW)), ProofUse::First);
        assert_eq!(replays.use_once(KEY, "a", at(NOW)), ProofUse::Repeated);
        assert_eq!(replays.use_once(KEY, "b", at(NOW)), ProofUse::First);
        assert_eq!(replays.use_once(Thumbprint([2; 32]), "a", at(NOW)), ProofUse::First);
    }

    #[test]
    fn no_client_can_choose_the_shard_of_its_proofs() {
        let [one, other] = [ProofReplays::new(60), ProofReplays::new(60)];
        let digests = |replays: &ProofReplays| ["a", "b"].map(|id| proof_digest(&replays.seed, KEY, id));
        assert_eq!(digests(&one), digests(&one));
        assert_ne!(digests(&one), digests(&other));
    }

    #[test]
    fn a_use_is_known_for_the_window_and_forgotten_after_two() {
        for (first, again, expected) in [
            (NOW, NOW + 90, ProofUse::Repeated),
            (NOW + 89, NOW + 179, ProofUse::Repeated),
            (NOW + 89, NOW + 92, ProofUse::Repeated),
            (NOW, NOW + 181, ProofUse::First),
            (NOW, NOW - 3600, ProofUse::Repeated),
        ] {
            let mut shard = ReplayShard::default();
            shard.use_once([1; 16], NOW, (90, USES_PER_SHARD));
            assert_eq!(shard.use_once([2; 16], first, (90, USES_PER_SHARD)), ProofUse::First);
            assert_eq!(shard.use_once([2; 16], again, (90, USES_PER_SHARD)), expected, "{again}");
        }
    }

    #[test]
    fn proofs_are_not_revived_by_a_clock_that_goes_on_and_back() {
        let replays = ProofReplays::new(60);
        let uses = |first: u64, second: u64| {
            (first..second).step_by(30).for_each(|now| {
                (0..SHARDS)
                    .for_each(|id| assert_eq!(replays.use_once(KEY, &format!("{now} {id}"), at(now)), ProofUse::First));
            })
        };
        uses(NOW, NOW + 400);
        // Uses that are forgotten in the usual course are too old.
        assert!(replays.forgotten() < NOW + 400 - 60, "{}", replays.forgotten());
        assert_eq!(replays.use_once(KEY, "a", at(NOW + 400)), ProofUse::First);
        uses(NOW + 4000, NOW + 4001);
        // Refused by its `iat`, which may be 30 s ahead.
        let is_known = replays.use_once(KEY, "a", at(NOW + 400)) == ProofUse::Repeated;
        assert!(is_known || replays.forgotten() >= NOW + 430, "{}", replays.forgotten());
    }

    #[test]
    fn a_full_shard_accepts_no_proof() {
        let mut shard = ReplayShard::default();
        let digest = |number: u32| {
            let mut digest = ProofDigest::default();
            digest[..4].copy_from_slice(&number.to_be_bytes());
            digest
        };
        let full = u32::try_from(USES_PER_SHARD).unwrap();
        assert!((0..full).all(|number| shard.use_once(digest(number), NOW, (90, USES_PER_SHARD)) == ProofUse::First));
        assert_eq!(shard.use_once(digest(full), NOW, (90, USES_PER_SHARD)), ProofUse::NoRoom);
        assert_eq!(shard.use_once(digest(0), NOW, (90, USES_PER_SHARD)), ProofUse::Repeated);
        assert_eq!(shard.use_once(digest(full), NOW + 91, (90, USES_PER_SHARD)), ProofUse::First);
    }

    #[test]
    fn a_longer_age_does_not_revive_proofs_that_were_forgotten() {
        let replays = ProofReplays::new(60);
        replays.set_max_age(30, at(NOW));
        assert_eq!(replays.forgotten(), 0);
        replays.set_max_age(300, at(NOW));
        // A proof of that time could have been used 90 s ago.
        assert_eq!(replays.forgotten(), NOW - 60);
        replays.set_max_age(60, at(NOW + 9));
        replays.set_max_age(300, at(NOW + 9));
        assert_eq!(replays.forgotten(), NOW - 60);
    }
}
