use super::*;
use crate::audit::reason::Reason;
use crate::audit::record::Decision;
use std::sync::mpsc::{Receiver, sync_channel};

fn ledger(on_failure: OnFailure, capacity: usize) -> (Rc<Ledger>, Receiver<Batch>) {
    let (sender, receiver) = sync_channel(1);
    let rules = Rules { on_failure, synced: Synced::Grants, refusals: Some(1) };
    (Rc::new(Ledger::new(LineSender::new(sender, Arc::default()), rules, capacity)), receiver)
}

#[test]
fn without_a_free_slot_a_mandatory_line_is_refused() {
    let (ledger, _receiver) = ledger(OnFailure::Block, 2);
    let _first = ledger.reserve().unwrap();
    let second = ledger.reserve().unwrap();
    assert_eq!(ledger.reserve().err(), Some(Unavailable));
    drop(second);
    assert!(ledger.reserve().is_ok());
}

#[test]
fn a_log_that_may_lose_lines_allows_and_counts() {
    let (ledger, _receiver) = ledger(OnFailure::Drop, 1);
    let _first = ledger.reserve().unwrap();
    assert!(ledger.reserve().unwrap().is_none());
    assert!(ledger.slot_or_aggregate(&decided(Kind::Answered(Decision::Allow)), None).is_none());
    assert_eq!(ledger.lines.health.dropped.load(Ordering::Relaxed), 1);
}

#[test]
fn optional_slots_leave_half_the_capacity() {
    let (ledger, _receiver) = ledger(OnFailure::Block, 4);
    let flood: Vec<_> = (0..100).filter_map(|_| ledger.reserve_optional()).collect();
    assert_eq!(flood.len(), 2);
    assert!(ledger.reserve().is_ok());
}

#[test]
fn a_broken_writer_refuses_at_once() {
    let (ledger, _receiver) = ledger(OnFailure::Block, 4);
    ledger.lines.health.set_broken(true);
    assert_eq!(ledger.reserve().err(), Some(Unavailable));
}

#[test]
fn a_slot_is_free_again_once_its_line_is_written_and_not_before() {
    let (ledger, receiver) = ledger(OnFailure::Block, 1);
    ledger.reserve().unwrap().unwrap().write(|buffer| buffer.extend_from_slice(b"}\n"));
    assert!(ledger.reserve().is_err());
    assert!(ledger.try_hand_over());
    assert!(ledger.reserve().is_err());
    let batch = receiver.recv().unwrap();
    batch.owner.unwrap().written(batch.ends.len());
    assert!(ledger.reserve().is_ok());
}

#[test]
fn a_batch_that_the_writer_does_not_accept_is_kept() {
    let (ledger, receiver) = ledger(OnFailure::Block, 8);
    for line in [b"1", b"2"] {
        ledger.reserve().unwrap().unwrap().write(|buffer| buffer.extend_from_slice(line));
        ledger.try_hand_over();
    }
    assert_eq!(receiver.recv().unwrap().bytes, b"1");
    assert!(ledger.try_hand_over());
    assert_eq!(receiver.recv().unwrap().bytes, b"2");
}

#[test]
fn a_batch_is_handed_over_at_a_hundred_lines() {
    let (ledger, receiver) = ledger(OnFailure::Block, 8192);
    // As long as the line of a usual request.
    let line = [b'x'; 350];
    let batch = (0..1000).find_map(|_| {
        ledger.reserve().unwrap().unwrap().write(|buffer| buffer.extend_from_slice(&line));
        receiver.try_recv().ok()
    });
    let lines = batch.unwrap().ends.len();
    assert!((50..=100).contains(&lines), "{lines}");
}

#[tokio::test(start_paused = true)]
async fn a_batch_after_a_full_one_is_not_handed_over_early() {
    let (ledger, receiver) = ledger(OnFailure::Block, 8192);
    let write = |bytes: usize| {
        let line = vec![b'x'; bytes];
        ledger.reserve().unwrap().unwrap().write(|buffer| buffer.extend_from_slice(&line));
    };
    let hand_over = tokio::task::LocalSet::new();
    hand_over.spawn_local(Rc::clone(&ledger).hand_over());
    let (early, late) = (BATCH_AGE - Duration::from_millis(1), Duration::from_millis(2));
    let is_handed_over = || receiver.try_recv().is_ok();
    hand_over
        .run_until(async {
            write(1);
            sleep(early).await;
            write(BATCH_BYTES);
            assert!(is_handed_over(), "it is full");
            write(1);
            sleep(early).await;
            assert!(!is_handed_over(), "it is younger than the one before");
            sleep(late).await;
            assert!(is_handed_over());
        })
        .await;
}

