//! Limits the number of connections, in total and for each address, and assigns them to workers.
//!
//! The kernel distributes connections over the sockets of the workers by a hash. That is even for thousands of
//! connections, but four may all go to one worker. So a new connection is assigned to the worker with the fewest,
//! unless the difference is small.
//!
//! While the limit on all connections is reached, or memory is short, [`ConnectionLimiter::wait_for_room`] waits and
//! nothing is accepted: new connections wait in the kernel's queue. A connection over the limit of its address is
//! refused.
//!
//! Trusted proxies are not counted by address, since each carries many clients. The client that a PROXY header names is
//! counted.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::network::{Networks, counted_network};

/// Shared by all workers. Used when a connection begins and ends, never by a request.
#[derive(Debug)]
pub(crate) struct ConnectionLimiter {
    taken: Mutex<TakenPermits>,
    closed: AtomicBool,
    /// Listeners that wait because the limit on all connections is reached.
    waiting: AtomicUsize,
    changed: Notify,
}

/// The configured limits. `None` is unlimited.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConnectionLimits {
    pub(crate) total: Option<usize>,
    pub(crate) per_address: Option<usize>,
    /// Not counted by address.
    pub(crate) trusted_proxies: Networks,
}

/// The limit that a connection exceeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionLimitReached {
    /// The limit on all connections: wait.
    Full,
    /// The limit of the address: refuse.
    Address,
}

/// Counts a waiting listener until it is dropped.
struct WaitingListener<'p>(&'p ConnectionLimiter);

#[derive(Debug, Default)]
struct TakenPermits {
    limits: ConnectionLimits,
    total: usize,
    by_address: HashMap<IpAddr, usize>,
    by_worker: Vec<usize>,
    refused: u64,
    last_refused: Option<IpAddr>,
    shortages: KernelShortages,
}

/// Counts the connections for which the kernel had no file descriptor or memory.
#[derive(Debug, Default)]
struct KernelShortages {
    total: u64,
    unlogged: u64,
    last_logged: Option<Instant>,
}

/// The reason for which listeners must not accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AcceptBlocker {
    Nothing,
    Places,
    Memory,
}

/// The counts for the metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) taken: u64,
    pub(crate) by_worker: Vec<u64>,
    /// Refused: over the limit of their address.
    pub(crate) refused: u64,
    /// The address of the last one that was refused.
    pub(crate) last_refused: Option<IpAddr>,
    /// Not accepted: no file descriptor or memory.
    pub(crate) shortages: u64,
}

/// Counts a connection until it is dropped.
#[derive(Debug)]
pub(crate) struct ConnectionPermit {
    limiter: Arc<ConnectionLimiter>,
    /// `None` if the address is not counted.
    address: Option<IpAddr>,
    worker: usize,
}

/// A worker may have one connection in this many more than another: a handoff costs time too.
const TOLERATED_IMBALANCE: usize = 16;

impl ConnectionLimiter {
    pub(crate) fn new(limits: ConnectionLimits, workers: usize) -> Self {
        let taken = Mutex::new(TakenPermits { limits, by_worker: vec![0; workers], ..TakenPermits::default() });
        Self { taken, closed: AtomicBool::new(false), waiting: AtomicUsize::new(0), changed: Notify::new() }
    }

