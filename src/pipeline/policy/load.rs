//! Load shedding: fewer requests at once while the event loop of a worker lags, none while memory runs out.
//!
//! While the event loop is slow, a part of the requests waits for its turn before any work is done for it: the fewer
//! are in flight at once, the less each costs, since their connections stay in the processor's caches. No request waits
//! for long, since those in flight may wait for a slow upstream, and not for the processor.
//!
//! A request is shed before any other work is done for it, and its refusal is delayed for a moment. Otherwise, clients
//! that repeat a refused request at once would receive refusals as fast as the worker can send them, and the worker
//! would have no time for other requests.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// The load of one worker.
#[derive(Debug)]
pub(crate) struct LoadMonitor {
    in_flight: Cell<usize>,
    /// The worker's share of the configured limit.
    max: Cell<usize>,
    /// The part of `max` that is allowed at the current lag.
    allowed: Cell<usize>,
    delayed: Cell<usize>,
    /// Requests that may be in flight before the next one waits for its turn.
    max_unqueued: Cell<usize>,
    /// Ticks in a row at which the event loop was slow.
    slow_for: Cell<u32>,
    /// Requests that wait for their turn.
    waiting: Cell<usize>,
    turns: RefCell<VecDeque<Weak<AdmissionTurn>>>,
    memory_is_short: Arc<AtomicBool>,
}

/// A request whose refusal is delayed.
struct DelayedResponse<'p>(&'p Cell<usize>);

/// The turn of one request.
#[derive(Debug, Default)]
struct AdmissionTurn {
    has_come: Cell<bool>,
    comes: Notify,
}

/// A request that waits for its turn. It is counted until its turn comes or it stops waiting.
struct WaitingRequest<'p> {
    count: &'p Cell<usize>,
    turn: Rc<AdmissionTurn>,
}

/// How often the lag is measured.
const TICK: Duration = Duration::from_millis(25);
/// A greater lag reduces the number of requests.
const LAG: Duration = Duration::from_millis(250);
/// The event loop is slow where it lags by more, tick after tick: a busy machine lags too, but not all the time.
const SLOW: Duration = Duration::from_millis(10);
const SLOW_TICKS: u32 = 8;
/// A request waits no longer than this for its turn, even if the requests before it wait for a slow upstream.
const MAX_WAIT: Duration = Duration::from_millis(250);
/// This number of requests is always served.
const MIN_REQUESTS: usize = 64;
/// The time between two refusals, regardless of their number: each costs a worker some 25 µs.
const DELAY_PER_REFUSAL: Duration = Duration::from_micros(400);
const MIN_DELAY: Duration = Duration::from_millis(5);
const MAX_DELAY: Duration = Duration::from_secs(1);
/// More are not delayed: each costs some kilobytes. Without a delay, clients that repeat their requests at once would
/// leave a worker time for nothing but refusals.
const MAX_DELAYED: usize = 8192;

impl LoadMonitor {
    pub(crate) fn new(max: usize, memory_is_short: Arc<AtomicBool>) -> Self {
        Self {
            in_flight: Cell::new(0),
            max: Cell::new(max),
            allowed: Cell::new(max),
            delayed: Cell::new(0),
            max_unqueued: Cell::new(max),
            slow_for: Cell::new(0),
            waiting: Cell::new(0),
            turns: RefCell::default(),
            memory_is_short,
        }
    }

    /// Another limit. The part of it that is allowed is found anew.
    pub(crate) fn set_max(&self, max: usize) {
        if self.max.replace(max) != max {
            self.allowed.set(max);
            self.max_unqueued.set(max);
            self.give_turns();
        }
    }

    pub(crate) fn begin(&self) {
        self.in_flight.set(self.in_flight.get() + 1);
    }

    pub(crate) fn end(&self) {
        self.in_flight.set(self.in_flight.get() - 1);
        if self.waiting.get() > 0 {
            self.give_turns();
        }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.get()
    }

