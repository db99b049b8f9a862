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
    full_at: i128,
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
        let (part, whole) = (terms.period.as_micros() as i128 * known, i128::from(terms.amount.get()) * alive);
        let last = |cells: i128| (cells * part + whole - 1) / whole;
        let (burst, amount) = (i128::from(terms.burst.get()), i128::from(terms.amount.get()));
        let room = ((burst * terms.period.as_micros() as i128 + amount - 1) / amount).max(last(1));
        let mut full_at = self.full_at.max(now);
        if let Some(empty_at) = self.empty_at {
            full_at = full_at.max(empty_at + room);
        }
        let free = ((now - full_at + room) * whole).div_euclid(part);
        let granted = free.min(wanted.into());
        let time = |micros: i128| Duration::from_micros(micros.max(1) as u64);
        if granted < 1 {
            return Granted::Nothing { for_time: time(full_at + last(1) - now - room) };
        }
        self.full_at = full_at + last(granted);
        Granted::Cells { count: granted as u32, for_time: time(self.full_at - now) }
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

    /// The counts that the store knows: a replica that is lost is known, and not alive.
    fn counts(&self) -> (i128, i128) {
        let alive = self.replicas.iter().filter(|replica| replica.loss.is_none()).count();
        (alive.max(1) as i128, REPLICAS as i128)
    }

    fn lose_or_return(&mut self, index: usize) {
        let (begin, now, micros) = (self.begin, self.now, self.micros());
        let number = self.losses;
        self.losses += 1;
        let Some(replica) = self.replicas.get_mut(index) else { return };
        if replica.loss.take().is_some() {
            self.store.empty_at = Some(micros);
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
        let of_time = self.now.as_nanos() * u128::from(self.terms.amount.get()) / self.terms.period.as_nanos();
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
            if action == 0 {
                simulation.lose_or_return(replica);
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
fn an_idle_replica_keeps_no_cells_for_long() {
    let mut simulation = Simulation::new(1000, 1000, 100);
    simulation.request(0);
    simulation.now += Duration::from_secs(10);
    let replica = &mut simulation.replicas[0];
    assert!(replica.lease.is_idle(simulation.begin + simulation.now));
    assert!(replica.lease.take(simulation.begin + simulation.now).is_none());
}
