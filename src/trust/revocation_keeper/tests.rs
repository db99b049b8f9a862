use std::path::PathBuf;

use tempfile::TempDir;

use super::super::revocation::RevocationTarget;
use super::*;

const NOW: UnixTime = UnixTime::from_seconds(1_800_000_000);

/// A state directory that does not exist yet, in a temporary folder.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("state")
    }

    fn open(&self, rules: &[RevocationEntry]) -> (Keeper, Revoker) {
        Keeper::open(&self.path(), rules, NOW).unwrap()
    }
}

fn entry(client: &str) -> RevocationEntry {
    RevocationEntry {
        issuer: "https://i.example".to_owned(),
        target: RevocationTarget::Client(client.to_owned()),
        issued_before: Some(NOW.seconds()),
        expires_at: Some(NOW.seconds() + 60),
        made_at: NOW.seconds(),
        revoked_by: None,
    }
}

fn token_of(client: &str, number: usize) -> RevocationEntry {
    RevocationEntry {
        target: RevocationTarget::token(&number.to_string()),
        revoked_by: Some(client.to_owned()),
        ..entry("")
    }
}

/// The keeper's answers to these requests, which are sent together.
fn ask(keeper: &mut Keeper, entries: &[RevocationEntry]) -> Vec<Result<(), NotRevoked>> {
    let (replies, mut answers): (Vec<_>, Vec<_>) = entries.iter().map(|_| tokio::sync::oneshot::channel()).unzip();
    keeper.write(entries.iter().cloned().zip(replies).collect(), NOW, &mut |_| {});
    answers.iter_mut().map(|answer| answer.try_recv().unwrap()).collect()
}

fn knows(keeper: &Keeper, entry: &RevocationEntry) -> bool {
    keeper.published().current().cover(entry)
}

#[test]
fn confirmed_revocations_are_published_and_survive_a_restart() {
    let folder = Folder::new();
    let (mut keeper, _) = folder.open(&[]);
    let version = keeper.published().version();
    assert_eq!(ask(&mut keeper, &[entry("a"), entry("b"), entry("a")]), [Ok(()); 3]);
    assert!(knows(&keeper, &entry("a")) && knows(&keeper, &entry("b")));
    assert_ne!(keeper.published().version(), version);
    let (again, _) = folder.open(&[]);
    assert_eq!(again.published().current().len(), 2);
}

#[test]
fn foreign_entries_are_merged_and_recorded_own_ones_are_not() {
    let folder = Folder::new();
    let ((mut one, _), (mut other, _)) = (folder.open(&[]), folder.open(&[]));
    ask(&mut one, &[entry("a")]);
    let mut record = Vec::new();
    other.poll_file(NOW, &mut |entries| record.extend(entries.to_vec()));
    one.poll_file(NOW, &mut |_| panic!("its own"));
    assert_eq!(record, [entry("a")]);
    assert!(knows(&other, &entry("a")));
    other.poll_file(NOW, &mut |_| panic!("recorded twice"));
}

#[test]
fn a_file_that_breaks_takes_nothing_back_and_refuses_more() {
    let folder = Folder::new();
    let (mut keeper, _) = folder.open(&[entry("of the configuration")]);
    ask(&mut keeper, &[entry("a")]);
    std::fs::remove_file(keeper.store.path()).unwrap();
    keeper.poll_file(NOW, &mut |_| {});
    assert_eq!(ask(&mut keeper, &[entry("b")]), [Err(NotRevoked::Broken)]);
    assert!(knows(&keeper, &entry("a")) && knows(&keeper, &entry("of the configuration")));
    assert!(!knows(&keeper, &entry("b")));
}

#[test]
fn the_100_001st_is_refused_until_one_has_expired() {
    let folder = Folder::new();
    let short = RevocationEntry { expires_at: Some(NOW.seconds() + 1), ..entry("short") };
    let mut rules = vec![short.clone()];
    rules.extend((1..MAX_ENTRIES).map(|number| entry(&number.to_string())));
    let (mut keeper, _) = folder.open(&rules);
    assert_eq!(ask(&mut keeper, &[entry("7"), entry("new")]), [Ok(()), Err(NotRevoked::Full)]);
    let later = NOW.plus(Duration::from_secs(1));
    let (reply, mut answer) = tokio::sync::oneshot::channel();
    keeper.write(vec![(entry("new"), reply)], later, &mut |_| {});
    assert_eq!(answer.try_recv(), Ok(Ok(())));
    assert!(!knows(&keeper, &short) && knows(&keeper, &entry("new")));
}

