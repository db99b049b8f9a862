//! The bound of leases, over a store in memory that grants as `lease.lua` does.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::key_lease::{Granted, KeyLease, Loss, Spending};
use super::*;
use crate::clock;

const REPLICAS: usize = 4;

/// One key in the store. Times are since the beginning, in µs.
#[derive(Default)]
struct SimulatedStore {
    /// The time, and the sum of all debts when it was set. It is kept until the bucket is full and once more its size.
    full_at: Option<(i128, i128)>,
    back_at: i128,
    owed: i128,
    owed_ever: i128,
    empty_at: Option<i128>,
}

struct SimulatedReplica {
    lease: KeyLease,
    loss: Option<Loss>,
}

struct Simulation {
    terms: LeaseTerms,
    store: SimulatedStore,
    replicas: Vec<SimulatedReplica>,
    begin: Instant,
    now: Duration,
    losses: u64,
    allowed: u64,
}

impl SimulatedStore {
    fn grant(&mut self, terms: &LeaseTerms, wanted: u32, (alive, known): (i128, i128), now: i128) -> Granted {
        let (period, amount) = (terms.period.as_micros() as i128, i128::from(terms.amount.get()));
        let (part, whole) = (period * known, amount * alive);
        let cost = |cells: i128| (cells * part + whole - 1) / whole;
        let filled_in = (i128::from(terms.burst.get()) * period + amount - 1) / amount;
        let room = filled_in.max(cost(1));
        let full_at = match self.full_at.filter(|(full_at, _)| full_at + filled_in > now) {
            Some((full_at, settled)) => full_at.max((full_at + self.owed_ever - settled).min(self.back_at + filled_in)),
            None => {
                let refilled_at = self.empty_at.map_or(0, |empty_at| empty_at + filled_in);
                (refilled_at.max(self.back_at) + self.owed).min(self.back_at + filled_in).max(refilled_at)
            }
        };
        let full_at = full_at.min(now + room).max(now);
        let granted = ((now + room - full_at) * whole).div_euclid(part).min(wanted.into());
        let time = |micros: i128| Duration::from_micros(micros.max(1) as u64);
        if granted < 1 {
            return Granted::Nothing { for_time: time(full_at + cost(1) - room - now) };
        }
        let full_at = full_at + cost(granted);
        self.full_at = Some((full_at, self.owed_ever));
        Granted::Cells { count: granted as u32, for_time: time(full_at - now) }
    }

    /// Charges the debt of a replica that is back, or of an emptied store, which has lost the spent cells.
    fn owe(&mut self, owed: i128, now: i128) {
        self.owed = (self.owed - (now - self.back_at)).max(0) + owed;
        self.owed_ever += owed;
        self.back_at = now;
    }

    fn lose_all(&mut self, now: i128) {
        (self.full_at, self.empty_at) = (None, Some(now));
        self.owe(1_000_000_000_000, now);
        self.owed = 0;
    }
}

impl Simulation {
    fn new(amount: u32, millis: u64, burst: u32) -> Self {
        let number = |n| NonZeroU32::new(n).unwrap();
        let terms = LeaseTerms { amount: number(amount), period: Duration::from_millis(millis), burst: number(burst) };
        let begin = clock::instant();
        let replica = || SimulatedReplica { lease: KeyLease::new(begin), loss: None };
        let replicas = std::iter::repeat_with(replica).take(REPLICAS).collect();
        let (store, now) = (SimulatedStore::default(), Duration::ZERO);
        Self { terms, store, replicas, begin, now, losses: 0, allowed: 0 }
    }

    fn micros(&self) -> i128 {
        self.now.as_micros() as i128
    }

    /// The counts of the store: a lost replica is known, and not alive.
    fn counts(&self) -> (i128, i128) {
        let alive = self.replicas.iter().filter(|replica| replica.loss.is_none()).count();
        (alive.max(1) as i128, REPLICAS as i128)
    }

    fn lose_or_return(&mut self, index: usize) {
        let (begin, now, micros) = (self.begin, self.now, self.micros());
        let number = self.losses;
        self.losses += 1;
        let Some(replica) = self.replicas.get_mut(index) else { return };
        if let Some(loss) = replica.loss.take() {
            let apart = (begin + now).saturating_duration_since(loss.since);
            let (alive, known) = self.counts();
            self.store.owe((apart.as_micros() as i128 / known + 1) * known / alive + 1, micros);
        } else {
            replica.loss = Some(Loss { number, since: begin + now, replicas: REPLICAS as u32 });
        }
    }

