//! How many connections there are, in all and from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Shared by all workers; touched when a connection begins and ends, never by a request.
#[derive(Debug)]
pub(crate) struct Places {
    total: Option<usize>,
    per_address: Option<usize>,
    taken: Mutex<Taken>,
    closed: AtomicBool,
}

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A connection's place; free again when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    address: IpAddr,
}

impl Places {
    pub(crate) fn new(total: Option<usize>, per_address: Option<usize>) -> Self {
        Self { total, per_address, taken: Mutex::default(), closed: AtomicBool::new(false) }
    }

    /// While closed, there is no place for anyone.
    pub(crate) fn close(&self, closed: bool) {
        self.closed.store(closed, Ordering::Relaxed);
    }

    /// `None` where the limit is reached.
    pub(crate) fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        if self.closed.load(Ordering::Relaxed) {
            return None;
        }
        let address = network(address);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let here = taken.by_address.get(&address).copied().unwrap_or(0);
        let full = |limit: Option<usize>, now| limit.is_some_and(|limit| now >= limit);
        if full(self.total, taken.total) || full(self.per_address, here) {
            return None;
        }
        taken.total += 1;
        taken.by_address.insert(address, here + 1);
        Some(Place { places: Arc::clone(self), address })
    }

    pub(crate) fn taken(&self) -> usize {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).total
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.total -= 1;
        if let Some(here) = taken.by_address.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
}

/// What one stranger can have many addresses in: IPv4 counts by address, IPv6 by /64.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_limits_hold_and_places_come_back() {
        let places = Arc::new(Places::new(Some(3), Some(2)));
        let one = places.take(address("10.0.0.1")).unwrap();
        let _two = places.take(address("10.0.0.1")).unwrap();
        assert!(places.take(address("10.0.0.1")).is_none());
        let _three = places.take(address("10.0.0.2")).unwrap();
        assert!(places.take(address("10.0.0.3")).is_none());
        drop(one);
        assert!(places.take(address("10.0.0.1")).is_some());
    }

    #[test]
    fn a_walk_through_a_64_counts_as_one_address() {
        assert_eq!(network(address("2001:db8::1")), network(address("2001:db8::ffff:1")));
        assert_ne!(network(address("2001:db8::1")), network(address("2001:db8:0:1::1")));
        assert_eq!(network(address("::ffff:10.0.0.1")), address("10.0.0.1"));
    }
}
