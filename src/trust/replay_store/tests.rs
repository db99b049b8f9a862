use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn used(number: u128) -> RecordedUse {
    RecordedUse { digest: Digest(number), user: 7, expires_at: 2_000_000_000 }
}

fn add(store: &mut ReplayStore, number: u128) -> Vec<RecordedUse> {
    let mut others = Vec::new();
    store
        .append(|news| {
            others = news.uses;
            vec![used(number)]
        })
        .unwrap();
    others
}

#[test]
fn uses_survive_the_disk_in_a_private_file() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("state");
    let mut store = ReplayStore::in_directory(&directory);
    assert!(store.load().unwrap() == RecordedUses::default() && !directory.exists(), "loading makes nothing");
    add(&mut store, 1);
    add(&mut store, u128::MAX);
    assert_eq!(ReplayStore::in_directory(&directory).load().unwrap().uses, [used(1), used(u128::MAX)]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&directory), mode(&directory.join(FILE_NAME))), (0o700, 0o600));
}

#[test]
fn two_processes_see_the_uses_of_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let [mut one, mut other] = [0, 0].map(|_| ReplayStore::in_directory(folder.path()));
    add(&mut one, 1);
    assert_eq!(add(&mut other, 2), [used(1)]);
    assert_eq!(add(&mut one, 3), [used(2)]);
    one.rewrite(|_| RecordedUses { uses: vec![used(3)], forgotten: 9 }).unwrap();
    assert_eq!(add(&mut other, 4), [used(3)], "it reads the file that has replaced the other");
    assert_eq!(add(&mut one, 5), [used(4)]);
    assert_eq!((one.lines(), other.lines()), (3, 2));
    assert_eq!(ReplayStore::in_directory(folder.path()).load().unwrap().forgotten, 9);
}

#[test]
fn a_file_that_was_replaced_twice_is_read_anew() {
    let folder = tempfile::tempdir().unwrap();
    let [mut one, mut other] = [0, 0].map(|_| ReplayStore::in_directory(folder.path()));
    add(&mut one, 1);
    add(&mut other, 2);
    let number = |store: &ReplayStore| store.read.as_ref().unwrap().of;
    let before = number(&other);
    for round in 0..8 {
        // Some file systems give the number of a removed file to the next one.
        one.rewrite(|_| RecordedUses { uses: vec![used(3), used(4)], forgotten: 0 }).unwrap();
        one.rewrite(|_| RecordedUses { uses: vec![used(5), used(6), used(7)], forgotten: 0 }).unwrap();
        assert_ne!(number(&one), before, "a file that is open keeps its number: round {round}");
    }
    assert_eq!(add(&mut other, 8), [used(5), used(6), used(7)]);
}

#[test]
fn a_torn_line_is_skipped_and_the_next_one_counts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE_NAME);
    add(&mut ReplayStore::in_directory(folder.path()), 1);
    let torn = fs::read_to_string(&path).unwrap() + "{\"used\":\"000";
    fs::write(&path, torn).unwrap();
    add(&mut ReplayStore::in_directory(folder.path()), 2);
    assert_eq!(ReplayStore::in_directory(folder.path()).load().unwrap().uses, [used(1), used(2)]);
}

#[test]
fn a_line_of_a_later_version_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    for line in [
        "{\"used\":\"00\",\"user\":\"00\",\"expires_at\":1,\"more\":2}\n",
        "{\"used\":\"xyz\",\"user\":\"00\",\"expires_at\":1}\n",
        "{\"forgotten\":1,\"more\":2}\n",
        "7\n",
    ] {
        let path = folder.path().join(FILE_NAME);
        fs::write(&path, line).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let read = ReplayStore::in_directory(folder.path()).load();
        assert!(matches!(read, Err(ReplayStoreError::NotUnderstood { offset: 0, .. })), "{line}: {read:?}");
    }
}

#[test]
fn a_file_that_was_deleted_is_not_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = ReplayStore::in_directory(folder.path());
    add(&mut store, 1);
    fs::remove_file(folder.path().join(FILE_NAME)).unwrap();
    assert!(store.append(|_| vec![used(2)]).is_err());
    assert!(!folder.path().join(FILE_NAME).exists());
}

#[test]
fn a_file_that_others_may_change_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = ReplayStore::in_directory(folder.path());
    add(&mut store, 1);
    let path = folder.path().join(FILE_NAME);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let refused = |result: Result<(), ReplayStoreError>| {
        assert!(matches!(result, Err(ReplayStoreError::File(SharedFileError::Mode { .. }))), "{result:?}");
    };
    refused(store.append(|_| vec![used(2)]));
    refused(ReplayStore::in_directory(folder.path()).load().map(drop));
}
