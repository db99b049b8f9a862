//! Which server of an upstream gets a request.
//!
//! Each worker chooses for itself, by what it has under way itself: with many requests that comes to the same, and costs no
//! word between cores. Servers that are unhealthy, ejected or full are left out. Where none is left that is healthy, all count as
//! healthy: a check that is wrong, or a failure of all at once, must not make an outage of a trouble.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::oauth::caller::Digest;
use crate::oauth::per::Per;
use crate::telemetry::metrics::{ServerLabels, UpstreamLabels, WorkerReport};
use crate::upstream::balancing::ejection::{OutcomeCounts, ServerOutcome};
use crate::upstream::balancing::retry_budget::Budget;
use crate::upstream::balancing::status::ServerStatus;
use crate::upstream::pool::Pool;
use crate::upstream::service::Upstream;

/// An upstream's rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Balance {
    /// The less busy one of two that were drawn.
    LeastRequests,
    RoundRobin,
    Random,
    /// Requests of one key go to one server; when it is lost, its keys alone move. Without a key: as drawn.
    Hash(Per),
}

/// One worker's view of an upstream and its servers.
#[derive(Debug)]
pub(super) struct ServerSet {
    pub(super) name: Arc<str>,
    pub(super) members: Box<[ServerEntry]>,
    pub(super) statuses: Arc<[ServerStatus]>,
    pub(super) budget: Budget,
    pub(super) retries: Cell<u64>,
}

#[derive(Debug)]
pub(super) struct ServerEntry {
    name: Box<str>,
    pub(super) pool: Rc<Pool>,
    in_flight: Cell<u32>,
    /// Counted only where they are bounded.
    connections: Cell<usize>,
    /// One of them has ended.
    has_room: Notify,
    requests: Cell<u64>,
    seen: Cell<OutcomeCounts>,
    /// What counts of its weight at this moment.
    share: Cell<u64>,
    /// What round robin owes it.
    due: Cell<i64>,
    /// The same in every process, whatever the order of the list.
    seed: u64,
}

/// A request's place at a server, as long as it or its answer is under way.
#[derive(Debug)]
pub(super) struct RequestSlot {
    crew: Rc<ServerSet>,
    pub(super) index: usize,
    is_bounded: bool,
}

/// A connection's room at a server that takes so many and no more.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    crew: Rc<ServerSet>,
    index: usize,
}

/// The servers that have had their chance with a request.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TriedServers(u128);

impl ServerSet {
    pub(super) fn new(upstream: &Upstream) -> Rc<Self> {
        let members = upstream.servers.iter().map(|server| ServerEntry {
            name: server.name().into_owned().into_boxed_str(),
            pool: Rc::new(Pool::new(upstream, server)),
            in_flight: Cell::new(0),
            connections: Cell::new(0),
            has_room: Notify::new(),
            requests: Cell::new(0),
            seen: Cell::default(),
            share: Cell::new(0),
            due: Cell::new(0),
            seed: Digest::of(&[&server.name()]).0 as u64,
        });
        Rc::new(Self {
            name: Arc::clone(&upstream.name),
            members: members.collect(),
            statuses: Arc::clone(&upstream.statuses),
            budget: Budget::new(),
            retries: Cell::new(0),
        })
    }

    /// A place at the best server that has one and is not among the tried.
    pub(super) fn seat(
        self: &Rc<Self>,
        upstream: &Upstream,
        key: Option<Digest>,
        mut tried: TriedServers,
        now: u64,
    ) -> Option<RequestSlot> {
        loop {
            let index = self.pick(upstream, key, tried, now)?;
            if let Some(seat) = self.seat_at(upstream, index) {
                return Some(seat);
            }
            // Another worker has taken its last place.
            tried.add(index);
        }
    }

    /// A place at this server.
    pub(super) fn seat_at(self: &Rc<Self>, upstream: &Upstream, index: usize) -> Option<RequestSlot> {
        let is_bounded = match upstream.settings.caps.in_flight {
            Some(at_most) if !self.statuses[index].begin(at_most) => return None,
            Some(_) => true,
            None => false,
        };
        let member = &self.members[index];
        member.in_flight.set(member.in_flight.get() + 1);
        member.requests.set(member.requests.get() + 1);
        Some(RequestSlot { crew: Rc::clone(self), index, is_bounded })
    }

