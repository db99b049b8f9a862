//! Load shedding: fewer requests at once while the event loop of a worker lags, none while memory runs out.
//!
//! While the event loop is slow, a part of the requests waits for its turn before any work is done for it: the fewer
//! are in flight at once, the less each costs, since their connections stay in the processor's caches. No request waits
//! for long, since those in flight may wait for a slow upstream, and not for the processor.
//!
//! A request is shed before any other work is done for it, and its refusal is delayed for a moment. A client that
//! repeats a request at once would otherwise be sent refusals as fast as they can be made, and the requests that are
//! served would starve beside it.

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
    most: usize,
    /// The part of it that the lag leaves.
    allowed: Cell<usize>,
    held_back: Cell<usize>,
    /// Requests that may be in flight before the next one waits for its turn.
    paced: Cell<usize>,
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
/// A request waits no longer than this for its turn, whatever the requests before it wait for.
const LONGEST_TURN: Duration = Duration::from_millis(250);
/// So many are always served.
const LEAST: usize = 64;
/// The time between two refusals, whatever their number: each costs a worker some 25 µs.
const HOLD_EACH: Duration = Duration::from_micros(400);
const SHORTEST_HOLD: Duration = Duration::from_millis(5);
const LONGEST_HOLD: Duration = Duration::from_secs(1);
/// More are not delayed: each costs some kilobytes. Without a delay, clients that repeat their requests at once would
/// leave a worker time for nothing but refusals.
const MAX_HELD: usize = 8192;

impl LoadMonitor {
    pub(crate) fn new(most: usize, memory_is_short: Arc<AtomicBool>) -> Self {
        Self {
            in_flight: Cell::new(0),
            most,
            allowed: Cell::new(most),
            held_back: Cell::new(0),
            paced: Cell::new(most),
            slow_for: Cell::new(0),
            waiting: Cell::new(0),
            turns: RefCell::default(),
            memory_is_short,
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
    pub(crate) fn is_too_much(&self) -> bool {
        self.in_flight.get() - self.held_back.get() > self.allowed.get() || self.memory_is_short.load(Ordering::Relaxed)
    }

    /// True where a request that has begun is to wait for its turn.
    pub(crate) fn is_crowded(&self) -> bool {
        self.active() > self.paced.get()
    }

    /// Requests that do not wait for the worker.
    fn active(&self) -> usize {
        self.in_flight.get() - self.held_back.get() - self.waiting.get()
    }

    /// Ends when the request may go on. Dropped when the client disconnects.
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
        let _ = timeout(LONGEST_TURN, waiting.turn.comes.notified()).await;
    }

    /// In the order in which they came.
    fn give_turns(&self) {
        let mut turns = self.turns.borrow_mut();
        while self.active() < self.paced.get() {
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
    pub(crate) async fn tarpit(&self) {
        if self.held_back.get() >= MAX_HELD {
            return;
        }
        let _held = DelayedResponse::new(&self.held_back);
        sleep(hold(self.held_back.get())).await;
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
        let taken_on = self.in_flight.get() - self.held_back.get();
        self.allowed.set(if lag > LAG {
            (allowed.min(taken_on) / 10 * 9).max(LEAST).min(self.most)
        } else {
            (allowed + allowed / 16 + 1).min(self.most)
        });
        let paced = self.paced.get();
        self.slow_for.set(if lag > SLOW { self.slow_for.get().saturating_add(1) } else { 0 });
        self.paced.set(if self.slow_for.get() >= SLOW_TICKS {
            (paced.min(self.active()) / 10 * 9).max(LEAST).min(self.most)
        } else {
            (paced + paced / 16 + 1).min(self.most)
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

/// So that refusals together cost a small part of the worker, whatever their number.
fn hold(held_back: usize) -> Duration {
    let held_back = u32::try_from(held_back).unwrap_or(u32::MAX);
    HOLD_EACH.saturating_mul(held_back).clamp(SHORTEST_HOLD, LONGEST_HOLD)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pressure(most: usize) -> LoadMonitor {
        LoadMonitor::new(most, Arc::default())
    }

    fn with_in_flight(pressure: &LoadMonitor, count: usize) {
        (0..count).for_each(|_| pressure.begin());
    }

    #[test]
    fn a_worker_that_lags_takes_on_less_until_it_does_not_and_more_again_within_seconds() {
        let pressure = pressure(4096);
        with_in_flight(&pressure, 2000);
        assert!(!pressure.is_too_much());
        pressure.adapt(LAG * 2);
        assert!(pressure.is_too_much());
        (0..100).for_each(|_| pressure.adapt(LAG * 2));
        assert_eq!(pressure.allowed.get(), LEAST);
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
        assert!(!pressure.is_too_much());
        pressure.begin();
        assert!(pressure.is_too_much());
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_to_be_refused_take_no_place() {
        let pressure = pressure(1);
        with_in_flight(&pressure, 2);
        assert!(pressure.is_too_much());
        let mut waiting = Box::pin(pressure.tarpit());
        assert!(futures_poll(&mut waiting));
        assert!(!pressure.is_too_much());
        waiting.await;
        assert_eq!(pressure.held_back.get(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn on_a_slow_worker_requests_wait_for_their_turn_in_order_and_not_for_long() {
        let pressure = pressure(4096);
        with_in_flight(&pressure, LEAST);
        (0..100).for_each(|_| pressure.adapt(SLOW * 2));
        assert!(!pressure.is_crowded() && !pressure.is_too_much(), "some always go on");
        let mut turns = Vec::new();
        for _ in 0..3 {
            pressure.begin();
            assert!(pressure.is_crowded() && !pressure.is_too_much());
            let mut turn = Box::pin(pressure.turn());
            assert!(futures_poll(&mut turn));
            turns.push(turn);
        }
        let (mut third, second, mut first) = (turns.pop().unwrap(), turns.pop().unwrap(), turns.pop().unwrap());
        // A client that hangs up leaves its turn to the next.
        drop(second);
        pressure.end();
        pressure.end();
        assert!(!futures_poll(&mut first) && futures_poll(&mut third));
        let began = Instant::now();
        third.await;
        assert_eq!(began.elapsed(), LONGEST_TURN);
        drop(first);
        assert_eq!((pressure.waiting.get(), pressure.active()), (0, LEAST + 1));
        (0..100).for_each(|_| pressure.adapt(Duration::ZERO));
        assert!(!pressure.is_crowded());
    }

    fn futures_poll<F: Future + Unpin>(future: &mut F) -> bool {
        use std::task::{Context, Waker};
        std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    #[test]
    fn refusals_are_held_the_longer_the_more_there_are() {
        assert_eq!(hold(1), SHORTEST_HOLD);
        assert_eq!(hold(100), Duration::from_millis(40));
        assert_eq!(hold(usize::MAX), LONGEST_HOLD);
    }

    #[test]
    fn nothing_is_taken_on_while_memory_is_short() {
        let short = Arc::new(AtomicBool::new(true));
        let pressure = LoadMonitor::new(10, Arc::clone(&short));
        assert!(pressure.is_too_much());
        short.store(false, Ordering::Relaxed);
        assert!(!pressure.is_too_much());
    }
}
