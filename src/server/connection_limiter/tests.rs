use super::*;
use crate::network::Network;

fn limiter(
    total: Option<usize>,
    per_address: Option<usize>,
    trusted_proxies: Networks,
    workers: usize,
) -> ConnectionLimiter {
    ConnectionLimiter::new(ConnectionLimits { total, per_address, trusted_proxies }, workers)
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn the_limits_hold_and_places_come_back() {
    let limiter = Arc::new(limiter(Some(3), Some(2), Networks::default(), 1));
    let one = limiter.take(address("10.0.0.1"), 0).unwrap();
    let _two = limiter.take(address("10.0.0.1"), 0).unwrap();
    assert_eq!(limiter.take(address("10.0.0.1"), 0).unwrap_err(), ConnectionLimitReached::Address);
    let _three = limiter.take(address("10.0.0.2"), 0).unwrap();
    assert_eq!(limiter.take(address("10.0.0.3"), 0).unwrap_err(), ConnectionLimitReached::Full);
    drop(one);
    assert!(limiter.take(address("10.0.0.1"), 0).is_ok());
}

#[tokio::test]
async fn listeners_wait_for_a_place_and_say_so() {
    let limiter = Arc::new(limiter(Some(1), None, Networks::default(), 1));
    let waits = async || {
        let mut one = pin!(limiter.wait_for_room());
        let mut other = pin!(limiter.wait_for_room());
        assert!(is_pending(&mut one) && is_pending(&mut other));
        (one.await, other.await)
    };
    limiter.wait_for_room().await;
    let only = limiter.take(address("10.0.0.1"), 0).unwrap();
    let ends = async {
        assert!(limiter.has_waiting_listeners());
        drop(only);
    };
    tokio::join!(biased; waits(), ends);
    limiter.close(true);
    let opens = async {
        assert!(!limiter.has_waiting_listeners(), "memory is waited for, and not places");
        limiter.close(false);
    };
    tokio::join!(biased; waits(), opens);
    assert!(!limiter.has_waiting_listeners());
}

fn is_pending<F: Future>(future: &mut std::pin::Pin<&mut F>) -> bool {
    future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_pending()
}

#[test]
fn a_trusted_proxys_connection_counts_for_the_client_it_names() {
    let trusted = [Network::parse("10.0.0.0/8").unwrap()].into_iter().collect();
    let limiter = Arc::new(limiter(Some(4), Some(1), trusted, 1));
    let mut all: Vec<ConnectionPermit> = (0..4).map(|_| limiter.take(address("10.0.0.1"), 0).unwrap()).collect();
    assert_eq!(limiter.take(address("10.0.0.1"), 0).unwrap_err(), ConnectionLimitReached::Full);
    assert!(all[0].recount_as(address("192.0.2.1")) && all[1].recount_as(address("192.0.2.2")));
    assert!(!all[2].recount_as(address("192.0.2.1")));
    assert!(all[3].recount_as(address("10.0.0.2")));
    all.remove(0);
    assert!(all[1].recount_as(address("192.0.2.1")));
    all.clear();
    let expected =
        Counts { taken: 0, by_worker: vec![0], refused: 1, last_refused: Some(address("192.0.2.1")), shortages: 0 };
    assert_eq!(limiter.counts(), expected);
    assert!(limiter.taken.lock().unwrap().by_address.is_empty());
}

#[test]
fn shortages_are_logged_at_intervals_with_their_number() {
    let limiter = limiter(None, None, Networks::default(), 1);
    let (start, second) = (Instant::now(), Duration::from_secs(1));
    let told: Vec<_> =
        (0..25).map(|n| limiter.record_shortage(start + n * Duration::from_millis(100), second)).collect();
    assert_eq!(told.iter().flatten().collect::<Vec<_>>(), [&1, &10, &10]);
    assert_eq!(limiter.counts().shortages, 25);
}

#[test]
fn connections_are_spread_evenly_over_the_workers() {
    for workers in [2, 3, 8] {
        let limiter = Arc::new(limiter(None, None, Networks::default(), workers));
        let mut all = Vec::new();
        for number in 1..=640 {
            all.push(limiter.take(address("10.0.0.1"), 0).unwrap());
            let counts = limiter.counts().by_worker;
            let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            assert!(most - least <= 1 + least / 16, "{number}: {counts:?}");
        }
        let mut strayed = all.pop().unwrap();
        strayed.move_to_worker(1);
        assert_eq!(strayed.worker(), 1);
        all.retain(|place| place.worker() != 1);
        assert_eq!(limiter.counts().by_worker[1], 1);
        drop((all, strayed));
        assert_eq!(limiter.counts().by_worker, vec![0; workers]);
    }
}
