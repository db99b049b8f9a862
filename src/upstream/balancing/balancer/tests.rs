use std::time::Duration;

use proptest::prelude::*;

use super::super::super::protocol::UpstreamProtocol;
use super::super::super::server::ServerOrigin;
use super::*;
use crate::trust::request_key::RequestKey;

const NOW: u64 = 1_000_000;

struct Servers {
    settings: UpstreamSettings,
    statuses: Vec<ServerStatus>,
    balancer: Balancer,
}

fn servers(weights: &[u32], balance: Balance) -> Servers {
    let server = |(number, weight): (usize, &u32)| {
        let origin = ServerOrigin::parse(&format!("http://10.0.0.{number}:9")).unwrap();
        Server { weight: *weight, ..Server::tcp(origin, None, UpstreamProtocol::Http1) }
    };
    let servers: Vec<_> = weights.iter().enumerate().map(server).collect();
    let timeout = Duration::from_secs(1);
    Servers {
        settings: UpstreamSettings { balance, ..UpstreamSettings::new(timeout, timeout) },
        statuses: servers.iter().map(|_| ServerStatus::default()).collect(),
        balancer: Balancer::new(&servers),
    }
}

impl Servers {
    fn choose(&self, key: Option<Digest>, tried: TriedServers, now: u64) -> Option<usize> {
        self.balancer.choose(&self.settings, &self.statuses, key, tried, now)
    }

    fn owner(&self, key: u128) -> usize {
        self.choose(Some(Digest(key)), TriedServers::default(), NOW).unwrap()
    }

    /// How often each was chosen, with keys that differ.
    fn choices(&self, count: u64, now: u64) -> Vec<u64> {
        fastrand::seed(7);
        let mut chosen = vec![0; self.statuses.len()];
        for number in 0..count {
            let key = Digest(u128::from(mix(number)));
            chosen[self.choose(Some(key), TriedServers::default(), now).unwrap()] += 1;
        }
        chosen
    }

    fn set_in_flight(&self, counts: &[u32]) {
        self.balancer.servers.iter().zip(counts).for_each(|(server, count)| server.in_flight.set(*count));
    }
}

fn every_policy() -> [Balance; 4] {
    [Balance::LeastRequests, Balance::RoundRobin, Balance::Random, Balance::Hash(RequestKey::Client)]
}

#[test]
fn weights_are_respected() {
    for balance in every_policy() {
        let chosen = servers(&[1, 2, 7], balance.clone()).choices(10_000, NOW);
        for (chosen, expected) in chosen.iter().zip([1_000_u64, 2_000, 7_000]) {
            assert!(chosen.abs_diff(expected) <= expected / 10, "{balance:?}: {chosen} for {expected}");
        }
    }
}

#[test]
fn of_two_servers_the_one_with_fewer_requests_is_chosen() {
    let equal = servers(&[1, 1], Balance::LeastRequests);
    equal.set_in_flight(&[1]);
    assert_eq!(equal.choices(1_000, NOW), [0, 1_000]);
    let weighted = servers(&[1, 3], Balance::LeastRequests);
    weighted.set_in_flight(&[1, 2]);
    assert_eq!(weighted.choices(1_000, NOW), [0, 1_000], "two for a weight of three is less than one for one");
    let many = servers(&[1; 10], Balance::LeastRequests);
    many.set_in_flight(&[100]);
    let chosen = many.choices(1_000, NOW);
    assert!(chosen[0] == 0 && chosen[1..].iter().all(|chosen| *chosen > 50), "{chosen:?}");
}

#[test]
fn round_robin_spreads_the_turns() {
    let servers = servers(&[5, 1, 1], Balance::RoundRobin);
    let turns: Vec<_> = (0..7).map(|_| servers.choose(None, TriedServers::default(), NOW).unwrap()).collect();
    assert_eq!(turns, [0, 0, 1, 0, 2, 0, 0]);
}

#[test]
fn an_unhealthy_ejected_full_or_tried_server_is_not_chosen() {
    for balance in every_policy() {
        let mut servers = servers(&[1; 5], balance);
        servers.settings.caps.in_flight = Some(1);
        servers.statuses[0].set_healthy(false, NOW);
        servers.statuses[1].eject(NOW + 1);
        assert!(servers.statuses[2].begin_request(1));
        let mut tried = TriedServers::default();
        tried.add(3);
        for _ in 0..100 {
            assert_eq!(servers.choose(Some(Digest(7)), tried, NOW), Some(4));
        }
        tried.add(4);
        assert_eq!(servers.choose(Some(Digest(7)), tried, NOW), None);
    }
}

#[test]
fn if_all_are_unhealthy_all_are_used() {
    for balance in every_policy() {
        let servers = servers(&[1; 3], balance);
        servers.statuses.iter().for_each(|status| assert!(status.set_healthy(false, NOW)));
        assert!(servers.choices(1_000, NOW).iter().all(|chosen| *chosen > 200));
    }
}

#[test]
fn a_recovered_server_starts_slowly() {
    for balance in every_policy() {
        let mut servers = servers(&[1, 1], balance.clone());
        servers.settings.slow_start = Some(Duration::from_secs(30));
        servers.statuses[0].eject(NOW);
        for (after, share) in [(0, 10.0 / 110.0), (15_000, 50.0 / 150.0), (30_000, 0.5)] {
            let chosen = servers.choices(10_000, NOW + after)[0] as f64 / 10_000.0;
            assert!((chosen - share).abs() < 0.03, "{balance:?} after {after} ms: {chosen}");
        }
    }
}

proptest! {
    #[test]
    fn a_lost_server_moves_its_own_keys_only(
        weights in proptest::collection::vec(1..=20_u32, 2..8),
        lost in 0..8_usize,
        keys in proptest::collection::vec(any::<u128>(), 1..50),
    ) {
        let servers = servers(&weights, Balance::Hash(RequestKey::Client));
        let lost = lost % weights.len();
        let owners = || keys.iter().map(|key| servers.owner(*key)).collect::<Vec<_>>();
        let before = owners();
        servers.statuses[lost].set_healthy(false, NOW);
        let during = owners();
        for (before, during) in before.iter().zip(&during) {
            prop_assert!(*during != lost && (before == during || *before == lost));
        }
        servers.statuses[lost].set_healthy(true, NOW);
        prop_assert_eq!(owners(), before);
    }
}