    /// One request at a replica.
    fn request(&mut self, index: usize) {
        let (counts, micros, now) = (self.counts(), self.micros(), self.begin + self.now);
        let Some(replica) = self.replicas.get_mut(index) else { return };
        if let Some(loss) = replica.loss {
            let is_leased = replica.lease.take(now).is_some();
            let is_allowed = is_leased || replica.lease.spend_share(&self.terms, &loss, now).is_ok();
            self.allowed += u64::from(is_allowed);
            return;
        }
        for _ in 0..2 {
            let largest = self.terms.largest_lease(REPLICAS as u32);
            let (is_spent, ask) = match replica.lease.spend(largest, now) {
                Spending::Spent { ask, .. } => (true, ask),
                Spending::Denied { .. } => return,
                Spending::Wait { ask, .. } => (false, ask),
            };
            if let Some(wanted) = ask {
                let granted = self.store.grant(&self.terms, wanted, counts, micros);
                replica.lease.answered(granted, &self.terms, now, now);
            }
            if is_spent {
                self.allowed += 1;
                return;
            }
        }
    }

    fn bound(&self) -> u64 {
        // The store counts in whole microseconds.
        let nanos = self.now.as_nanos() + 1000;
        let of_time = nanos * u128::from(self.terms.amount.get()) / self.terms.period.as_nanos();
        of_time as u64 + u64::from(self.terms.burst.get())
    }
}

proptest! {
    #[test]
    fn replicas_together_never_exceed_rate_and_burst(
        amount in 1..2000_u32,
        millis in 1..5000_u64,
        burst in 1..300_u32,
        steps in prop::collection::vec((0..20_000_u64, 0..REPLICAS, 0..200_u32), 1..800),
    ) {
        let mut simulation = Simulation::new(amount, millis, burst);
        for (micros, replica, action) in steps {
            simulation.now += Duration::from_micros(micros);
            match action {
                0..6 => simulation.lose_or_return(replica),
                6 => simulation.store.lose_all(simulation.micros()),
                _ => {}
            }
            for _ in 0..action % 16 {
                simulation.request(replica);
            }
            prop_assert!(simulation.allowed <= simulation.bound(), "{} of {}", simulation.allowed, simulation.bound());
        }
    }
}

#[test]
fn nearly_all_of_a_limit_is_used_under_overload() {
    let mut simulation = Simulation::new(1000, 1000, 1000);
    for step in 0..40_000 {
        simulation.now += Duration::from_micros(250);
        simulation.request(step % REPLICAS);
    }
    let used = simulation.allowed as f64 / simulation.bound() as f64;
    assert!(used >= 0.97, "{used}");
}

#[test]
fn a_replica_that_falls_silent_frees_no_burst() {
    let mut simulation = Simulation::new(10, 3_600_000, 10);
    (0..20).for_each(|_| simulation.request(0));
    assert_eq!(simulation.allowed, 10);
    (1..REPLICAS).for_each(|replica| simulation.lose_or_return(replica));
    simulation.request(0);
    assert_eq!(simulation.allowed, 10);
}

#[test]
fn a_short_loss_costs_an_unused_bucket_little() {
    let mut simulation = Simulation::new(10, 3_600_000, 10);
    simulation.now += Duration::from_secs(60);
    simulation.lose_or_return(1);
    simulation.now += Duration::from_secs(1);
    simulation.lose_or_return(1);
    (0..20).for_each(|_| simulation.request(0));
    assert_eq!(simulation.allowed, 9);
}

#[test]
fn a_loss_long_after_an_emptied_store_costs_little() {
    let mut simulation = Simulation::new(10, 1000, 10);
    simulation.now += Duration::from_secs(60);
    simulation.store.lose_all(simulation.micros());
    simulation.now += Duration::from_secs(60);
    simulation.lose_or_return(1);
    simulation.now += Duration::from_millis(400);
    simulation.lose_or_return(1);
    (0..20).for_each(|_| simulation.request(0));
    assert_eq!(simulation.allowed, 8);
}

#[test]
fn an_emptied_store_starts_without_burst() {
    let mut simulation = Simulation::new(10, 1000, 10);
    simulation.now += Duration::from_secs(60);
    simulation.store.lose_all(simulation.micros());
    simulation.request(0);
    assert_eq!(simulation.allowed, 0);
    simulation.now += Duration::from_secs(1);
    (0..20).for_each(|_| simulation.request(0));
    assert_eq!(simulation.allowed, 10);
}

#[test]
fn a_denied_key_asks_again_within_ten_seconds() {
    let mut simulation = Simulation::new(10, 3_600_000, 10);
    (0..11).for_each(|_| simulation.request(0));
    let mut spend_after = |seconds| {
        let now = simulation.begin + Duration::from_secs(seconds);
        simulation.replicas[0].lease.spend(1, now)
    };
    assert!(matches!(spend_after(9), Spending::Denied { wait } if wait > Duration::from_secs(300)));
    assert!(matches!(spend_after(10), Spending::Wait { ask: Some(1), .. }));
}

#[test]
fn an_idle_replica_keeps_no_cells_for_long() {
    let mut simulation = Simulation::new(1000, 1000, 100);
    simulation.request(0);
    simulation.now += Duration::from_secs(10);
    let replica = &mut simulation.replicas[0];
    assert!(replica.lease.is_idle(simulation.begin + simulation.now));
    assert!(replica.lease.take(simulation.begin + simulation.now).is_none());
}