    /// Other limits. Open connections stay, also those beyond a lower limit.
    pub(crate) fn set_limits(&self, limits: ConnectionLimits) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).limits = limits;
        self.changed.notify_waiters();
    }

    /// While closed, no connection is accepted.
    pub(crate) fn close(&self, closed: bool) {
        self.closed.store(closed, Ordering::Relaxed);
        if !closed {
            self.changed.notify_waiters();
        }
    }

    /// Waits until one more connection may be accepted. If another worker is faster, [`Self::take`] fails.
    pub(crate) async fn wait_for_room(&self) {
        if self.accept_blocker() == AcceptBlocker::Nothing {
            return;
        }
        loop {
            let mut changed = pin!(self.changed.notified());
            // Changes from here on are noticed, even before the wait begins.
            changed.as_mut().enable();
            let _waiting = match self.accept_blocker() {
                AcceptBlocker::Nothing => return,
                AcceptBlocker::Places => Some(WaitingListener::new(self)),
                AcceptBlocker::Memory => None,
            };
            if self.accept_blocker() != AcceptBlocker::Nothing {
                changed.await;
            }
        }
    }

    /// Whether a listener waits because the limit on all connections is reached.
    pub(crate) fn has_waiting_listeners(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    fn accept_blocker(&self) -> AcceptBlocker {
        if self.closed.load(Ordering::Relaxed) {
            return AcceptBlocker::Memory;
        }
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.is_full() { AcceptBlocker::Places } else { AcceptBlocker::Nothing }
    }

    /// Counts a connection that this worker has accepted.
    pub(crate) fn take(
        self: &Arc<Self>,
        address: IpAddr,
        worker: usize,
    ) -> Result<ConnectionPermit, ConnectionLimitReached> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.is_full() {
            return Err(ConnectionLimitReached::Full);
        }
        let Some(address) = taken.count(address) else {
            taken.refuse(address);
            return Err(ConnectionLimitReached::Address);
        };
        taken.total += 1;
        let worker = taken.assign_worker(worker);
        Ok(ConnectionPermit { limiter: Arc::clone(self), address, worker })
    }

    /// Counts a connection that could not be accepted. Once in `every`, returns the number since the last log event.
    pub(crate) fn record_shortage(&self, now: Instant, every: Duration) -> Option<u64> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let shortages = &mut taken.shortages;
        shortages.total += 1;
        shortages.unlogged += 1;
        if shortages.last_logged.is_some_and(|last| now.duration_since(last) < every) {
            return None;
        }
        shortages.last_logged = Some(now);
        Some(std::mem::take(&mut shortages.unlogged))
    }

    pub(crate) fn counts(&self) -> Counts {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let by_worker = taken.by_worker.iter().map(|count| *count as u64).collect();
        Counts {
            taken: taken.total as u64,
            by_worker,
            refused: taken.refused,
            last_refused: taken.last_refused,
            shortages: taken.shortages.total,
        }
    }
}

impl ConnectionPermit {
    /// The worker to which the connection is assigned.
    pub(crate) fn worker(&self) -> usize {
        self.worker
    }

    /// Assigns the connection to another worker, after a failed handoff.
    pub(crate) fn move_to_worker(&mut self, worker: usize) {
        let mut taken = self.limiter.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.by_worker[self.worker] -= 1;
        taken.by_worker[worker] += 1;
        self.worker = worker;
    }

    /// Counts the connection under another address from now on. False if the limit of that address is reached.
    pub(crate) fn recount_as(&mut self, address: IpAddr) -> bool {
        let mut taken = self.limiter.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.release_address(self.address.take());
        let counted = taken.count(address);
        self.address = counted.flatten();
        if counted.is_none() {
            taken.refuse(address);
        }
        counted.is_some()
    }
}

impl TakenPermits {
    fn is_full(&self) -> bool {
        self.limits.total.is_some_and(|limit| self.total >= limit)
    }

    /// Counts the address, and returns the network under which it is counted, if it is. `None` if its limit is reached.
    fn count(&mut self, address: IpAddr) -> Option<Option<IpAddr>> {
        if self.limits.trusted_proxies.contains(address) {
            return Some(None);
        }
        let address = counted_network(address);
        let here = self.by_address.get(&address).copied().unwrap_or(0);
        if self.limits.per_address.is_some_and(|limit| here >= limit) {
            return None;
        }
        self.by_address.insert(address, here + 1);
        Some(Some(address))
    }

    fn assign_worker(&mut self, accepted_by: usize) -> usize {
        let fewest = self.by_worker.iter().copied().enumerate().min_by_key(|(_, count)| *count);
        let worker = match fewest {
            Some((worker, count)) if self.by_worker[accepted_by] > count + count / TOLERATED_IMBALANCE => worker,
            _ => accepted_by,
        };
        self.by_worker[worker] += 1;
        worker
    }

    fn refuse(&mut self, address: IpAddr) {
        self.refused += 1;
        self.last_refused = Some(address.to_canonical());
    }

    fn release_address(&mut self, address: Option<IpAddr>) {
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
        let mut taken = self.limiter.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.total -= 1;
        taken.by_worker[self.worker] -= 1;
        taken.release_address(self.address);
        drop(taken);
        if self.limiter.has_waiting_listeners() {
            self.limiter.changed.notify_waiters();
        }
    }
}

impl<'p> WaitingListener<'p> {
    fn new(limiter: &'p ConnectionLimiter) -> Self {
        limiter.waiting.fetch_add(1, Ordering::SeqCst);
        Self(limiter)
    }
}

impl Drop for WaitingListener<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests;
