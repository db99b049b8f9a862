//! Slow hashes: where they are computed, and who has to wait for whom.
//!
//! A secret that matched before is known by its mark and waits for nobody. What is left are first uses and wrong secrets, and
//! which is which shows only afterwards, at 20 ms and 19 MiB apiece. So they go by where they come from: an address whose
//! attempts keep failing has a few places and no more, and the rest stay free for clients that come for the first time.

use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use foldhash::quality::RandomState;
use tokio::sync::Semaphore;

use super::kept_secret::{KeptSecret, SecretMark, SecretMarker};
use super::offload::{Busy, Offload};
use super::secret::ClientSecret;
use crate::clock::UnixTime;
use crate::network::counted_network;

#[derive(Debug)]
pub(crate) struct Passwords {
    offload: Offload,
    doubtful: Arc<Semaphore>,
    attempts: Attempts,
    marker: SecretMarker,
}

/// Whose secrets are compared. An unknown client's stand-ins are compared in the same way, and nothing comes of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim<'c> {
    pub(crate) id: &'c str,
    pub(crate) standing: Standing,
    pub(crate) kept: &'c [KeptSecret],
    pub(crate) from: IpAddr,
}

/// What a right secret is good for. The work is the same in each case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Good,
    /// The client may not call from here. A match is told, for the audit log, and counts as a failure.
    Elsewhere,
    /// There is no such client: nothing matches.
    Unknown,
}

/// How many comparisons of addresses that keep failing may wait or run.
const DOUBTFUL: usize = 4;

impl Passwords {
    pub(crate) fn new(offload: Offload) -> Self {
        let doubtful = Arc::new(Semaphore::new(DOUBTFUL));
        Self { offload, doubtful, attempts: Attempts::new(), marker: SecretMarker::new() }
    }

    /// The position of the secret that any of the presented ones is, and that is good now.
    pub(crate) async fn matching(
        &self,
        claim: Claim<'_>,
        presented: Vec<ClientSecret>,
        now: UnixTime,
    ) -> Result<Option<usize>, Busy> {
        match (self.matching_at_once(claim, &presented, now), claim.standing) {
            (Some(found), Standing::Good) => Ok(Some(found)),
            // The slow hashes are computed all the same, or the time would tell.
            (found, _) => Ok(self.matching_slowly(claim, presented, now).await?.or(found)),
        }
    }

    /// As far as it can be told without a slow hash.
    fn matching_at_once(&self, claim: Claim<'_>, presented: &[ClientSecret], now: UnixTime) -> Option<usize> {
        quick(claim, presented, &self.marks(claim, presented), now)
    }

    fn marks(&self, claim: Claim<'_>, presented: &[ClientSecret]) -> Vec<SecretMark> {
        let is_slow = claim.kept.iter().any(|kept| kept.hash.is_slow());
        presented.iter().filter(|_| is_slow).map(|secret| self.marker.mark(claim.id, secret)).collect()
    }

    /// What [`Self::matching_at_once`] has not found. Whatever does not match costs the same: every fast hash is compared, and then
    /// every slow one.
    async fn matching_slowly(
        &self,
        claim: Claim<'_>,
        presented: Vec<ClientSecret>,
        now: UnixTime,
    ) -> Result<Option<usize>, Busy> {
        if !claim.kept.iter().any(|kept| kept.hash.is_slow()) {
            return Ok(None);
        }
        let attempt = self.attempts.begin(claim.from, now);
        let place = if self.attempts.are_doubtful(attempt, now) {
            let place = Arc::clone(&self.doubtful).try_acquire_owned();
            Some(place.map_err(|_| self.came_to_nothing(attempt, now))?)
        } else {
            None
        };
        let hashes: Vec<_> = claim.kept.iter().map(|kept| kept.hash.clone()).collect();
        let compare = move || {
            let mut found = Vec::new();
            for (position, hash) in hashes.iter().enumerate().filter(|(_, hash)| hash.is_slow()) {
                let mut matching = None;
                // All of them: a first match that ends the search would tell of an expired secret, or of one of another client.
                for (which, secret) in presented.iter().enumerate() {
                    matching = hash.matches(secret).then_some(which).or(matching);
                }
                found.extend(matching.map(|which| (position, which)));
            }
            // Kept until the work has ended: hanging up makes no room.
            drop(place);
            (found, presented)
        };
        let compared = self.offload.run(compare).await;
        let (found, presented) = compared.map_err(|Busy| self.came_to_nothing(attempt, now))?;
        let good = found.into_iter().filter(|_| claim.standing != Standing::Unknown).find_map(|(position, which)| {
            let kept = claim.kept.get(position).filter(|kept| kept.validity.holds(now))?;
            Some((position, kept, presented.get(which)?))
        });
        Ok(good.map(|(position, kept, secret)| {
            if claim.standing == Standing::Good {
                self.attempts.forgive(attempt, now);
                kept.prove(self.marker.mark(claim.id, secret));
            }
            position
        }))
    }