    /// True where a request that has begun must be refused. Those with a delayed refusal do not count.
    pub(crate) fn is_overloaded(&self) -> bool {
        self.in_flight.get() - self.delayed.get() > self.allowed.get() || self.memory_is_short.load(Ordering::Relaxed)
    }

    /// True where a request that has begun is to wait for its turn.
    pub(crate) fn must_wait(&self) -> bool {
        self.active() > self.max_unqueued.get()
    }

    /// Requests that do not wait for the worker.
    fn active(&self) -> usize {
        self.in_flight.get() - self.delayed.get() - self.waiting.get()
    }

    /// Ends when the request may proceed. Dropped when the client disconnects.
    pub(crate) async fn turn(&self) {
        let waiting = WaitingRequest::new(&self.waiting);
        {
            let mut turns = self.turns.borrow_mut();
            // Most requests that stopped waiting are removed before they are more than the others.
            if turns.len() > 2 * self.waiting.get() + 16 {
                turns.retain(|turn| turn.strong_count() > 0);
            }
            turns.push_back(Rc::downgrade(&waiting.turn));
        }
        let _ = timeout(MAX_WAIT, waiting.turn.comes.notified()).await;
    }

    /// Gives turns to waiting requests in the order of their arrival.
    fn give_turns(&self) {
        let mut turns = self.turns.borrow_mut();
        while self.active() < self.max_unqueued.get() {
            let Some(turn) = turns.pop_front() else { return };
            // A request that stopped waiting takes no turn.
            if let Some(turn) = turn.upgrade() {
                turn.has_come.set(true);
                turn.comes.notify_one();
                self.waiting.set(self.waiting.get() - 1);
            }
        }
    }

    /// Ends when the refusal may be sent. Dropped when the client disconnects.
    pub(crate) async fn delay_refusal(&self) {
        if self.delayed.get() >= MAX_DELAYED {
            return;
        }
        let _held = DelayedResponse::new(&self.delayed);
        sleep(delay(self.delayed.get())).await;
    }

    /// Adapts to the lag of the event loop, for as long as the worker runs.
    pub(crate) async fn run_timeouts(&self) {
        loop {
            let due = Instant::now() + TICK;
            sleep_until(due).await;
            self.adapt(Instant::now().saturating_duration_since(due));
        }
    }

    fn adapt(&self, lag: Duration) {
        let allowed = self.allowed.get();
        let served = self.in_flight.get() - self.delayed.get();
        self.allowed.set(if lag > LAG {
            (allowed.min(served) / 10 * 9).max(MIN_REQUESTS).min(self.max.get())
        } else {
            (allowed + allowed / 16 + 1).min(self.max.get())
        });
        let max_unqueued = self.max_unqueued.get();
        self.slow_for.set(if lag > SLOW { self.slow_for.get().saturating_add(1) } else { 0 });
        self.max_unqueued.set(if self.slow_for.get() >= SLOW_TICKS {
            (max_unqueued.min(self.active()) / 10 * 9).max(MIN_REQUESTS).min(self.max.get())
        } else {
            (max_unqueued + max_unqueued / 16 + 1).min(self.max.get())
        });
        self.give_turns();
    }
}

impl<'p> DelayedResponse<'p> {
    fn new(count: &'p Cell<usize>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl<'p> WaitingRequest<'p> {
    fn new(count: &'p Cell<usize>) -> Self {
        count.set(count.get() + 1);
        Self { count, turn: Rc::default() }
    }
}

impl Drop for WaitingRequest<'_> {
    fn drop(&mut self) {
        if !self.turn.has_come.get() {
            self.count.set(self.count.get() - 1);
        }
    }
}

