//! The limit on pinned connections, for each client address in the whole process.
//!
//! A caller gets the offer to authenticate a connection without any credentials. Connections with no more than that
//! have half of the pins, so that they cannot use up those of callers with credentials.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use foldhash::HashMap;

/// Counts pinned connections. Locked only when a connection is pinned or a pinned one ends.
#[derive(Debug, Default)]
pub(crate) struct PinLimit(Mutex<HashMap<IpAddr, PinCounts>>);

#[derive(Clone, Copy, Debug, Default)]
struct PinCounts {
    all: usize,
    offered: usize,
}

/// The permission to have one connection pinned, until it is dropped.
#[derive(Debug)]
pub(super) struct PinPermit {
    limit: Arc<PinLimit>,
    address: IpAddr,
    /// Its caller has sent no credentials for the connection.
    is_offered: bool,
}

const MAX_PER_ADDRESS: usize = 8;
const MAX_OFFERED: usize = MAX_PER_ADDRESS / 2;

impl PinLimit {
    /// With `is_offered`, the connection was only offered to be authenticated.
    pub(super) fn acquire(self: &Arc<Self>, address: IpAddr, is_offered: bool) -> Option<PinPermit> {
        let mut pinned = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = pinned.entry(address).or_default();
        if counts.all == MAX_PER_ADDRESS || (is_offered && counts.offered == MAX_OFFERED) {
            return None;
        }
        counts.all += 1;
        counts.offered += usize::from(is_offered);
        Some(PinPermit { limit: Arc::clone(self), address, is_offered })
    }
}

impl PinPermit {
    /// The caller has sent credentials for the connection.
    pub(super) fn accept_offer(&mut self) {
        if std::mem::take(&mut self.is_offered) {
            let mut pinned = self.limit.0.lock().unwrap_or_else(PoisonError::into_inner);
            pinned.entry(self.address).and_modify(|counts| counts.offered -= 1);
        }
    }
}

impl Drop for PinPermit {
    fn drop(&mut self) {
        let mut pinned = self.limit.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counts) = pinned.get_mut(&self.address) {
            counts.all -= 1;
            counts.offered -= usize::from(self.is_offered);
            if counts.all == 0 {
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
        let mut permits: Vec<_> = (0..MAX_PER_ADDRESS).map(|_| limit.acquire(one, false).unwrap()).collect();
        assert!(limit.acquire(one, false).is_none() && limit.acquire(other, false).is_some());
        permits.pop();
        assert!(limit.acquire(one, true).is_some());
        drop(permits);
        assert!(limit.0.lock().unwrap().is_empty(), "an address without pins is forgotten");
    }

    #[test]
    fn offers_have_half_of_the_pins_until_they_are_accepted() {
        let limit = Arc::<PinLimit>::default();
        let address = "10.0.0.1".parse().unwrap();
        let mut offered: Vec<_> = (0..MAX_OFFERED).map(|_| limit.acquire(address, true).unwrap()).collect();
        assert!(limit.acquire(address, true).is_none());
        let accepted = limit.acquire(address, false);
        assert!(accepted.is_some());
        offered[0].accept_offer();
        offered[0].accept_offer();
        let another = limit.acquire(address, true);
        assert!(another.is_some() && limit.acquire(address, true).is_none());
        drop((offered, accepted, another));
        assert!(limit.0.lock().unwrap().is_empty());
    }
}
