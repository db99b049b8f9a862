//! The requests in flight from one address, so that no address takes all the capacity.
//!
//! Connections from one address share one counter, which they look up when they begin: a request only adds to it. A
//! counter is dropped with the last connection of its address.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::{Rc, Weak};

use foldhash::HashMap;

use crate::network::counted_network;

/// The counters of one worker.
#[derive(Debug)]
pub(crate) struct InFlightByAddress {
    max_per_address: Cell<usize>,
    by_address: RefCell<HashMap<IpAddr, Weak<InFlightCounter>>>,
}

/// The requests in flight from one address, or /64 of IPv6.
#[derive(Debug)]
pub(crate) struct InFlightCounter {
    all: Rc<InFlightByAddress>,
    address: IpAddr,
    in_flight: Cell<usize>,
    /// Of these, requests that only wait to be refused.
    delayed: Cell<usize>,
    pub(crate) tunnels: Cell<usize>,
}

/// A request that only waits to be refused, until it is dropped.
#[derive(Debug)]
pub(crate) struct DelayedRefusal<'s>(&'s InFlightCounter);

impl InFlightByAddress {
    pub(crate) fn new(max_per_address: usize) -> Rc<Self> {
        Rc::new(Self { max_per_address: Cell::new(max_per_address), by_address: RefCell::default() })
    }

    pub(crate) fn set_max(&self, max_per_address: usize) {
        self.max_per_address.set(max_per_address);
    }

    pub(crate) fn counter_of(self: &Rc<Self>, address: IpAddr) -> Rc<InFlightCounter> {
        let address = counted_network(address);
        let mut by_address = self.by_address.borrow_mut();
        if let Some(counter) = by_address.get(&address).and_then(Weak::upgrade) {
            return counter;
        }
        let counter = Rc::new(InFlightCounter {
            all: Rc::clone(self),
            address,
            in_flight: Cell::new(0),
            delayed: Cell::new(0),
            tunnels: Cell::new(0),
        });
        by_address.insert(address, Rc::downgrade(&counter));
        counter
    }
}

impl Drop for DelayedRefusal<'_> {
    fn drop(&mut self) {
        self.0.delayed.set(self.0.delayed.get() - 1);
    }
}

impl InFlightCounter {
    pub(crate) fn begin(&self) {
        self.in_flight.set(self.in_flight.get() + 1);
    }

    pub(crate) fn end(&self) {
        self.in_flight.set(self.in_flight.get() - 1);
    }

    /// Requests that only wait to be refused do not count: a client that repeats its requests at once would otherwise
    /// get nothing but refusals.
    fn in_flight(&self) -> usize {
        self.in_flight.get() - self.delayed.get()
    }

    pub(crate) fn is_over_limit(&self) -> bool {
        self.in_flight() > self.all.max_per_address.get()
    }

    pub(crate) fn delay(&self) -> DelayedRefusal<'_> {
        self.delayed.set(self.delayed.get() + 1);
        DelayedRefusal(self)
    }
}

impl Drop for InFlightCounter {
    fn drop(&mut self) {
        self.all.by_address.borrow_mut().remove(&self.address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_one_share_as_long_as_anyone_holds_it() {
        let all = InFlightByAddress::new(9);
        let counter = |text: &str| all.counter_of(text.parse().unwrap());
        let (one, same, other) = (counter("2001:db8::1"), counter("2001:db8::2"), counter("10.0.0.1"));
        one.begin();
        assert_eq!((same.in_flight(), other.in_flight()), (1, 0));
        drop((one, other));
        assert_eq!((counter("2001:db8::3").in_flight(), all.by_address.borrow().len()), (1, 1));
        drop(same);
        assert_eq!(all.by_address.borrow().len(), 0);
    }
}
