//! The number of open tunnels, in all and from one address. Tunnels last, so they do not count as requests in flight.

use std::cell::Cell;
use std::rc::Rc;

use crate::pipeline::request::in_flight::InFlightCounter;

/// The tunnels of one worker.
#[derive(Debug)]
pub(crate) struct Tunnels {
    open: Cell<usize>,
    max: Cell<usize>,
    max_per_address: Cell<usize>,
}

/// The slot of one tunnel. Dropping it releases the slot.
#[derive(Debug)]
pub(crate) struct TunnelPermit {
    tunnels: Rc<Tunnels>,
    counter: Option<Rc<InFlightCounter>>,
}

impl Tunnels {
    pub(crate) fn new(max: usize, max_per_address: usize) -> Rc<Self> {
        Rc::new(Self { open: Cell::new(0), max: Cell::new(max), max_per_address: Cell::new(max_per_address) })
    }

    /// Other limits. Open tunnels stay.
    pub(crate) fn set_max(&self, max: usize, max_per_address: usize) {
        self.max.set(max);
        self.max_per_address.set(max_per_address);
    }

    pub(crate) fn open(&self) -> usize {
        self.open.get()
    }

    /// `counter` is the counter of the address, if it has one. `None` where the limit is reached.
    pub(crate) fn take(self: &Rc<Self>, counter: Option<&Rc<InFlightCounter>>) -> Option<TunnelPermit> {
        let here = counter.map_or(0, |counter| counter.tunnels.get());
        if self.open.get() >= self.max.get() || here >= self.max_per_address.get() {
            return None;
        }
        self.open.set(self.open.get() + 1);
        if let Some(counter) = counter {
            counter.tunnels.set(here + 1);
        }
        Some(TunnelPermit { tunnels: Rc::clone(self), counter: counter.cloned() })
    }
}

impl Drop for TunnelPermit {
    fn drop(&mut self) {
        self.tunnels.open.set(self.tunnels.open.get() - 1);
        if let Some(counter) = &self.counter {
            counter.tunnels.set(counter.tunnels.get() - 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::request::in_flight::InFlightByAddress;

    #[test]
    fn the_limits_hold_and_places_come_back() {
        let all = InFlightByAddress::new(9);
        let [one, other] = ["10.0.0.1", "10.0.0.2"].map(|address| all.counter_of(address.parse().unwrap()));
        let tunnels = Tunnels::new(3, 2);
        let first = tunnels.take(Some(&one)).unwrap();
        let _second = tunnels.take(Some(&one)).unwrap();
        assert!(tunnels.take(Some(&one)).is_none(), "enough from one address");
        let _third = tunnels.take(Some(&other)).unwrap();
        assert!(tunnels.take(Some(&other)).is_none() && tunnels.take(None).is_none(), "enough in all");
        drop(first);
        assert!(tunnels.take(Some(&one)).is_some());
        assert_eq!((tunnels.open(), one.tunnels.get(), other.tunnels.get()), (2, 1, 1));
    }
}