impl Drop for DelayedResponse<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// The delay of a refusal. It grows with their number, so that all refusals together cost a small part of the worker's
/// time.
fn delay(delayed: usize) -> Duration {
    let delayed = u32::try_from(delayed).unwrap_or(u32::MAX);
    DELAY_PER_REFUSAL.saturating_mul(delayed).clamp(MIN_DELAY, MAX_DELAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pressure(max: usize) -> LoadMonitor {
        LoadMonitor::new(max, Arc::default())
    }

    fn with_in_flight(pressure: &LoadMonitor, count: usize) {
        (0..count).for_each(|_| pressure.begin());
    }

    #[test]
    fn a_lagging_worker_accepts_less_and_recovers_within_seconds() {
        let pressure = pressure(4096);
        with_in_flight(&pressure, 2000);
        assert!(!pressure.is_overloaded());
        pressure.adapt(LAG * 2);
        assert!(pressure.is_overloaded());
        (0..100).for_each(|_| pressure.adapt(LAG * 2));
        assert_eq!(pressure.allowed.get(), MIN_REQUESTS);
        let ticks = (1..).find(|_| {
            pressure.adapt(Duration::ZERO);
            pressure.allowed.get() == 4096
        });
        assert!(TICK * ticks.unwrap() < Duration::from_secs(3));
    }

    #[test]
    fn a_worker_that_keeps_up_takes_on_all_that_it_may() {
        let pressure = pressure(100);
        with_in_flight(&pressure, 100);
        pressure.adapt(Duration::from_millis(20));
        assert!(!pressure.is_overloaded());
        pressure.begin();
        assert!(pressure.is_overloaded());
    }

    #[tokio::test(start_paused = true)]
    async fn delayed_refusals_take_no_slot() {
        let pressure = pressure(1);
        with_in_flight(&pressure, 2);
        assert!(pressure.is_overloaded());
        let mut waiting = Box::pin(pressure.delay_refusal());
        assert!(futures_poll(&mut waiting));
        assert!(!pressure.is_overloaded());
        waiting.await;
        assert_eq!(pressure.delayed.get(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_worker_admits_requests_in_order_within_a_bound() {
        let pressure = pressure(4096);
        with_in_flight(&pressure, MIN_REQUESTS);
        (0..100).for_each(|_| pressure.adapt(SLOW * 2));
        assert!(!pressure.must_wait() && !pressure.is_overloaded(), "some always go on");
        let mut turns = Vec::new();
        for _ in 0..3 {
            pressure.begin();
            assert!(pressure.must_wait() && !pressure.is_overloaded());
            let mut turn = Box::pin(pressure.turn());
            assert!(futures_poll(&mut turn));
            turns.push(turn);
        }
        let (mut third, second, mut first) = (turns.pop().unwrap(), turns.pop().unwrap(), turns.pop().unwrap());
        // The turn of a client that disconnects goes to the next request.
        drop(second);
        pressure.end();
        pressure.end();
        assert!(!futures_poll(&mut first) && futures_poll(&mut third));
        let began = Instant::now();
        third.await;
        assert_eq!(began.elapsed(), MAX_WAIT);
        drop(first);
        assert_eq!((pressure.waiting.get(), pressure.active()), (0, MIN_REQUESTS + 1));
        (0..100).for_each(|_| pressure.adapt(Duration::ZERO));
        assert!(!pressure.must_wait());
    }

    fn futures_poll<F: Future + Unpin>(future: &mut F) -> bool {
        use std::task::{Context, Waker};
        std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    #[test]
    fn refusals_are_held_the_longer_the_more_there_are() {
        assert_eq!(delay(1), MIN_DELAY);
        assert_eq!(delay(100), Duration::from_millis(40));
        assert_eq!(delay(usize::MAX), MAX_DELAY);
    }

    #[test]
    fn nothing_is_taken_on_while_memory_is_short() {
        let short = Arc::new(AtomicBool::new(true));
        let pressure = LoadMonitor::new(10, Arc::clone(&short));
        assert!(pressure.is_overloaded());
        short.store(false, Ordering::Relaxed);
        assert!(!pressure.is_overloaded());
    }
}
