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
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    /// A table with the seconds since it was made.
    struct Table(BackOff);

    impl Table {
        fn new() -> Self {
            Self(BackOff::new(crate::clock::instant()))
        }

        fn at(&self, second: u64) -> Instant {
            self.0.begun + Duration::from_secs(second)
        }

        fn home(&self) -> ClientAtAddress {
            self.0.pair("app", HOME)
        }

        fn fail(&self, pair: ClientAtAddress, times: usize, second: u64) {
            (0..times).for_each(|_| self.0.failed(pair, self.at(second)));
        }

        /// How many of a thousand attempts are compared in this second, if all fail.
        fn compared(&self, pair: ClientAtAddress, second: u64) -> usize {
            let admitted = (0..1000).filter(|_| {
                let is_admitted = self.0.admit(pair, self.at(second)).is_ok();
                if is_admitted {
                    self.0.failed(pair, self.at(second));
                }
                is_admitted
            });
            admitted.count()
        }
    }

    #[test]
    fn ten_failures_in_a_row_cost_nothing_and_then_one_attempt_a_second_is_compared() {
        let table = Table::new();
        let pair = table.home();
        assert_eq!(table.compared(pair, 0), 11);
        for second in [1, 2, 3, 60, 300, 899] {
            assert_eq!(table.compared(pair, second), 1, "{second}");
        }
        assert_eq!(table.compared(pair, 899 + u64::from(FORGOTTEN_AFTER)), 11, "ten minutes without a failure");
    }

    #[test]
    fn attempts_under_way_have_taken_their_turn() {
        let table = Table::new();
        let pair = table.home();
        table.fail(pair, 10, 0);
        assert!(table.0.admit(pair, table.at(1)).is_ok());
        assert!(table.0.admit(pair, table.at(1)).is_err(), "the first has not ended");
        assert!(table.0.admit(pair, table.at(2)).is_ok());
    }

    #[test]
    fn a_pair_that_has_succeeded_within_a_day_has_ten_attempts_a_second() {
        let table = Table::new();
        let pair = table.home();
        table.0.succeeded(pair, table.at(0));
        table.fail(pair, 10, 10);
        for (second, compared) in [(11, 10), (12, 10), (24 * 3600 - 2, 10), (24 * 3600 + 1, 1)] {
            table.fail(pair, 10, second - 1);
            assert_eq!(table.compared(pair, second), compared, "{second}");
        }
        let elsewhere = table.0.pair("app", IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));
        table.fail(elsewhere, 10, 20);
        assert_eq!(table.compared(elsewhere, 21), 1, "the same client at another address");
    }

    #[test]
    fn the_wait_that_is_asked_for_grows_to_a_minute() {
        let table = Table::new();
        let pair = table.home();
        table.fail(pair, 10, 0);
        for wait in [1, 2, 4, 8, 16, 32, 60, 60] {
            // The second's turn is taken.
            let _ = table.0.admit(pair, table.at(1));
            assert_eq!(table.0.admit(pair, table.at(1)), Err(Duration::from_secs(wait)));
            table.fail(pair, 1, 1);
        }
    }

    #[test]
    fn a_success_ends_it() {
        let table = Table::new();
        let pair = table.home();
        table.fail(pair, 50, 0);
        table.0.succeeded(pair, table.at(1));
        assert_eq!(table.compared(pair, 1), 10 + 10, "ten that cost nothing, and ten in the second");
    }

    #[test]
    fn a_client_is_not_locked_out_by_guesses_from_elsewhere_nor_its_neighbours_by_its_own() {
        let table = Table::new();
        let real = table.home();
        for number in 0..10_000_u32 {
            let stranger = table.0.pair("app", IpAddr::V4(number.into()));
            table.fail(stranger, 20, 0);
            assert!(table.0.admit(real, table.at(u64::from(number))).is_ok());
        }
        assert!(table.0.admit(table.0.pair("other", HOME), table.at(0)).is_ok());
    }

    #[test]
    fn a_request_that_was_begun_long_ago_does_not_shorten_the_back_off() {
        let table = Table::new();
        let pair = table.home();
        table.fail(pair, 20, 10);
        assert_eq!(table.compared(pair, 10), 1);
        for earlier in [0, 1, 9] {
            assert_eq!(table.compared(pair, earlier), 0, "{earlier}");
        }
        assert_eq!(table.compared(pair, 11), 1);
    }

    /// Another pair whose failures are counted in the same set.
    fn neighbours(table: &Table, pair: ClientAtAddress) -> impl Iterator<Item = ClientAtAddress> {
        let all = (0_u32..).map(|number| table.0.pair(&number.to_string(), HOME));
        all.filter(move |other| other.failure_set == pair.failure_set)
    }

    #[test]
    fn failures_of_others_in_the_same_set_never_shorten_a_back_off() {
        let table = Table::new();
        let pair = table.home();
        table.fail(pair, 10, 0);
        let mut compared = 0;
        for (number, other) in neighbours(&table, pair).take(40).enumerate() {
            // Each displaces the one with the fewest failures, which is the pair before long.
            table.fail(other, 1 + number % 15, 0);
            if number % 2 == 0 {
                table.0.succeeded(other, table.at(0));
            }
            compared += table.compared(pair, 0);
        }
        assert_eq!(compared, 1);
        assert_eq!(table.compared(pair, 1), 1);
    }

    #[test]
    fn a_real_client_in_a_crowded_set_has_its_turn_as_soon_as_nobody_else_has_it() {
        let table = Table::new();
        let real = table.home();
        for other in neighbours(&table, real).take(40) {
            table.fail(other, 20, 0);
        }
        assert!(table.0.admit(real, table.at(1)).is_ok(), "its first attempt ever");
        table.0.succeeded(real, table.at(1));
        assert_eq!((0..1000).filter(|_| table.0.admit(real, table.at(2)).is_ok()).count(), 10);
    }

    #[test]
    fn a_client_at_many_addresses_displaces_no_other_clients_successes() {
        let table = Table::new();
        let real = table.home();
        table.0.succeeded(real, table.at(0));
        let is_apart = |id: &String| table.0.pair(id, HOME).success_set != real.success_set;
        let id = (0..).map(|number: u32| number.to_string()).find(is_apart).unwrap();
        for number in 0..100_000_u32 {
            table.0.succeeded(table.0.pair(&id, IpAddr::V4(number.into())), table.at(1));
        }
        table.fail(real, 10, 1);
        assert_eq!(table.compared(real, 2), 10);
    }

    proptest! {
        /// Whatever a crowd of pairs in one set does, none has fewer failures against it than it has had.
        #[test]
        fn no_failure_is_lost_in_a_crowd(steps in prop::collection::vec((0_usize..20, 0_u8..8), 1..400)) {
            let table = Table::new();
            let pairs: Vec<ClientAtAddress> = neighbours(&table, table.home()).take(20).collect();
            let mut failed: HashMap<usize, u8> = HashMap::new();
            for (pair, step) in steps {
                if step == 0 {
                    table.0.succeeded(pairs[pair], table.at(0));
                    failed.remove(&pair);
                } else {
                    table.0.failed(pairs[pair], table.at(0));
                    *failed.entry(pair).or_default() += 1;
                }
                for (pair, failures) in &failed {
                    let mut set = table.0.failures(pairs[*pair]);
                    prop_assert!(set.of(pairs[*pair], 1).count >= (*failures).min(MOST));
                }
            }
        }
    }
}
