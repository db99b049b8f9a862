//! The limit on pinned connections, for each client address in the whole process.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use foldhash::HashMap;

/// Counts pinned connections. Locked only when a connection is pinned or a pinned one ends.
#[derive(Debug, Default)]
pub(crate) struct PinLimit(Mutex<HashMap<IpAddr, usize>>);

/// The permission to have one connection pinned, until it is dropped.
#[derive(Debug)]
pub(super) struct PinPermit {
    limit: Arc<PinLimit>,
    address: IpAddr,
}

const MAX_PER_ADDRESS: usize = 8;

impl PinLimit {
    pub(super) fn acquire(self: &Arc<Self>, address: IpAddr) -> Option<PinPermit> {
        let mut pinned = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = pinned.entry(address).or_insert(0);
        if *count == MAX_PER_ADDRESS {
            return None;
        }
        *count += 1;
        Some(PinPermit { limit: Arc::clone(self), address })
    }
}

impl Drop for PinPermit {
    fn drop(&mut self) {
        let mut pinned = self.limit.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = pinned.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                pinned.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_maximum_of_pins_until_one_ends() {
        let limit = Arc::<PinLimit>::default();
        let [one, other] = ["10.0.0.1", "10.0.0.2"].map(|address| address.parse().unwrap());
        let mut permits: Vec<_> = (0..MAX_PER_ADDRESS).map(|_| limit.acquire(one).unwrap()).collect();
        assert!(limit.acquire(one).is_none() && limit.acquire(other).is_some());
        permits.pop();
        assert!(limit.acquire(one).is_some());
        drop(permits);
        assert!(limit.0.lock().unwrap().is_empty(), "an address without pins is forgotten");
    }
}
