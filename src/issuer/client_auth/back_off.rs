//! Limits how often the credentials of a client are compared after repeated failures.
//!
//! Failures are counted for each pair of client id and address. So guesses from another address do not lock out the
//! real client, and a client that repeats an old secret does not lock out other clients at its address. Unknown ids are
//! counted in the same way, so that a refusal does not reveal which ids exist.
//!
//! Uses the monotonic clock: setting the system clock, or a request that began long ago, does not change a back-off.
//!
//! Both tables have a fixed size. When a pair loses its slot in the table of failures, its set remembers the count and
//! applies it to all pairs without a slot: displacing a pair never shortens its back-off. A pair without failures of
//! its own is delayed by that only if another attempt was let through within the same second.

use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use foldhash::quality::RandomState;

pub(crate) struct BackOff {
    failures: Box<[Mutex<FailureSet>]>,
    successes: Box<[Mutex<[Success; WAYS]>]>,
    /// Random for each process, so that clients cannot choose which pairs share a set.
    hasher: RandomState,
    begun: Instant,
}

/// A client id at an address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientAtAddress {
    failure_set: usize,
    /// Chosen by the client id alone, so that a client displaces mainly its own successes.
    success_set: usize,
    tag: u32,
}

/// Pairs that share a set of slots.
#[derive(Clone, Copy, Default)]
struct FailureSet {
    slots: [Failures; WAYS],
    /// The maximum of all displaced pairs. Applies to every pair without a slot.
    displaced: Failures,
}

/// Consecutive failures of a pair.
#[derive(Clone, Copy, Default)]
struct Failures {
    tag: u32,
    /// The second of the last failure, or of the last attempt that was let through.
    last: u32,
    count: u8,
    /// The number of attempts let through within that second.
    compared: u8,
}

#[derive(Clone, Copy, Default)]
struct Success {
    tag: u32,
    /// The second of the last recorded success; 0 for a free slot.
    last: u32,
}

const SETS: usize = 1 << 13;
const WAYS: usize = 8;
/// This many consecutive failures have no effect: a typing error, or a deployment in progress.
const FREE_ATTEMPTS: u8 = 10;
/// The count stops here.
const MAX_FAILURES: u8 = FREE_ATTEMPTS + 6;
const MAX_WAIT: Duration = Duration::from_secs(60);
/// After this many seconds without a failure, the count is reset.
const FORGET_AFTER: u32 = 600;
/// The number of attempts of a pair in back-off that are compared in each second.
const ATTEMPTS_PER_SECOND: u8 = 1;
/// The same for a pair with a recent success: behind a load balancer, the real client and an attacker may have the same
/// address.
const PROVEN_ATTEMPTS_PER_SECOND: u8 = 10;
const PROVEN_FOR: u32 = 24 * 3600;
/// A success is recorded again after this many seconds, not for every token request.
const RECORD_INTERVAL: u32 = 600;