fn refusal() -> Decided<'static> {
    decided(Kind::Unauthenticated(Reason::NoToken))
}

fn decided(kind: Kind) -> Decided<'static> {
    Decided { address: std::net::Ipv4Addr::LOCALHOST.into(), kind, time: clock::now(), config: "c" }
}

#[test]
fn decisions_without_a_slot_are_counted_in_an_aggregate_line() {
    let (ledger, receiver) = ledger(OnFailure::Drop, 8);
    ledger.lines.health.set_broken(true);
    for kind in [
        Kind::Unauthenticated(Reason::NoToken),
        Kind::Refused(Reason::MissingScope),
        Kind::Answered(Decision::Allow),
        Kind::Answered(Decision::Issue),
    ] {
        assert!(ledger.slot_or_aggregate(&decided(kind), None).is_none(), "{kind:?}");
    }
    assert!(ledger.slot_or_aggregate(&decided(Kind::Retracted(Decision::Error)), None).is_some(), "it can wait");
    let _taken: Vec<_> = std::iter::from_fn(|| ledger.acquire_even_if_broken(8)).collect();
    assert!(ledger.slot_or_aggregate(&decided(Kind::Retracted(Decision::Error)), None).is_none());
    let health = &ledger.lines.health;
    let counts = [&health.dropped, &health.aggregated].map(|count| count.load(Ordering::Relaxed));
    assert_eq!(counts, [5, 5]);
    ledger.finish();
    let text = String::from_utf8(receiver.recv().unwrap().bytes).unwrap();
    for count in ["no_token\":1", "missing_scope\":1", "allow\":1", "issue\":1", "error\":1"] {
        assert!(text.contains(count), "{count}: {text}");
    }
}

#[test]
fn lines_that_the_writer_never_accepts_are_counted() {
    let (ledger, receiver) = ledger(OnFailure::Block, 8);
    drop(receiver);
    ledger.reserve().unwrap().unwrap().write(|buffer| buffer.extend_from_slice(b"}\n"));
    ledger.finish();
    assert_eq!((ledger.lines.health.take_lost(), ledger.lines.health.dropped.load(Ordering::Relaxed)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn refusals_beyond_the_limit_are_aggregated_within_a_second() {
    let (ledger, receiver) = ledger(OnFailure::Block, 8);
    assert!(ledger.slot_or_aggregate(&refusal(), None).is_some());
    for _ in 0..100 {
        assert!(ledger.slot_or_aggregate(&refusal(), ledger.reserve().unwrap()).is_none(), "the slot is released");
    }
    assert_eq!(ledger.in_use(), 0);
    let tasks = async { tokio::join!(Rc::clone(&ledger).flush_aggregates(), Rc::clone(&ledger).hand_over()) };
    let _ = timeout(FLUSH_AGGREGATES_EVERY + BATCH_AGE + Duration::from_millis(1), tasks).await;
    let batch = receiver.try_recv().unwrap();
    assert!(String::from_utf8(batch.bytes).unwrap().contains("\"gateway.folded.count\":100,"));
    assert_eq!(batch.ends.len(), 1);
}

#[test]
fn refusals_without_a_slot_are_counted_and_written_at_the_end() {
    let (ledger, receiver) = ledger(OnFailure::Block, 8);
    ledger.lines.health.set_broken(true);
    assert!(ledger.slot_or_aggregate(&refusal(), None).is_none());
    ledger.finish();
    let batch = receiver.recv().unwrap();
    assert!(String::from_utf8(batch.bytes).unwrap().contains("\"gateway.folded.count\":1,"));
}

#[tokio::test]
async fn a_commit_waits_for_the_disk() {
    let (ledger, receiver) = ledger(OnFailure::Block, 8);
    let commit = || ledger.reserve().unwrap().unwrap().commit(|bytes| bytes.extend_from_slice(b"}\n"));
    let writer = thread::spawn(move || {
        receiver.recv().unwrap().waiters.pop().unwrap().send(()).unwrap();
        drop(receiver.recv().unwrap());
    });
    assert_eq!(commit().await, Ok(()));
    assert_eq!(commit().await, Err(Unavailable), "it could not be written");
    writer.join().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_commit_has_a_timeout() {
    let (ledger, receiver) = ledger(OnFailure::Block, 8);
    let slot = ledger.reserve().unwrap().unwrap();
    assert_eq!(slot.commit(|bytes| bytes.extend_from_slice(b"}\n")).await, Err(Unavailable));
    assert_eq!(receiver.recv().unwrap().ends.len(), 1, "the line is written all the same");
}
