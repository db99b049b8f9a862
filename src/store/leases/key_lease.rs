//! The cells of one key that this replica has. Pure: the time is a parameter.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::{LEASE_TIME, LeaseTerms};

/// The leased cells of one key, and the request for the next lease.
#[derive(Debug)]
pub(super) struct KeyLease {
    cells: u32,
    /// The end of the lease. From then on its cells are void, because the bucket in the store may be full again.
    ends: Instant,
    /// The size of the next lease. Adapts to the rate of spending.
    size: u32,
    last_grant: Instant,
    is_asked: bool,
    denial: Option<Denial>,
    share: Option<Share>,
    waiting: Vec<oneshot::Sender<()>>,
}

/// The bucket in the store is empty.
#[derive(Clone, Copy, Debug)]
struct Denial {
    /// The time of the next cell.
    until: Instant,
    /// The time at which the store is asked again, because its state may have changed.
    ask_at: Instant,
}

/// The bucket of this replica's share while the store is unreachable.
#[derive(Clone, Copy, Debug)]
struct Share {
    /// The number of the loss of the store.
    loss: u64,
    full_at: Instant,
}

/// The outcome of taking a cell.
#[derive(Debug)]
pub(super) enum Spending {
    Spent {
        remaining: u32,
        until_end: Duration,
        ask: Option<u32>,
    },
    Denied {
        wait: Duration,
    },
    /// The outcome depends on the answer of the store.
    Wait {
        answered: oneshot::Receiver<()>,
        ask: Option<u32>,
    },
}

/// A loss of the store, in which this replica takes its share of each limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Loss {
    /// Unique in this process.
    pub(super) number: u64,
    pub(super) since: Instant,
    /// The number of shares.
    pub(crate) replicas: u32,
}

/// An answer of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Granted {
    Cells {
        count: u32,
        for_time: Duration,
    },
    Nothing {
        for_time: Duration,
    },
    /// The store is unreachable, or has another epoch.
    Unknown,
}

/// The shortest time between two requests to the store while its bucket is empty.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(10);
/// The longest time between them. The clock or the content of the store may have changed.
const ASK_AGAIN_WITHIN: Duration = Duration::from_secs(10);
const FIRST_LEASE: u32 = 4;

impl KeyLease {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            cells: 0,
            ends: now,
            size: FIRST_LEASE,
            last_grant: now,
            is_asked: false,
            denial: None,
            share: None,
            waiting: Vec::new(),
        }
    }

    /// Takes a cell of the lease. `largest` is the size of the largest lease.
    pub(super) fn spend(&mut self, largest: u32, now: Instant) -> Spending {
        if let Some((remaining, until_end)) = self.take(now) {
            let is_low = self.size > 1 && self.cells <= self.size / 2;
            let may_ask = is_low && !self.is_asked && self.denial.is_none_or(|denial| now >= denial.ask_at);
            let ask = may_ask.then(|| self.next_size(largest, now));
            return Spending::Spent { remaining, until_end, ask };
        }
        if let Some(denial) = self.denial.filter(|denial| now < denial.ask_at) {
            return Spending::Denied { wait: denial.until - now };
        }
        let (answer, answered) = oneshot::channel();
        self.waiting.push(answer);
        let ask = (!self.is_asked).then(|| self.next_size(largest, now));
        Spending::Wait { answered, ask }
    }

    /// Takes a cell of the lease. The number of cells that are left, and the time until the lease ends.
    pub(super) fn take(&mut self, now: Instant) -> Option<(u32, Duration)> {
        if self.cells == 0 || now >= self.ends {
            self.cells = 0;
            return None;
        }
        self.cells -= 1;
        Some((self.cells, self.ends - now))
    }

    /// Takes a cell of this replica's share. `Err` has the time until the next cell.
    pub(super) fn spend_share(&mut self, terms: &LeaseTerms, loss: &Loss, now: Instant) -> Result<u32, Duration> {
        let (interval, burst) = (terms.interval(loss.replicas), terms.burst_of_each(loss.replicas));
        let known = self.share.filter(|share| share.loss == loss.number).map(|share| share.full_at);
        // The bucket starts empty at the loss of the store.
        let full_at = known.unwrap_or(loss.since + interval * burst).max(now);
        let (after, latest) = (full_at + interval, now + interval * burst);
        let is_allowed = after <= latest;
        self.share = Some(Share { loss: loss.number, full_at: if is_allowed { after } else { full_at } });
        if !is_allowed {
            return Err(after - latest);
        }
        let free = (latest - after).as_nanos() / interval.as_nanos().max(1);
        Ok(u32::try_from(free).unwrap_or(u32::MAX))
    }

    /// Takes the answer to the request of `asked_at`, and wakes the requests that wait for it.
    pub(super) fn answered(&mut self, granted: Granted, terms: &LeaseTerms, asked_at: Instant, now: Instant) {
        self.is_asked = false;
        match granted {
            Granted::Cells { count, for_time } => {
                if now >= self.ends {
                    self.cells = 0;
                }
                self.cells = self.cells.saturating_add(count);
                // The bucket is full no earlier than at the end of the later lease.
                self.ends = self.ends.max(asked_at + for_time);
                (self.last_grant, self.denial) = (now, None);
            }
            Granted::Nothing { for_time } => {
                // New cells stay in the store until its bucket is full.
                let filling = terms.interval(1) * (terms.burst.get() / 4);
                let wait = for_time.max(ASK_AGAIN_AFTER.min(filling));
                self.denial = Some(Denial { until: now + wait, ask_at: now + wait.min(ASK_AGAIN_WITHIN) });
            }
            Granted::Unknown => {}
        }
        self.wake();
    }

    pub(super) fn wake(&mut self) {
        // Fails if the request no longer waits.
        for waiting in self.waiting.drain(..) {
            let _ = waiting.send(());
        }
    }

    /// Whether the last lease has not ended.
    pub(super) fn is_in_use(&self, now: Instant) -> bool {
        now < self.ends
    }

    /// Whether it has no state, so that it can be removed.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        let has_cells = self.cells > 0 && now < self.ends;
        let has_share = self.share.is_some_and(|share| now < share.full_at);
        let is_denied = self.denial.is_some_and(|denial| now < denial.ask_at);
        !has_cells && !has_share && !is_denied && !self.is_asked && self.waiting.is_empty()
    }

    /// The size of the lease that is asked for now: about the cells that are spent in [`LEASE_TIME`].
    fn next_size(&mut self, largest: u32, now: Instant) -> u32 {
        self.is_asked = true;
        let lasted = now.saturating_duration_since(self.last_grant);
        let size = if lasted < LEASE_TIME / 2 {
            self.size.saturating_mul(2)
        } else if lasted > LEASE_TIME * 2 {
            self.size / 2
        } else {
            self.size
        };
        self.size = size.clamp(1, largest);
        self.size
    }
}
