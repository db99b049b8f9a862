//! The cells of one key that this replica has. Pure: the time is a parameter.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::{LEASE_TIME, LeaseTerms};

/// The cells of one key, and what is asked for.
#[derive(Debug)]
pub(super) struct KeyLease {
    cells: u32,
    /// The cells are worth nothing from then on: the bucket in the store may be full again.
    ends: Instant,
    /// The cells that are asked for. Adapts to what is spent.
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
    /// The next cell comes.
    until: Instant,
    /// The store is asked again, which may have changed.
    ask_at: Instant,
}

/// The bucket of this replica alone, in a time without the store.
#[derive(Clone, Copy, Debug)]
struct Share {
    /// The loss of the store that it is for.
    loss: u64,
    full_at: Instant,
}

/// The fate of a request that takes a cell.
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
    /// It is known when the store has answered.
    Wait {
        answered: oneshot::Receiver<()>,
        ask: Option<u32>,
    },
}

/// The store is away: this replica takes a part of the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Loss {
    /// Unique in this process.
    pub(super) number: u64,
    pub(super) since: Instant,
    /// The parts that the limit has.
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
    /// The store is away, or has another epoch.
    Unknown,
}

/// While cells are taken faster than they come, the store is asked no more often.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(10);
/// The clock of the store may have been set, and its content may be another.
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

    /// The cells that are left, and the time for which they are worth something.
    pub(super) fn take(&mut self, now: Instant) -> Option<(u32, Duration)> {
        if self.cells == 0 || now >= self.ends {
            self.cells = 0;
            return None;
        }
        self.cells -= 1;
        Some((self.cells, self.ends - now))
    }

    /// Takes a cell of this replica's part of the limit. `Err` with the time until there is one.
    pub(super) fn spend_share(&mut self, terms: &LeaseTerms, loss: &Loss, now: Instant) -> Result<u32, Duration> {
        let (interval, burst) = (terms.interval(loss.replicas), terms.burst_of_each(loss.replicas));
        let known = self.share.filter(|share| share.loss == loss.number).map(|share| share.full_at);
        // Empty when the store was lost.
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

    /// The store has answered what was asked at `asked_at`. Requests that wait look again.
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
                // Cells that come meanwhile wait in the store, as long as the bucket is not full.
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

    /// Whether cells were leased lately.
    pub(super) fn is_in_use(&self, now: Instant) -> bool {
        now < self.ends
    }

    /// Whether nothing is lost if it is forgotten.
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