    /// Who was told to come back has not failed.
    fn came_to_nothing(&self, attempt: Attempt, now: UnixTime) -> Busy {
        self.attempts.forgive(attempt, now);
        Busy
    }
}

/// Among hashes that are fast, and slow ones that matched before.
fn quick(claim: Claim<'_>, presented: &[ClientSecret], marks: &[SecretMark], now: UnixTime) -> Option<usize> {
    let mut found = None;
    for (position, kept) in claim.kept.iter().enumerate() {
        let matches = if kept.hash.is_slow() {
            marks.iter().fold(false, |any, mark| any | kept.is_proven_by(mark))
        } else {
            presented.iter().fold(false, |any, secret| any | kept.hash.matches(secret))
        };
        let counts = matches & kept.validity.holds(now) & (claim.standing != Standing::Unknown);
        found = found.or(counts.then_some(position));
    }
    found
}

/// Attempts that did not turn out well, by address and minute. Two addresses may share a count: then both have fewer places,
/// and still some.
struct Attempts {
    /// The minute in the upper bits, the count in the lower ones.
    counts: Box<[AtomicU32]>,
    /// Of this process alone, so that nobody can choose whom to share a count with.
    hasher: RandomState,
}

/// The number of a count.
#[derive(Clone, Copy, Debug)]
struct Attempt(usize);

const COUNTS: usize = 4096;
const COUNT_BITS: u32 = 12;
/// An address may fail that often in a minute, or wait at the same time, before it is doubtful.
const TRUSTED: u32 = 4;

impl Attempts {
    fn new() -> Self {
        let counts = (0..COUNTS).map(|_| AtomicU32::new(0)).collect();
        Self { counts, hasher: RandomState::default() }
    }

    /// Counted before it is known how it ends: those that are under way may all be wrong.
    fn begin(&self, from: IpAddr, now: UnixTime) -> Attempt {
        let attempt = Attempt(self.hasher.hash_one(counted_network(from)) as usize % COUNTS);
        self.change(attempt, now, |count| (count + 1).min((1 << COUNT_BITS) - 1));
        attempt
    }

    fn forgive(&self, attempt: Attempt, now: UnixTime) {
        self.change(attempt, now, |count| count.saturating_sub(1));
    }

    fn are_doubtful(&self, attempt: Attempt, now: UnixTime) -> bool {
        self.counts.get(attempt.0).is_some_and(|count| in_minute(count.load(Ordering::Relaxed), now) > TRUSTED)
    }

    fn change(&self, attempt: Attempt, now: UnixTime, change: impl Fn(u32) -> u32) {
        let Some(count) = self.counts.get(attempt.0) else { return };
        let changed = |count| Some(minute(now) << COUNT_BITS | change(in_minute(count, now)));
        let _ = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, changed);
    }
}

impl std::fmt::Debug for Attempts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Attempts(..)")
    }
}

fn minute(now: UnixTime) -> u32 {
    (now.seconds() / 60) as u32 & (u32::MAX >> COUNT_BITS)
}

/// What an old minute has counted is forgotten.
fn in_minute(count: u32, now: UnixTime) -> u32 {
    if count >> COUNT_BITS == minute(now) { count & ((1 << COUNT_BITS) - 1) } else { 0 }
}

#[cfg(test)]
mod tests;
