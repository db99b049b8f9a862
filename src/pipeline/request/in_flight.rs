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
    max_per_address: usize,
    by_address: RefCell<HashMap<IpAddr, Weak<InFlightCounter>>>,
}

/// The requests in flight from one address, or /64 of IPv6.
#[derive(Debug)]
pub(crate) struct InFlightCounter {
    crowd: Rc<InFlightByAddress>,
    address: IpAddr,
    under_way: Cell<usize>,
    /// Of these, requests that only wait to be refused.
    held_back: Cell<usize>,
    pub(crate) tunnels: Cell<usize>,
}

/// A request that only waits to be refused, until it is dropped.
#[derive(Debug)]
pub(crate) struct DelayedRefusal<'s>(&'s InFlightCounter);

impl InFlightByAddress {
    pub(crate) fn new(max_per_address: usize) -> Rc<Self> {
        Rc::new(Self { max_per_address, by_address: RefCell::default() })
    }

    pub(crate) fn share(self: &Rc<Self>, address: IpAddr) -> Rc<InFlightCounter> {
        let address = counted_network(address);
        let mut by_address = self.by_address.borrow_mut();
        if let Some(share) = by_address.get(&address).and_then(Weak::upgrade) {
            return share;
        }
        let share = Rc::new(InFlightCounter {
            crowd: Rc::clone(self),
            address,
            under_way: Cell::new(0),
            held_back: Cell::new(0),
            tunnels: Cell::new(0),
        });
        by_address.insert(address, Rc::downgrade(&share));
        share
    }
}

impl Drop for DelayedRefusal<'_> {
    fn drop(&mut self) {
        self.0.held_back.set(self.0.held_back.get() - 1);
    }
}

impl InFlightCounter {
    pub(crate) fn begin(&self) {
        self.under_way.set(self.under_way.get() + 1);
    }

    pub(crate) fn end(&self) {
        self.under_way.set(self.under_way.get() - 1);
    }

    /// Those that only wait to be refused do not count: whoever asks again at once would be served nothing else.
    fn under_way(&self) -> usize {
        self.under_way.get() - self.held_back.get()
    }

    pub(crate) fn is_over_limit(&self) -> bool {
        self.under_way() > self.crowd.max_per_address
    }

    pub(crate) fn tarpit(&self) -> DelayedRefusal<'_> {
        self.held_back.set(self.held_back.get() + 1);
        DelayedRefusal(self)
    }
}

impl Drop for InFlightCounter {
    fn drop(&mut self) {
        self.crowd.by_address.borrow_mut().remove(&self.address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_one_share_as_long_as_anyone_holds_it() {
        let crowd = InFlightByAddress::new(9);
        let share = |text: &str| crowd.share(text.parse().unwrap());
        let (one, same, other) = (share("2001:db8::1"), share("2001:db8::2"), share("10.0.0.1"));
        one.begin();
        assert_eq!((same.under_way(), other.under_way()), (1, 0));
        drop((one, other));
        assert_eq!((share("2001:db8::3").under_way(), crowd.by_address.borrow().len()), (1, 1));
        drop(same);
        assert_eq!(crowd.by_address.borrow().len(), 0);
    }
}
