//! How many connections there are, in all, from one address, and with each worker.
//!
//! The kernel spreads connections over the workers' sockets by a hash, which is even for thousands and may be four to none for four: a
//! newcomer's place is with the worker that has fewest, unless it makes no odds.
//!
//! While the limit on all connections is reached, or memory is short, [`ConnectionLimiter::room`] waits and nothing is accepted: newcomers wait in
//! the kernel's queue. A connection of an address that has enough is refused for good.
//!
//! Trusted proxies are not counted by address: many come by one. Whoever they name in a PROXY header is.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::network::{Networks, counted_network};

/// Shared by all workers; touched when a connection begins and ends, never by a request.
#[derive(Debug)]
pub(crate) struct ConnectionLimiter {
    total: Option<usize>,
    per_address: Option<usize>,
    trusted_proxies: Networks,
    taken: Mutex<TakenPermits>,
    closed: AtomicBool,
    /// Listeners that wait because the limit on all connections is reached.
    waiting: AtomicUsize,
    changed: Notify,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionLimitReached {
    /// There may be one soon.
    Full,
    /// The address has as many as it may have.
    Address,
}

/// A listener that waits, until it is dropped.
struct WaitingListener<'p>(&'p ConnectionLimiter);

#[derive(Debug, Default)]
struct TakenPermits {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
    by_worker: Vec<usize>,
    refused: u64,
    shortages: KernelShortages,
}

/// Times that the kernel had no descriptor or memory for a connection.
#[derive(Debug, Default)]
struct KernelShortages {
    total: u64,
    unsaid: u64,
    last_said: Option<Instant>,
}

/// What keeps listeners from accepting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AcceptBlocker {
    Nothing,
    Places,
    Memory,
}

/// For metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) taken: u64,
    pub(crate) by_worker: Vec<u64>,
    /// Over the limit of an address.
    pub(crate) refused: u64,
    /// For want of a descriptor or memory.
    pub(crate) shortages: u64,
}

/// A connection's place; free again when dropped.
#[derive(Debug)]
pub(crate) struct ConnectionPermit {
    places: Arc<ConnectionLimiter>,
    /// `None` where it does not count.
    address: Option<IpAddr>,
    worker: usize,
}

/// A worker may have one in so many more than another: handing over costs a little, too.
const SLACK: usize = 16;

impl ConnectionLimiter {
    pub(crate) fn new(
        total: Option<usize>,
        per_address: Option<usize>,
        trusted_proxies: Networks,
        workers: usize,
    ) -> Self {
        let taken = Mutex::new(TakenPermits { by_worker: vec![0; workers], ..TakenPermits::default() });
        Self {
            total,
            per_address,
            trusted_proxies,
            taken,
            closed: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            changed: Notify::new(),
        }
    }

    /// While closed, there is no room for anyone.
    pub(crate) fn close(&self, closed: bool) {
        self.closed.store(closed, Ordering::Relaxed);
        if !closed {
            self.changed.notify_waiters();
        }
    }

    /// Waits until one more may be accepted. Another worker may be faster: then [`Self::take`] says so.
    pub(crate) async fn room(&self) {
        if self.lack() == AcceptBlocker::Nothing {
            return;
        }
        loop {
            let mut changed = pin!(self.changed.notified());
            // What changes from here on is heard of, even if it changes before the wait begins.
            changed.as_mut().enable();
            let _waiting = match self.lack() {
                AcceptBlocker::Nothing => return,
                AcceptBlocker::Places => Some(WaitingListener::new(self)),
                AcceptBlocker::Memory => None,
            };
            if self.lack() != AcceptBlocker::Nothing {
                changed.await;
            }
        }
    }

