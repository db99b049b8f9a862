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
fn ten_failures_cost_nothing_then_one_attempt_a_second_is_read() {
    let table = Table::new();
    let pair = table.home();
    assert_eq!(table.compared(pair, 0), 11);
    for second in [1, 2, 3, 60, 300, 899] {
        assert_eq!(table.compared(pair, second), 1, "{second}");
    }
    assert_eq!(table.compared(pair, 899 + u64::from(FORGET_AFTER)), 11, "ten minutes without a failure");
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
fn a_pair_with_a_recent_success_has_ten_attempts_a_second() {
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
fn guesses_from_elsewhere_do_not_lock_a_client_out() {
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
fn an_old_request_does_not_shorten_the_back_off() {
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
fn a_real_client_in_a_full_set_is_compared_when_others_pause() {
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
fn a_client_at_many_addresses_evicts_no_other_clients_successes() {
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
    /// Many pairs in one set never reduce the number of failures that is counted for one of them.
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
                prop_assert!(set.of(pairs[*pair], 1).count >= (*failures).min(MAX_FAILURES));
            }
        }
    }
}
