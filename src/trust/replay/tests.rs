use std::fs;
use std::thread;

use super::super::replay_uses::KEPT_AFTER_END;
use super::*;

const NOW: UnixTime = UnixTime::from_seconds(1_800_000_000);
const END: u64 = 1_800_000_300;

/// Asks for several uses at once, as one group.
fn ask(keeper: &mut ReplayKeeper, ids: &[&str], now: UnixTime) -> Vec<Result<bool, ReplayUnavailable>> {
    let (group, answers): (Vec<_>, Vec<_>) = ids
        .iter()
        .map(|id| {
            let (reply, answer) = oneshot::channel();
            ((RecordedUse { digest: Digest::of(&["app", id]), user: 1, expires_at: END }, reply), answer)
        })
        .unzip();
    keeper.record(group, now);
    answers.into_iter().map(|answer| answer.blocking_recv().unwrap()).collect()
}

fn open(directory: &Path) -> ReplayKeeper {
    ReplayKeeper::open(directory).unwrap().0
}

#[test]
fn of_the_same_uses_in_one_group_one_is_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = open(folder.path());
    assert_eq!(ask(&mut keeper, &["a", "b", "a", "a"], NOW), [Ok(true), Ok(true), Ok(false), Ok(false)]);
    assert_eq!(ask(&mut keeper, &["a", "c"], NOW), [Ok(false), Ok(true)]);
}

#[test]
fn a_use_counts_in_other_processes_and_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let [mut one, mut other] = [0, 0].map(|_| open(folder.path()));
    assert_eq!(ask(&mut one, &["a"], NOW), [Ok(true)]);
    assert_eq!(ask(&mut other, &["a", "b"], NOW), [Ok(false), Ok(true)]);
    assert_eq!(ask(&mut one, &["b"], NOW), [Ok(false)]);
    drop((one, other));
    assert_eq!(ask(&mut open(folder.path()), &["b", "a", "c"], NOW), [Ok(false), Ok(false), Ok(true)]);
}

#[test]
fn a_use_that_cannot_be_written_is_not_confirmed() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = open(folder.path());
    let path = folder.path().join("replay.jsonl");
    fs::create_dir(&path).unwrap();
    assert_eq!(ask(&mut keeper, &["a", "a"], NOW), [Err(ReplayUnavailable), Err(ReplayUnavailable)]);
    fs::remove_dir(&path).unwrap();
    assert_eq!(ask(&mut keeper, &["a", "a"], NOW), [Ok(true), Ok(false)], "it counts once the disk is in order");
}

#[test]
fn a_full_keeper_refuses_and_never_forgets() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = open(folder.path());
    keeper.known = KnownUses::new(Room { of_all: 2, of_user: 2 });
    assert_eq!(ask(&mut keeper, &["a", "b", "c"], NOW), [Ok(true), Ok(true), Err(ReplayUnavailable)]);
    assert_eq!(ask(&mut keeper, &["a", "c"], NOW), [Ok(false), Err(ReplayUnavailable)]);
}

#[test]
fn a_sweep_removes_expired_uses_from_memory_and_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = open(folder.path());
    let ids: Vec<String> = (0..=NEEDLESS_LINES).map(|number| number.to_string()).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    ask(&mut keeper, &ids, NOW);
    keeper.sweep(UnixTime::from_seconds(END + KEPT_AFTER_END - 1));
    assert_eq!((keeper.known.len(), keeper.store.lines()), (ids.len(), ids.len()));
    keeper.sweep(UnixTime::from_seconds(END + KEPT_AFTER_END));
    assert_eq!((keeper.known.len(), keeper.store.lines()), (0, 0));
    // Another process, or this one after a restart, must not accept them after the clock was set back.
    let mut restarted = open(folder.path());
    for keeper in [&mut keeper, &mut restarted] {
        assert_eq!(ask(keeper, &[ids[0], "new"], NOW), [Ok(false), Ok(false)]);
    }
}

#[tokio::test]
async fn simultaneous_uses_are_confirmed_once_for_each_user() {
    let folder = tempfile::tempdir().unwrap();
    let (mut keeper, replay) = ReplayKeeper::open(folder.path()).unwrap();
    let running = thread::spawn(move || keeper.run());
    let mut uses = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let replay = replay.clone();
        uses.spawn(async move { replay.use_once("app", "id", END, NOW).await });
    }
    let answers = uses.join_all().await;
    let count = |wanted: bool| answers.iter().filter(|answer| **answer == Ok(wanted)).count();
    assert_eq!((count(true), count(false)), (1, 49));
    assert_eq!(replay.use_once("other", "id", END, NOW).await, Ok(true));
    assert_eq!(replay.use_once("app", "old", NOW.seconds(), NOW).await, Ok(false), "expired");
    replay.end();
    running.join().unwrap();
    assert_eq!(replay.use_once("app", "late", END, NOW).await, Err(ReplayUnavailable));
}

#[tokio::test]
async fn without_a_keeper_no_use_is_confirmed() {
    assert_eq!(Replay::without_keeper().use_once("app", "id", END, NOW).await, Err(ReplayUnavailable));
}