    pub(super) fn report(&self, report: &mut WorkerReport) {
        let upstream = String::from(&*self.name);
        for member in &self.members {
            let labels = ServerLabels { upstream: upstream.clone(), server: String::from(&*member.name) };
            report.server_in_flight.push((labels.clone(), u64::from(member.in_flight.get())));
            report.server_requests.push((labels, member.requests.get()));
        }
        report.upstream_retries.push((UpstreamLabels { upstream }, self.retries.get()));
    }

    fn pick(&self, upstream: &Upstream, key: Option<Digest>, tried: TriedServers, now: u64) -> Option<usize> {
        if let [_alone] = &self.members[..] {
            return (!tried.has(0)).then_some(0);
        }
        let total = self.weigh(upstream, tried, now);
        if total == 0 {
            return None;
        }
        match (&upstream.settings.balance, key) {
            (Balance::LeastRequests, _) => Some(self.less_busy(total)),
            (Balance::RoundRobin, _) => Some(self.next(total)),
            (Balance::Hash(_), Some(key)) => self.owner(key),
            (Balance::Hash(_), None) | (Balance::Random, _) => Some(self.drawn(total, None)),
        }
    }

    /// Gives every server its share at this moment; says what they are together.
    fn weigh(&self, upstream: &Upstream, tried: TriedServers, now: u64) -> u64 {
        let nobody_is_well = !self.statuses.iter().any(|status| status.is_available(now));
        let mut total = 0;
        for (index, (member, status)) in self.members.iter().zip(&*self.statuses).enumerate() {
            let is_out = tried.has(index)
                || !(nobody_is_well || status.is_available(now))
                || status.is_full(upstream.settings.caps.in_flight);
            let part = if is_out { 0 } else { status.share(upstream.settings.slow_start, now) };
            let share = part * u64::from(upstream.servers[index].weight);
            member.share.set(share);
            total += share;
        }
        total
    }

    /// By weight. `without` has no part in it.
    fn drawn(&self, total: u64, without: Option<usize>) -> usize {
        let left_out = without.map_or(0, |index| self.members[index].share.get());
        let mut point = fastrand::u64(..total - left_out);
        let mut last = 0;
        for (index, member) in self.members.iter().enumerate().filter(|(index, _)| Some(*index) != without) {
            let share = member.share.get();
            if point < share {
                return index;
            }
            point -= share;
            last = index;
        }
        last
    }

    fn less_busy(&self, total: u64) -> usize {
        let first = self.drawn(total, None);
        if self.members[first].share.get() == total {
            return first;
        }
        let second = self.drawn(total, Some(first));
        let [one, other] = [first, second].map(|index| &self.members[index]);
        // The load for each part of weight. Where it is the same, the draw has decided, in which weights count.
        let load =
            |member: &ServerEntry, against: &ServerEntry| u64::from(member.in_flight.get()) * against.share.get();
        if load(one, other) <= load(other, one) { first } else { second }
    }

    /// Smooth: a heavy server's turns come between those of the others.
    fn next(&self, total: u64) -> usize {
        let (mut best, mut most) = (0, i64::MIN);
        for (index, member) in self.members.iter().enumerate().filter(|(_, member)| member.share.get() > 0) {
            let due = member.due.get().saturating_add_unsigned(member.share.get());
            member.due.set(due);
            if due > most {
                (best, most) = (index, due);
            }
        }
        self.members[best].due.set(most.saturating_sub_unsigned(total));
        best
    }

    /// By rendezvous: every server draws by the key, and the best draw has it, whoever else is there.
    fn owner(&self, key: Digest) -> Option<usize> {
        let key = (key.0 >> 64) as u64 ^ key.0 as u64;
        let draw = |member: &ServerEntry| -> f64 {
            // Above 0 and at most 1, so that the time until a server's first event, at the rate of its share, is finite.
            let even = ((mixed(key ^ member.seed) >> 11) + 1) as f64 / (1_u64 << 53) as f64;
            -even.ln() / member.share.get() as f64
        };
        let draws = self.members.iter().enumerate().filter(|(_, member)| member.share.get() > 0);
        let best = draws.map(|(index, member)| (index, draw(member))).min_by(|one, other| one.1.total_cmp(&other.1));
        best.map(|(index, _)| index)
    }
}

