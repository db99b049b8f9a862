use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::super::exchange_guard::ExchangeGuard;
use super::super::watch::TimeoutKind;
use super::*;

fn guard() -> Rc<Guard> {
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    Guard::new(&Limits {
        first_request_timeout: seconds(8),
        header_timeout: seconds(8),
        idle_timeout: seconds(60),
        write_stall_timeout: seconds(30),
        connection_age: seconds(100),
        ..Limits::default()
    })
}

/// The next signal of the connection.
fn take(watch: &Watch) -> Option<GuardSignal> {
    match watch.poll_signal(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(signal) => Some(signal),
        Poll::Pending => None,
    }
}

fn signal(watch: &Watch) -> Option<TimeoutKind> {
    match take(watch) {
        Some(GuardSignal::Overdue(overdue)) => Some(overdue),
        Some(GuardSignal::Rest | GuardSignal::Drain | GuardSignal::Cut) | None => None,
    }
}

fn pass(guard: &Guard, ticks: u32) {
    for _ in 0..ticks {
        guard.check_all();
    }
}

#[test]
fn a_connection_without_a_first_request_is_overdue() {
    let guard = guard();
    let watch = guard.watch(false, ListenerId(0));
    pass(&guard, 8);
    assert_eq!(signal(&watch), None);
    pass(&guard, 1);
    assert_eq!(signal(&watch), Some(TimeoutKind::FirstRequest));
}

#[test]
fn a_head_that_drips_is_overdue_long_before_the_idle_timeout() {
    let guard = guard();
    let watch = guard.watch(false, ListenerId(0));
    drop(ExchangeGuard::begin(&watch));
    pass(&guard, 30);
    watch.read();
    for _ in 0..9 {
        assert_eq!(signal(&watch), None);
        watch.read();
        pass(&guard, 1);
    }
    assert_eq!(signal(&watch), Some(TimeoutKind::Head));
}

#[test]
fn an_idle_connection_is_overdue_and_a_busy_one_is_not() {
    let guard = guard();
    let (idle, busy) = (guard.watch(false, ListenerId(0)), guard.watch(false, ListenerId(0)));
    drop(ExchangeGuard::begin(&idle));
    let _exchange = ExchangeGuard::begin(&busy);
    pass(&guard, 1000);
    assert_eq!(signal(&idle), Some(TimeoutKind::Idle));
    assert_eq!(signal(&busy), None);
}

#[test]
fn frames_between_requests_do_not_begin_one_on_http2() {
    let guard = guard();
    let watch = guard.watch(true, ListenerId(0));
    drop(ExchangeGuard::begin(&watch));
    watch.read();
    pass(&guard, 20);
    assert_eq!(signal(&watch), None);
}

#[test]
fn a_peer_that_takes_nothing_is_overdue_even_while_busy() {
    let guard = guard();
    let watch = guard.watch(false, ListenerId(0));
    let _exchange = ExchangeGuard::begin(&watch);
    watch.wrote(true);
    pass(&guard, 29);
    watch.wrote(false);
    watch.wrote(true);
    pass(&guard, 30);
    assert_eq!(signal(&watch), None);
    pass(&guard, 1);
    assert_eq!(signal(&watch), Some(TimeoutKind::Write));
}

#[test]
fn an_unread_http2_answer_times_out_and_a_pending_one_does_not() {
    let guard = guard();
    let (refusing, waiting) = (guard.watch(true, ListenerId(0)), guard.watch(true, ListenerId(0)));
    let (first, second) = (ExchangeGuard::begin(&refusing), ExchangeGuard::begin(&waiting));
    let (_unread, awaits_upstream) = (first.answer().unwrap(), second.answer().unwrap());
    awaits_upstream.polled(false);
    pass(&guard, 60);
    assert_eq!(signal(&refusing), None);
    pass(&guard, 1);
    assert_eq!((signal(&refusing), signal(&waiting)), (Some(TimeoutKind::Write), None));
}

#[test]
fn the_end_of_the_age_is_signalled_once_at_spread_times() {
    let guard = guard();
    let watches: Vec<_> = (0..50).map(|_| (guard.watch(false, ListenerId(0)), Cell::new(None))).collect();
    let _exchanges: Vec<_> = watches.iter().map(|(watch, _)| ExchangeGuard::begin(watch)).collect();
    for now in 0..200_u32 {
        pass(&guard, 1);
        for (_, at) in watches.iter().filter(|(watch, _)| take(watch) == Some(GuardSignal::Drain)) {
            assert_eq!(at.replace(Some(now)), None, "signalled twice");
        }
    }
    let mut ages: Vec<u32> = watches.iter().map(|(_, at)| at.get().unwrap()).collect();
    ages.sort_unstable();
    ages.dedup();
    assert!(ages.len() > 5 && ages[0] >= 89 && ages[ages.len() - 1] <= 101, "{ages:?}");
}

#[test]
fn a_body_waits_until_earlier_output_has_been_written() {
    let guard = guard();
    let watch = guard.watch(true, ListenerId(0));
    let exchange = ExchangeGuard::begin(&watch);
    let mut context = Context::from_waker(Waker::noop());
    let output_mark = exchange.output_mark().unwrap();
    watch.wrote(true);
    for _ in 0..3 {
        assert!(exchange.poll_written(output_mark, &mut context).is_pending());
        watch.polled();
    }
    assert!(exchange.poll_written(output_mark, &mut context).is_pending(), "the client takes nothing");
    watch.wrote(false);
    assert!(exchange.poll_written(output_mark, &mut context).is_pending(), "there may be more to write");
    watch.polled();
    assert!(exchange.poll_written(output_mark, &mut context).is_ready());
    assert!(
        exchange.poll_written(exchange.output_mark().unwrap(), &mut context).is_pending(),
        "what came after it is new"
    );
}

#[test]
fn connections_that_have_gone_are_forgotten() {
    let guard = guard();
    drop(guard.watch(false, ListenerId(0)));
    pass(&guard, 1);
    assert!(guard.watches.borrow().is_empty());
}
