//! Who keeps failing to authenticate waits, longer each time.
//!
//! Counted by client id and address together: a stranger who guesses elsewhere does not lock the real client out, and a client with an
//! old secret in a loop does not lock out its neighbours behind the same address, whom the endpoint's rate limit keeps apart.
//! It is the same for ids that there are not, so that waiting tells nothing.

use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use foldhash::quality::RandomState;

use crate::clock::UnixTime;

/// Failures in a table that does not grow: where two meet, the later one has the place.
pub(crate) struct BackOff {
    failures: Box<[AtomicU64]>,
    /// Of this process alone, so that nobody can choose whom to meet.
    hasher: RandomState,
}

/// A client id at an address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair {
    place: usize,
    tag: u64,
}

const PLACES: usize = 1 << 16;
/// As many in a row cost nothing: a slip, a deployment half done.
const FREE: u32 = 10;
const LONGEST: Duration = Duration::from_secs(60);
/// After as long without a failure all is forgotten.
const FORGOTTEN_AFTER: u64 = 600;

/// 24 bits of tag, 8 of count, 32 of seconds.
const TAG_SHIFT: u32 = 40;
const COUNT_SHIFT: u32 = 32;

impl BackOff {
    pub(crate) fn new() -> Self {
        Self { failures: (0..PLACES).map(|_| AtomicU64::new(0)).collect(), hasher: RandomState::default() }
    }

    pub(crate) fn pair(&self, id: &str, network: IpAddr) -> Pair {
        let hash = self.hasher.hash_one((id, network));
        Pair { place: hash as usize % PLACES, tag: hash >> TAG_SHIFT }
    }

    /// How long this pair has still to wait; `None` where it may try.
    pub(crate) fn wait(&self, pair: Pair, now: UnixTime) -> Option<Duration> {
        let (count, last) = self.of(pair, now)?;
        let doublings = count.checked_sub(FREE)?;
        let wait = Duration::from_secs(1 << doublings.min(6)).min(LONGEST);
        let end = last + wait.as_secs();
        (now.seconds() < end).then(|| Duration::from_secs(end - now.seconds()))
    }

    pub(crate) fn failed(&self, pair: Pair, now: UnixTime) {
        let count = self.of(pair, now).map_or(0, |(count, _)| count);
        let count = u64::from(count + 1).min(0xff);
        let entry = pair.tag << TAG_SHIFT | count << COUNT_SHIFT | (now.seconds() & u64::from(u32::MAX));
        self.failures[pair.place].store(entry, Ordering::Relaxed);
    }

    pub(crate) fn succeeded(&self, pair: Pair, now: UnixTime) {
        if self.of(pair, now).is_some() {
            self.failures[pair.place].store(0, Ordering::Relaxed);
        }
    }

    /// How often it has failed in a row, and when last.
    fn of(&self, pair: Pair, now: UnixTime) -> Option<(u32, u64)> {
        let entry = self.failures[pair.place].load(Ordering::Relaxed);
        let (tag, count, last) = (entry >> TAG_SHIFT, entry >> COUNT_SHIFT & 0xff, entry & u64::from(u32::MAX));
        let counts = tag == pair.tag && count > 0 && now.seconds() < last + FORGOTTEN_AFTER;
        counts.then_some((count as u32, last))
    }
}

impl std::fmt::Debug for BackOff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BackOff(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::from_seconds(1_800_000_000 + seconds)
    }

    fn home() -> IpAddr {
        "192.0.2.1".parse().unwrap()
    }

    #[test]
    fn who_keeps_failing_waits_longer_each_time_up_to_a_minute() {
        let back_off = BackOff::new();
        let pair = back_off.pair("app", home());
        for _ in 1..FREE {
            back_off.failed(pair, at(0));
            assert_eq!(back_off.wait(pair, at(0)), None);
        }
        for wait in [1, 2, 4, 8, 16, 32, 60, 60] {
            back_off.failed(pair, at(0));
            assert_eq!(back_off.wait(pair, at(0)), Some(Duration::from_secs(wait)));
            assert_eq!(back_off.wait(pair, at(wait)), None);
        }
        assert_eq!(back_off.wait(pair, at(59)), Some(Duration::from_secs(1)));
        assert_eq!(back_off.of(pair, at(FORGOTTEN_AFTER)), None);
    }

    #[test]
    fn a_client_is_not_locked_out_by_guesses_from_elsewhere_nor_its_neighbours_by_its_own() {
        let back_off = BackOff::new();
        let real = back_off.pair("app", home());
        for number in 0..10_000_u32 {
            let stranger = back_off.pair("app", IpAddr::V4(number.into()));
            (0..20).for_each(|_| back_off.failed(stranger, at(0)));
            assert_eq!(back_off.wait(real, at(0)), None);
        }
        assert_eq!(back_off.wait(back_off.pair("other", home()), at(0)), None);
    }

    #[test]
    fn a_success_ends_it() {
        let back_off = BackOff::new();
        let pair = back_off.pair("app", home());
        (0..50).for_each(|_| back_off.failed(pair, at(0)));
        back_off.succeeded(pair, at(61));
        assert_eq!(back_off.wait(pair, at(61)), None);
    }
}