/// The finaliser of `SplitMix64`: every bit depends on every other.
fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

impl RequestSlot {
    pub(super) fn pool(&self) -> &Rc<Pool> {
        &self.crew.members[self.index].pool
    }

    /// Leave for one more connection; who gets it keeps it for as long as there is the connection. `Err` where there is no room.
    pub(super) fn room(&self, upstream: &Upstream) -> Result<Option<Rc<ConnectionSlot>>, ()> {
        let Some(at_most) = upstream.settings.caps.connections else {
            return Ok(None);
        };
        let connections = &self.crew.members[self.index].connections;
        if connections.get() >= at_most {
            return Err(());
        }
        connections.set(connections.get() + 1);
        Ok(Some(Rc::new(ConnectionSlot { crew: Rc::clone(&self.crew), index: self.index })))
    }

    /// Resolves once room has come free after this call.
    pub(super) fn room_is_free(&self) -> Notified<'_> {
        self.crew.members[self.index].has_room.notified()
    }

    pub(super) fn observe(&self, upstream: &Upstream, outcome: ServerOutcome, now: u64) {
        upstream.observe(self.index, outcome, &self.crew.members[self.index].seen, now);
    }
}

impl Drop for RequestSlot {
    fn drop(&mut self) {
        let in_flight = &self.crew.members[self.index].in_flight;
        in_flight.set(in_flight.get().saturating_sub(1));
        if self.is_bounded {
            self.crew.statuses[self.index].end();
        }
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let member = &self.crew.members[self.index];
        member.connections.set(member.connections.get().saturating_sub(1));
        member.has_room.notify_waiters();
    }
}

impl TriedServers {
    pub(super) fn add(&mut self, index: usize) {
        self.0 |= 1 << index;
    }

