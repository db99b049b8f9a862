//! Compares client secrets with slow hashes, and limits how much of that each address may cause.
//!
//! A secret that matched before is recognised by its mark, without a slow hash. First uses and wrong secrets cannot be
//! told apart before the comparison, which takes 20 ms and 19 MiB. So addresses with repeated failures share a few
//! slots, and the other slots stay free for new clients.

use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use foldhash::quality::RandomState;
use tokio::sync::Semaphore;

use super::hash::ClientSecret;
use super::kept_secret::{KeptSecret, SecretMark, SecretMarker};
use crate::clock::UnixTime;
use crate::issuer::client_auth::claim::{Claim, Standing};
use crate::issuer::offload::{Busy, Offload};
use crate::network::counted_network;

#[derive(Debug)]
pub(crate) struct Passwords {
    offload: Offload,
    suspect_slots: Arc<Semaphore>,
    attempts: Attempts,
    marker: SecretMarker,
}

/// The secrets to compare. For an unknown client these are another client's, and the result is ignored.
type SecretClaim<'c> = Claim<'c, &'c [KeptSecret]>;

/// The number of comparisons that may wait or run for all addresses with repeated failures.
const SUSPECT_SLOTS: usize = 4;

impl Passwords {
    pub(crate) fn new(offload: Offload) -> Self {
        let suspect_slots = Arc::new(Semaphore::new(SUSPECT_SLOTS));
        Self { offload, suspect_slots, attempts: Attempts::new(), marker: SecretMarker::new() }
    }

    /// The position of a currently valid secret that matches any of the presented ones.
    pub(crate) async fn matching(
        &self,
        claim: SecretClaim<'_>,
        presented: Vec<ClientSecret>,
        now: UnixTime,
    ) -> Result<Option<usize>, Busy> {
        match (self.match_without_slow_hash(claim, &presented, now), claim.standing) {
            (Some(found), Standing::Good) => Ok(Some(found)),
            // The slow hashes are computed anyway, or the time would reveal the result.
            (found, _) => Ok(self.match_with_slow_hash(claim, presented, now).await?.or(found)),
        }
    }

    /// Compares without a slow hash.
    fn match_without_slow_hash(
        &self,
        claim: SecretClaim<'_>,
        presented: &[ClientSecret],
        now: UnixTime,
    ) -> Option<usize> {
        match_fast(claim, presented, &self.marks(claim, presented), now)
    }

    fn marks(&self, claim: SecretClaim<'_>, presented: &[ClientSecret]) -> Vec<SecretMark> {
        let is_slow = claim.kept.iter().any(|kept| kept.hash.is_slow());
        presented.iter().filter(|_| is_slow).map(|secret| self.marker.mark(claim.id, secret)).collect()
    }

    /// Compares the slow hashes that [`Self::match_without_slow_hash`] skipped. Every mismatch takes the same time: all
    /// fast hashes are compared, and then all slow ones.
    async fn match_with_slow_hash(
        &self,
        claim: SecretClaim<'_>,
        presented: Vec<ClientSecret>,
        now: UnixTime,
    ) -> Result<Option<usize>, Busy> {
        if !claim.kept.iter().any(|kept| kept.hash.is_slow()) {
            return Ok(None);
        }
        let attempt = self.attempts.begin(claim.from, now);
        let slot = if self.attempts.is_suspect(attempt, now) {
            let slot = Arc::clone(&self.suspect_slots).try_acquire_owned();
            Some(slot.map_err(|_| self.abandon(attempt, now))?)
        } else {
            None
        };
        let hashes: Vec<_> = claim.kept.iter().map(|kept| kept.hash.clone()).collect();
        let compare = move || {
            let mut found = Vec::new();
            for (position, hash) in hashes.iter().enumerate().filter(|(_, hash)| hash.is_slow()) {
                let mut matching = None;
                // All are compared: stopping at a match would reveal an expired secret, or one of another client.
                for (which, secret) in presented.iter().enumerate() {
                    matching = hash.matches(secret).then_some(which).or(matching);
                }
                found.extend(matching.map(|which| (position, which)));
            }
            // Held until the work has ended: a client that disconnects does not free the slot.
            drop(slot);
            (found, presented)
        };
        let compared = self.offload.run(compare).await;
        let (found, presented) = compared.map_err(|Busy| self.abandon(attempt, now))?;
        let good = found.into_iter().filter(|_| claim.standing != Standing::Unknown).find_map(|(position, which)| {
            let kept = claim.kept.get(position).filter(|kept| kept.validity.holds(now))?;
            Some((position, kept, presented.get(which)?))
        });
        Ok(good.map(|(position, kept, secret)| {
            if claim.standing == Standing::Good {
                self.attempts.uncount(attempt, now);
                kept.prove(self.marker.mark(claim.id, secret));
            }
            position
        }))
    }

    /// A refused attempt is not a failure.
    fn abandon(&self, attempt: Attempt, now: UnixTime) -> Busy {
        self.attempts.uncount(attempt, now);
        Busy
    }
}

/// Compares with the fast hashes, and with the marks of slow ones that matched before.
fn match_fast(
    claim: SecretClaim<'_>,
    presented: &[ClientSecret],
    marks: &[SecretMark],
    now: UnixTime,
) -> Option<usize> {
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

/// Counts failed and pending attempts by address and minute. Two addresses may share a count. Then both are limited
/// earlier, but never locked out.
struct Attempts {
    /// The minute in the upper bits, the count in the lower ones.
    counts: Box<[AtomicU32]>,
    /// Random for each process, so that clients cannot choose which addresses share a count.
    hasher: RandomState,
}

/// The index of a count.
#[derive(Clone, Copy, Debug)]
struct Attempt(usize);

const COUNTS: usize = 4096;
const COUNT_BITS: u32 = 12;
/// The number of failures in a minute, or of pending attempts, after which an address is suspect.
const FAILURES_BEFORE_SUSPECT: u32 = 4;

impl Attempts {
    fn new() -> Self {
        let counts = (0..COUNTS).map(|_| AtomicU32::new(0)).collect();
        Self { counts, hasher: RandomState::default() }
    }

    /// Counts an attempt before its result is known: all pending attempts may be wrong.
    fn begin(&self, from: IpAddr, now: UnixTime) -> Attempt {
        let attempt = Attempt(self.hasher.hash_one(counted_network(from)) as usize % COUNTS);
        self.change(attempt, now, |count| (count + 1).min((1 << COUNT_BITS) - 1));
        attempt
    }

    fn uncount(&self, attempt: Attempt, now: UnixTime) {
        self.change(attempt, now, |count| count.saturating_sub(1));
    }

    fn is_suspect(&self, attempt: Attempt, now: UnixTime) -> bool {
        self.counts
            .get(attempt.0)
            .is_some_and(|count| in_minute(count.load(Ordering::Relaxed), now) > FAILURES_BEFORE_SUSPECT)
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

/// The count, or 0 if it is of an earlier minute.
fn in_minute(count: u32, now: UnixTime) -> u32 {
    if count >> COUNT_BITS == minute(now) { count & ((1 << COUNT_BITS) - 1) } else { 0 }
}

#[cfg(test)]
mod tests;