impl BackOff {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            failures: (0..SETS).map(|_| Mutex::default()).collect(),
            successes: (0..SETS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::default(),
            begun: now,
        }
    }

    pub(crate) fn pair(&self, id: &str, network: IpAddr) -> ClientAtAddress {
        let hash = self.hasher.hash_one((id, network));
        let success_set = self.hasher.hash_one(id) as usize % SETS;
        ClientAtAddress { failure_set: hash as usize % SETS, success_set, tag: (hash >> 32) as u32 }
    }

    /// Whether an attempt of this pair may be compared now. In back-off, an attempt that may counts for the current
    /// second, whatever its result. The error is the remaining time of the back-off.
    pub(crate) fn admit(&self, pair: ClientAtAddress, now: Instant) -> Result<(), Duration> {
        let now = self.second(now);
        let mut set = self.failures(pair);
        let failures = set.of(pair, now);
        if !failures.is_live(now) || failures.count < FREE_ATTEMPTS {
            return Ok(());
        }
        failures.advance_to(now);
        let attempts_allowed = if failures.compared < ATTEMPTS_PER_SECOND {
            ATTEMPTS_PER_SECOND
        } else {
            self.attempts_allowed(pair, now)
        };
        if failures.compared >= attempts_allowed {
            return Err(failures.wait());
        }
        failures.compared += 1;
        Ok(())
    }

    pub(crate) fn failed(&self, pair: ClientAtAddress, now: Instant) {
        let now = self.second(now);
        let mut set = self.failures(pair);
        let failures = set.slot_for(pair, now);
        failures.count = (failures.count + 1).min(MAX_FAILURES);
        failures.advance_to(now);
    }

    pub(crate) fn succeeded(&self, pair: ClientAtAddress, now: Instant) {
        let now = self.second(now);
        if let Some(failures) = self.failures(pair).slot_of(pair) {
            *failures = Failures::default();
        }
        let mut successes = self.successes(pair);
        if successes.iter().any(|success| success.is_of(pair, now, RECORD_INTERVAL)) {
            return;
        }
        let own = successes.iter().position(|success| success.tag == pair.tag);
        let oldest = (0..WAYS).min_by_key(|slot| successes[*slot].last).unwrap_or_default();
        successes[own.unwrap_or(oldest)] = Success { tag: pair.tag, last: now };
    }

    /// Never 0, which marks a free slot.
    fn second(&self, now: Instant) -> u32 {
        1 + now.saturating_duration_since(self.begun).as_secs() as u32
    }

    /// Whether this pair has a recent success.
    pub(crate) fn has_succeeded(&self, pair: ClientAtAddress, now: Instant) -> bool {
        self.is_proven(pair, self.second(now))
    }

    fn is_proven(&self, pair: ClientAtAddress, now: u32) -> bool {
        self.successes(pair).iter().any(|success| success.is_of(pair, now, PROVEN_FOR))
    }

    fn attempts_allowed(&self, pair: ClientAtAddress, now: u32) -> u8 {
        if self.is_proven(pair, now) { PROVEN_ATTEMPTS_PER_SECOND } else { ATTEMPTS_PER_SECOND }
    }

    fn failures(&self, pair: ClientAtAddress) -> MutexGuard<'_, FailureSet> {
        self.failures[pair.failure_set].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn successes(&self, pair: ClientAtAddress) -> MutexGuard<'_, [Success; WAYS]> {
        self.successes[pair.success_set].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FailureSet {
    fn slot_of(&mut self, pair: ClientAtAddress) -> Option<&mut Failures> {
        self.slots.iter_mut().find(|failures| failures.count > 0 && failures.tag == pair.tag)
    }

    /// The failures that apply to this pair: its own, or those of the displaced pairs.
    fn of(&mut self, pair: ClientAtAddress, now: u32) -> &mut Failures {
        let slot = self.slots.iter().position(|failures| failures.tag == pair.tag && failures.is_live(now));
        match slot {
            Some(slot) => &mut self.slots[slot],
            None => &mut self.displaced,
        }
    }

    /// The slot of this pair, made if there is none. A new slot begins with the failures that applied so far.
    fn slot_for(&mut self, pair: ClientAtAddress, now: u32) -> &mut Failures {
        let live = |failures: &Failures| failures.is_live(now);
        if let Some(own) = self.slots.iter().position(|failures| failures.tag == pair.tag && live(failures)) {
            return &mut self.slots[own];
        }
        let rank = |failures: &Failures| if live(failures) { (failures.count, failures.last) } else { (0, 0) };
        let slot = (0..WAYS).min_by_key(|slot| rank(&self.slots[*slot])).unwrap_or_default();
        if !live(&self.displaced) {
            self.displaced = Failures::default();
        }
        let inherited = Failures { tag: pair.tag, ..self.displaced };
        let displaced = std::mem::replace(&mut self.slots[slot], inherited);
        if live(&displaced) {
            self.displaced.merge_displaced(displaced);
        }
        &mut self.slots[slot]
    }
}

impl Failures {
    fn is_live(&self, now: u32) -> bool {
        self.count > 0 && now.saturating_sub(self.last) < FORGET_AFTER
    }

    /// Begins another second. Never goes back: another thread may have read the clock later but called this earlier.
    fn advance_to(&mut self, now: u32) {
        if self.last < now {
            (self.last, self.compared) = (now, 0);
        }
    }

    /// The duration of the back-off, which doubles with each failure.
    fn wait(&self) -> Duration {
        let doublings = u32::from(self.count.saturating_sub(FREE_ATTEMPTS)).min(6);
        Duration::from_secs(1 << doublings).min(MAX_WAIT)
    }

    fn merge_displaced(&mut self, displaced: Self) {
        self.count = self.count.max(displaced.count);
        (self.last, self.compared) = (self.last, self.compared).max((displaced.last, displaced.compared));
    }
}

impl Success {
    fn is_of(&self, pair: ClientAtAddress, now: u32, within: u32) -> bool {
        self.tag == pair.tag && self.last > 0 && now.saturating_sub(self.last) < within
    }
}

impl std::fmt::Debug for BackOff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BackOff(..)")
    }
}

#[cfg(test)]
mod tests;
