//! The choice of a server, by one worker.
//!
//! Each worker counts its own requests in flight only: with many requests the result is the same, without traffic
//! between cores. Servers that are unhealthy, ejected or full are left out. If no server is available, all count as
//! available: a wrong health check, or a failure of all servers at once, must not become an outage.

use std::cell::Cell;

use super::super::server::Server;
use super::super::settings::{Balance, UpstreamSettings};
use super::status::ServerStatus;
use crate::oauth::caller::Digest;

#[derive(Debug)]
pub(in crate::upstream) struct Balancer {
    servers: Box<[ServerLoad]>,
}

/// One worker's view of a server's load.
#[derive(Debug)]
struct ServerLoad {
    weight: u32,
    in_flight: Cell<u32>,
    /// Its weight at this moment; 0 if it is left out.
    share: Cell<u64>,
    /// Of smooth weighted round robin.
    current_weight: Cell<i64>,
    /// For rendezvous hashing: the same in every process, whatever the order of the servers.
    hash_seed: u64,
}

/// The servers that a request was sent to.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::upstream) struct TriedServers(u128);

impl Balancer {
    pub(in crate::upstream) fn new(servers: &[Server]) -> Self {
        let load = |server: &Server| ServerLoad {
            weight: server.weight,
            in_flight: Cell::new(0),
            share: Cell::new(0),
            current_weight: Cell::new(0),
            hash_seed: Digest::of(&[&server.name()]).0 as u64,
        };
        Self { servers: servers.iter().map(load).collect() }
    }

    /// The server for a request. `None` if every server was tried or is full.
    pub(in crate::upstream) fn choose(
        &self,
        settings: &UpstreamSettings,
        statuses: &[ServerStatus],
        key: Option<Digest>,
        tried: TriedServers,
        now: u64,
    ) -> Option<usize> {
        if let [_single] = &self.servers[..] {
            return (!tried.has(0)).then_some(0);
        }
        let total = self.update_shares(settings, statuses, tried, now);
        if total == 0 {
            return None;
        }
        match (&settings.balance, key) {
            (Balance::LeastRequests, _) => Some(self.least_requests(total)),
            (Balance::RoundRobin, _) => Some(self.round_robin(total)),
            (Balance::Hash(_), Some(key)) => self.rendezvous_hash(key),
            (Balance::Hash(_), None) | (Balance::Random, _) => Some(self.weighted_random(total, None)),
        }
    }

    pub(in crate::upstream) fn in_flight(&self, index: usize) -> u32 {
        self.servers[index].in_flight.get()
    }

    pub(in crate::upstream) fn begin_request(&self, index: usize) {
        self.servers[index].in_flight.update(|count| count + 1);
    }

    pub(in crate::upstream) fn end_request(&self, index: usize) {
        self.servers[index].in_flight.update(|count| count.saturating_sub(1));
    }

    /// Sets every server's share at this moment. Gives their sum.
    fn update_shares(
        &self,
        settings: &UpstreamSettings,
        statuses: &[ServerStatus],
        tried: TriedServers,
        now: u64,
    ) -> u64 {
        let none_is_available = !statuses.iter().any(|status| status.is_available(now));
        let mut total = 0;
        for (index, (server, status)) in self.servers.iter().zip(statuses).enumerate() {
            let is_left_out = tried.has(index)
                || !(none_is_available || status.is_available(now))
                || status.is_full(settings.caps.in_flight);
            let percent = if is_left_out { 0 } else { status.share(settings.slow_start, now) };
            let share = percent * u64::from(server.weight);
            server.share.set(share);
            total += share;
        }
        total
    }

    /// `without` is left out.
    fn weighted_random(&self, total: u64, without: Option<usize>) -> usize {
        let left_out = without.map_or(0, |index| self.servers[index].share.get());
        let mut point = fastrand::u64(..total - left_out);
        let mut last = 0;
        for (index, server) in self.servers.iter().enumerate().filter(|(index, _)| Some(*index) != without) {
            let share = server.share.get();
            if point < share {
                return index;
            }
            point -= share;
            last = index;
        }
        last
    }

    /// Of two servers drawn at random.
    fn least_requests(&self, total: u64) -> usize {
        let first = self.weighted_random(total, None);
        if self.servers[first].share.get() == total {
            return first;
        }
        let second = self.weighted_random(total, Some(first));
        let [one, other] = [first, second].map(|index| &self.servers[index]);
        // Requests for each unit of weight. If they are equal, the first draw decides, which respects the weights.
        let load = |server: &ServerLoad, against: &ServerLoad| u64::from(server.in_flight.get()) * against.share.get();
        if load(one, other) <= load(other, one) { first } else { second }
    }

    /// Smooth: the turns of a server with a large weight are spread between those of the others.
    fn round_robin(&self, total: u64) -> usize {
        let (mut best, mut highest) = (0, i64::MIN);
        for (index, server) in self.servers.iter().enumerate().filter(|(_, server)| server.share.get() > 0) {
            let weight = server.current_weight.get().saturating_add_unsigned(server.share.get());
            server.current_weight.set(weight);
            if weight > highest {
                (best, highest) = (index, weight);
            }
        }
        self.servers[best].current_weight.set(highest.saturating_sub_unsigned(total));
        best
    }

    /// Every server gets a score for the key, and the best score wins, whatever the other servers are.
    fn rendezvous_hash(&self, key: Digest) -> Option<usize> {
        let key = (key.0 >> 64) as u64 ^ key.0 as u64;
        let score = |server: &ServerLoad| -> f64 {
            // Above 0 and at most 1, so that the logarithm is finite.
            let uniform = ((mix(key ^ server.hash_seed) >> 11) + 1) as f64 / (1_u64 << 53) as f64;
            -uniform.ln() / server.share.get() as f64
        };
        let scores = self.servers.iter().enumerate().filter(|(_, server)| server.share.get() > 0);
        let best = scores.map(|(index, server)| (index, score(server))).min_by(|one, other| one.1.total_cmp(&other.1));
        best.map(|(index, _)| index)
    }
}

/// The finaliser of `SplitMix64`: every bit depends on every other.
fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

impl TriedServers {
    pub(in crate::upstream) fn add(&mut self, index: usize) {
        self.0 |= 1 << index;
    }

    pub(in crate::upstream) fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn has(self, index: usize) -> bool {
        self.0 >> index & 1 == 1
    }
}

#[cfg(test)]
mod tests;