    /// Whether a listener waits because the limit on all connections is reached.
    pub(crate) fn are_waited_for(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    fn lack(&self) -> AcceptBlocker {
        if self.closed.load(Ordering::Relaxed) {
            return AcceptBlocker::Memory;
        }
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_full(&taken) { AcceptBlocker::Places } else { AcceptBlocker::Nothing }
    }

    fn is_full(&self, taken: &TakenPermits) -> bool {
        self.total.is_some_and(|limit| taken.total >= limit)
    }

    /// For a connection that this worker has accepted.
    pub(crate) fn take(
        self: &Arc<Self>,
        address: IpAddr,
        worker: usize,
    ) -> Result<ConnectionPermit, ConnectionLimitReached> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_full(&taken) {
            return Err(ConnectionLimitReached::Full);
        }
        let Some(address) = self.count(&mut taken, address) else {
            taken.refused += 1;
            return Err(ConnectionLimitReached::Address);
        };
        taken.total += 1;
        let worker = taken.join_fewest(worker);
        Ok(ConnectionPermit { places: Arc::clone(self), address, worker })
    }

    /// What the address counts as, if at all; `None` where there are enough of it.
    fn count(&self, taken: &mut TakenPermits, address: IpAddr) -> Option<Option<IpAddr>> {
        if self.trusted_proxies.contains(address) {
            return Some(None);
        }
        let address = counted_network(address);
        let here = taken.by_address.get(&address).copied().unwrap_or(0);
        if self.per_address.is_some_and(|limit| here >= limit) {
            return None;
        }
        taken.by_address.insert(address, here + 1);
        Some(Some(address))
    }

    /// Counts a connection that could not be taken; gives how many there were since someone was last told, once in `every`.
    pub(crate) fn shortage(&self, now: Instant, every: Duration) -> Option<u64> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let shortages = &mut taken.shortages;
        shortages.total += 1;
        shortages.unsaid += 1;
        if shortages.last_said.is_some_and(|last| now.duration_since(last) < every) {
            return None;
        }
        shortages.last_said = Some(now);
        Some(std::mem::take(&mut shortages.unsaid))
    }

    pub(crate) fn counts(&self) -> Counts {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let by_worker = taken.by_worker.iter().map(|count| *count as u64).collect();
        Counts { taken: taken.total as u64, by_worker, refused: taken.refused, shortages: taken.shortages.total }
    }
}

impl ConnectionPermit {
    /// Whose connection it is.
    pub(crate) fn worker(&self) -> usize {
        self.worker
    }

    /// It could not be handed over.
    pub(crate) fn stay_with(&mut self, worker: usize) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.by_worker[self.worker] -= 1;
        taken.by_worker[worker] += 1;
        self.worker = worker;
    }

    /// Counts for this address from now on; says whether there is room for one more of it.
    pub(crate) fn pass_to(&mut self, address: IpAddr) -> bool {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.leave(self.address.take());
        let counted = self.places.count(&mut taken, address);
        self.address = counted.flatten();
        taken.refused += u64::from(counted.is_none());
        counted.is_some()
    }
}

impl TakenPermits {
    fn join_fewest(&mut self, accepted_by: usize) -> usize {
        let fewest = self.by_worker.iter().copied().enumerate().min_by_key(|(_, count)| *count);
        let worker = match fewest {
            Some((worker, count)) if self.by_worker[accepted_by] > count + count / SLACK => worker,
            _ => accepted_by,
        };
        self.by_worker[worker] += 1;
        worker
    }

    fn leave(&mut self, address: Option<IpAddr>) {
        let Some(address) = address else { return };
        if let Some(here) = self.by_address.get_mut(&address) {
            *here -= 1;
            if *here == 0 {
                self.by_address.remove(&address);
            }
        }
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.total -= 1;
        taken.by_worker[self.worker] -= 1;
        taken.leave(self.address);
        drop(taken);
        if self.places.are_waited_for() {
            self.places.changed.notify_waiters();
        }
    }
}

impl<'p> WaitingListener<'p> {
    fn new(places: &'p ConnectionLimiter) -> Self {
        places.waiting.fetch_add(1, Ordering::SeqCst);
        Self(places)
    }
}

impl Drop for WaitingListener<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests;