#[test]
fn a_clients_revocation_share_is_enforced_over_restarts() {
    let folder = Folder::new();
    let (mut keeper, _) = folder.open(&[]);
    let share: Vec<RevocationEntry> = (0..MAX_OF_CLIENT).map(|number| token_of("greedy", number)).collect();
    assert!(ask(&mut keeper, &share).iter().all(Result::is_ok));
    let wanted = [token_of("greedy", MAX_OF_CLIENT), token_of("other", MAX_OF_CLIENT + 1), entry("greedy")];
    let answers = [Err(NotRevoked::ShareFull), Ok(()), Ok(())];
    assert_eq!(ask(&mut keeper, &wanted), answers);
    assert_eq!(keeper.published().refused(), 1);
    let (mut again, _) = folder.open(&[]);
    assert_eq!(ask(&mut again, &wanted), answers);
    assert_eq!(again.logged_refusals.len(), 1);
}

#[test]
fn expired_entries_go_with_the_next_compaction() {
    let folder = Folder::new();
    let (mut keeper, _) = folder.open(&[]);
    ask(&mut keeper, &[entry("a")]);
    keeper.compact(UnixTime::from_seconds(NOW.seconds() + 60));
    assert_eq!(keeper.published().current().len(), 0);
    assert_eq!(std::fs::metadata(keeper.store.path()).unwrap().len(), 0);
    assert_eq!(ask(&mut keeper, &[entry("b")]), [Ok(())]);
}

#[tokio::test]
async fn without_a_keeper_a_request_fails_at_once() {
    let folder = Folder::new();
    let (keeper, revoker) = folder.open(&[]);
    let waiting: Vec<_> = (0..QUEUE_CAPACITY)
        .map(|_| {
            let (reply, answer) = tokio::sync::oneshot::channel();
            revoker.requests.try_send(RevokerRequest::Revoke { entry: entry("a"), reply }).unwrap();
            answer
        })
        .collect();
    assert_eq!(revoker.revoke(entry("b")).await, Err(NotRevoked::Busy));
    drop((keeper, waiting));
    assert_eq!(revoker.revoke(entry("b")).await, Err(NotRevoked::Busy));
}

#[tokio::test]
async fn the_thread_answers_and_ends_on_request() {
    let folder = Folder::new();
    let (mut keeper, revoker) = folder.open(&[]);
    let published = Arc::clone(keeper.published());
    let thread = std::thread::spawn(move || keeper.run(&mut |_| {}));
    assert_eq!(revoker.revoke(entry("a")).await, Ok(()));
    assert!(published.current().cover(&entry("a")));
    revoker.end();
    thread.join().unwrap();
}

fn learned(number: u128) -> SharedRevocation {
    let expires_at = NOW.seconds() + 60;
    let digest = crate::oauth::caller::Digest(number);
    SharedRevocation { digest, is_token: true, issued_before: None, expires_at, by: None }
}

#[test]
fn learned_revocations_hold_without_the_disk() {
    let folder = Folder::new();
    let (mut keeper, _) = folder.open(&[]);
    keeper.make_file().unwrap();
    let (file, moved) = (keeper.path().to_owned(), folder.path().join("moved"));
    std::fs::rename(&file, &moved).unwrap();
    assert_eq!(keeper.learn(&[learned(1)], NOW, &mut |_| {}), Err(NotRevoked::Broken));
    let holds = |keeper: &Keeper| keeper.published().current().covers(&learned(1));
    assert!(holds(&keeper));
    std::fs::rename(&moved, &file).unwrap();
    keeper.set_rules(&[], RulesChange::Replace, NOW, &mut |_| {}).unwrap();
    assert!(holds(&keeper), "a reload reads the file, which lacks it");
    assert_eq!(keeper.write_learned(NOW, &mut |_| {}), Ok(()));
    assert!(holds(&folder.open(&[]).0));
}

#[test]
fn learned_revocations_beyond_the_limit_do_not_prevent_a_start() {
    let folder = Folder::new();
    let (mut keeper, _) = folder.open(&[]);
    let all: Vec<_> = (0..=MAX_ENTRIES as u128).map(learned).collect();
    assert_eq!(keeper.learn(&all, NOW, &mut |_| {}), Ok(()));
    assert_eq!(folder.open(&[]).0.published().current().len(), MAX_ENTRIES + 1);
}
