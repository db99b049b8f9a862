//! Limits how often the credentials of a client are compared after repeated failures.
//!
//! Counted by client id and address together: guesses from elsewhere do not lock the real client out, and a client with an old
//! secret in a loop does not lock out its neighbours behind the same address, which the endpoint's rate limit keeps apart.
//! Ids that do not exist are counted in the same way, so that a refusal does not tell which do.
//!
//! By the monotonic clock: neither a clock that is set nor a request that was begun long ago shortens a back-off or makes one last.
//!
//! Both tables are bounded. In that of failures, a pair that loses its place passes its count on to its set, whose pairs without a
//! place all have at least that: displacing a pair never shortens its back-off. A pair that has not failed since is held back by it
//! only if another attempt has used the set's turn within the same second.

use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use foldhash::quality::RandomState;

pub(crate) struct BackOff {
    failures: Box<[Mutex<FailureSet>]>,
    successes: Box<[Mutex<[Success; WAYS]>]>,
    /// Of this process alone, so that nobody can choose which pairs share a set.
    hasher: RandomState,
    begun: Instant,
}

/// A client id at an address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientAtAddress {
    failure_set: usize,
    /// By the client alone, so that a client can displace its own successes and few others'.
    success_set: usize,
    tag: u32,
}

/// Pairs that share their places.
#[derive(Clone, Copy, Default)]
struct FailureSet {
    places: [Failures; WAYS],
    /// Holds for every pair without a place: the most that any displaced pair had.
    displaced: Failures,
}

/// Failures in a row.
#[derive(Clone, Copy, Default)]
struct Failures {
    tag: u32,
    /// The second of the last one, or of the last attempt that was let through.
    last: u32,
    count: u8,
    /// Attempts that were let through within that second.
    compared: u8,
}

#[derive(Clone, Copy, Default)]
struct Success {
    tag: u32,
    /// The second of the last one that was noted; 0 is a free place.
    last: u32,
}

const SETS: usize = 1 << 13;
const WAYS: usize = 8;
/// As many in a row cost nothing: a slip, a deployment half done.
const FREE: u8 = 10;
/// More are not told apart.
const MOST: u8 = FREE + 6;
const LONGEST: Duration = Duration::from_secs(60);
/// After as long without a failure all is forgotten.
const FORGOTTEN_AFTER: u32 = 600;
/// How many attempts of a pair in back-off are compared each second.
const COMPARED: u8 = 1;
/// The same for a pair that has succeeded not long ago: behind a load balancer the real client and a stranger who guesses may
/// have one address.
const COMPARED_OF_PROVEN: u8 = 10;
const PROVEN_FOR: u32 = 24 * 3600;
/// A success is noted again after as long, not at every token request.
const NOTED_FOR: u32 = 600;

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

    /// Whether an attempt of this pair may be compared now. In back-off that takes one of the second's turns, however the
    /// comparison ends. If not, after how long the back-off will have ended.
    pub(crate) fn admit(&self, pair: ClientAtAddress, now: Instant) -> Result<(), Duration> {
        let now = self.second(now);
        let mut set = self.failures(pair);
        let failures = set.of(pair, now);
        if !failures.is_live(now) || failures.count < FREE {
            return Ok(());
        }
        failures.reach(now);
        let turns = if failures.compared < COMPARED { COMPARED } else { self.turns(pair, now) };
        if failures.compared >= turns {
            return Err(failures.wait());
        }
        failures.compared += 1;
        Ok(())
    }

    pub(crate) fn failed(&self, pair: ClientAtAddress, now: Instant) {
        let now = self.second(now);
        let mut set = self.failures(pair);
        let failures = set.place_for(pair, now);
        failures.count = (failures.count + 1).min(MOST);
        failures.reach(now);
    }

    pub(crate) fn succeeded(&self, pair: ClientAtAddress, now: Instant) {
        let now = self.second(now);
        if let Some(failures) = self.failures(pair).place_of(pair) {
            *failures = Failures::default();
        }
        let mut successes = self.successes(pair);
        if successes.iter().any(|success| success.is_of(pair, now, NOTED_FOR)) {
            return;
        }
        let own = successes.iter().position(|success| success.tag == pair.tag);
        let oldest = (0..WAYS).min_by_key(|place| successes[*place].last).unwrap_or_default();
        successes[own.unwrap_or(oldest)] = Success { tag: pair.tag, last: now };
    }

    /// Never 0, which is a free place.
    fn second(&self, now: Instant) -> u32 {
        1 + now.saturating_duration_since(self.begun).as_secs() as u32
    }

    fn turns(&self, pair: ClientAtAddress, now: u32) -> u8 {
        let is_proven = self.successes(pair).iter().any(|success| success.is_of(pair, now, PROVEN_FOR));
        if is_proven { COMPARED_OF_PROVEN } else { COMPARED }
    }

    fn failures(&self, pair: ClientAtAddress) -> MutexGuard<'_, FailureSet> {
        self.failures[pair.failure_set].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn successes(&self, pair: ClientAtAddress) -> MutexGuard<'_, [Success; WAYS]> {
        self.successes[pair.success_set].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FailureSet {
    fn place_of(&mut self, pair: ClientAtAddress) -> Option<&mut Failures> {
        self.places.iter_mut().find(|failures| failures.count > 0 && failures.tag == pair.tag)
    }

    /// What counts for this pair: its own failures, or those that hold for every pair without a place.
    fn of(&mut self, pair: ClientAtAddress, now: u32) -> &mut Failures {
        let place = self.places.iter().position(|failures| failures.tag == pair.tag && failures.is_live(now));
        match place {
            Some(place) => &mut self.places[place],
            None => &mut self.displaced,
        }
    }

    /// The place of this pair, or one that is made for it. There it begins with what has counted for it so far.
    fn place_for(&mut self, pair: ClientAtAddress, now: u32) -> &mut Failures {
        let live = |failures: &Failures| failures.is_live(now);
        if let Some(own) = self.places.iter().position(|failures| failures.tag == pair.tag && live(failures)) {
            return &mut self.places[own];
        }
        let rank = |failures: &Failures| if live(failures) { (failures.count, failures.last) } else { (0, 0) };
        let place = (0..WAYS).min_by_key(|place| rank(&self.places[*place])).unwrap_or_default();
        if !live(&self.displaced) {
            self.displaced = Failures::default();
        }
        let inherited = Failures { tag: pair.tag, ..self.displaced };
        let displaced = std::mem::replace(&mut self.places[place], inherited);
        if live(&displaced) {
            self.displaced.take_over(displaced);
        }
        &mut self.places[place]
    }
}

impl Failures {
    fn is_live(&self, now: u32) -> bool {
        self.count > 0 && now.saturating_sub(self.last) < FORGOTTEN_AFTER
    }

    /// Begins the turns of another second. Never goes back: another thread may have read the clock later and be here first.
    fn reach(&mut self, now: u32) {
        if self.last < now {
            (self.last, self.compared) = (now, 0);
        }
    }

    /// As long as the last failure makes it, and longer with each.
    fn wait(&self) -> Duration {
        let doublings = u32::from(self.count.saturating_sub(FREE)).min(6);
        Duration::from_secs(1 << doublings).min(LONGEST)
    }

    fn take_over(&mut self, displaced: Self) {
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