    fn has(self, index: usize) -> bool {
        self.0 >> index & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::upstream::service::tests::upstream;

    const NOW: u64 = 1_000_000;

    fn balanced(weights: &[u32], balance: Balance) -> (Upstream, Rc<ServerSet>) {
        let upstream = upstream(weights, |settings| settings.balance = balance);
        let crew = ServerSet::new(&upstream);
        (upstream, crew)
    }

    /// How often each was picked, in so many picks of keys that differ.
    fn picks(upstream: &Upstream, crew: &ServerSet, count: u64, now: u64) -> Vec<u64> {
        fastrand::seed(7);
        let mut picked = vec![0; upstream.servers.len()];
        for number in 0..count {
            let key = Digest(u128::from(mixed(number)));
            picked[crew.pick(upstream, Some(key), TriedServers::default(), now).unwrap()] += 1;
        }
        picked
    }

    fn every_way() -> [Balance; 4] {
        [Balance::LeastRequests, Balance::RoundRobin, Balance::Random, Balance::Hash(Per::Client)]
    }

    #[test]
    fn weights_hold() {
        for balance in every_way() {
            let (upstream, crew) = balanced(&[1, 2, 7], balance.clone());
            let picked = picks(&upstream, &crew, 10_000, NOW);
            for (picked, expected) in picked.iter().zip([1_000_u64, 2_000, 7_000]) {
                assert!(picked.abs_diff(expected) <= expected / 10, "{balance:?}: {picked} for {expected}");
            }
        }
    }

    #[test]
    fn the_less_busy_of_two_is_preferred_by_weight() {
        let (upstream, crew) = balanced(&[1, 1], Balance::LeastRequests);
        crew.members[0].in_flight.set(1);
        assert_eq!(picks(&upstream, &crew, 1_000, NOW), [0, 1_000]);
        let (upstream, crew) = balanced(&[1, 3], Balance::LeastRequests);
        crew.members.iter().zip([1, 2]).for_each(|(member, load)| member.in_flight.set(load));
        assert_eq!(
            picks(&upstream, &crew, 1_000, NOW),
            [0, 1_000],
            "two for a weight of three is less than one for one"
        );
        let (upstream, crew) = balanced(&[1; 10], Balance::LeastRequests);
        crew.members[0].in_flight.set(100);
        let picked = picks(&upstream, &crew, 1_000, NOW);
        assert!(picked[0] == 0 && picked[1..].iter().all(|picked| *picked > 50), "{picked:?}");
    }

    #[test]
    fn round_robin_takes_turns() {
        let (upstream, crew) = balanced(&[5, 1, 1], Balance::RoundRobin);
        let turns: Vec<_> = (0..7).map(|_| crew.pick(&upstream, None, TriedServers::default(), NOW).unwrap()).collect();
        assert_eq!(turns, [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn nobody_is_sent_where_it_is_unhealthy_ejected_full_or_tried() {
        for balance in every_way() {
            let upstream = upstream(&[1; 5], |settings| {
                settings.balance = balance;
                settings.caps.in_flight = Some(1);
            });
            let crew = ServerSet::new(&upstream);
            upstream.statuses[0].set_healthy(false, NOW);
            upstream.statuses[1].eject(NOW + 1);
            let _full = crew.seat_at(&upstream, 2).unwrap();
            let mut tried = TriedServers::default();
            tried.add(3);
            for _ in 0..100 {
                assert_eq!(crew.pick(&upstream, Some(Digest(7)), tried, NOW), Some(4));
            }
            tried.add(4);
            assert_eq!(crew.pick(&upstream, Some(Digest(7)), tried, NOW), None);
        }
    }

    #[test]
    fn where_all_are_unhealthy_all_are_used() {
        for balance in every_way() {
            let (upstream, crew) = balanced(&[1; 3], balance);
            upstream.statuses.iter().for_each(|status| assert!(status.set_healthy(false, NOW)));
            assert!(picks(&upstream, &crew, 1_000, NOW).iter().all(|picked| *picked > 200));
        }
    }

    #[test]
    fn a_server_that_is_back_starts_slowly() {
        for balance in every_way() {
            let upstream = upstream(&[1, 1], |settings| {
                settings.balance = balance.clone();
                settings.slow_start = Some(Duration::from_secs(30));
            });
            let crew = ServerSet::new(&upstream);
            upstream.statuses[0].eject(NOW);
            for (after, share) in [(0, 10.0 / 110.0), (15_000, 50.0 / 150.0), (30_000, 0.5)] {
                let picked = picks(&upstream, &crew, 10_000, NOW + after)[0] as f64 / 10_000.0;
                assert!((picked - share).abs() < 0.03, "{balance:?} after {after} ms: {picked}");
            }
        }
    }

    #[test]
    fn a_place_is_given_back_when_its_seat_is_left() {
        let upstream = upstream(&[1], |settings| settings.caps.in_flight = Some(1));
        let crew = ServerSet::new(&upstream);
        let seat = crew.seat(&upstream, None, TriedServers::default(), NOW);
        assert!(seat.is_some() && crew.seat(&upstream, None, TriedServers::default(), NOW).is_none());
        drop(seat);
        assert!(crew.seat(&upstream, None, TriedServers::default(), NOW).is_some());
        assert_eq!((crew.members[0].in_flight.get(), crew.members[0].requests.get()), (0, 2));
    }

    #[test]
    fn a_connection_has_its_room_until_its_end() {
        let upstream = upstream(&[1], |settings| settings.caps.connections = Some(1));
        let crew = ServerSet::new(&upstream);
        let seat = crew.seat_at(&upstream, 0).unwrap();
        let room = seat.room(&upstream);
        assert!(matches!(room, Ok(Some(_))) && seat.room(&upstream).is_err());
        drop(room);
        assert!(seat.room(&upstream).is_ok());
    }

    proptest! {
        #[test]
        fn a_lost_server_moves_its_own_keys_only(
            weights in proptest::collection::vec(1..=20_u32, 2..8),
            lost in 0..8_usize,
            keys in proptest::collection::vec(any::<u128>(), 1..50),
        ) {
            let (upstream, crew) = balanced(&weights, Balance::Hash(Per::Client));
            let lost = lost % weights.len();
            let owners = || keys.iter().map(|key| crew.pick(&upstream, Some(Digest(*key)), TriedServers::default(), NOW).unwrap());
            let before: Vec<_> = owners().collect();
            upstream.statuses[lost].set_healthy(false, NOW);
            let during: Vec<_> = owners().collect();
            for (before, during) in before.iter().zip(&during) {
                prop_assert!(*during != lost && (before == during || *before == lost));
            }
            upstream.statuses[lost].set_healthy(true, NOW);
            prop_assert_eq!(owners().collect::<Vec<_>>(), before);
        }
    }
}
