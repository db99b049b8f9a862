use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::thread;

use tempfile::TempDir;

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

    fn store(&self) -> Store {
        Store::in_directory(&self.path())
    }

    fn file(&self) -> PathBuf {
        self.path().join(FILE_NAME)
    }

    fn text(&self) -> String {
        fs::read_to_string(self.file()).unwrap()
    }

    fn write(&self, text: &str) {
        OpenOptions::new().append(true).open(self.file()).unwrap().write_all(text.as_bytes()).unwrap();
    }
}

fn entry(client: &str, lives: u64) -> RevocationEntry {
    RevocationEntry {
        issuer: "https://i.example".to_owned(),
        target: RevocationTarget::Client(client.to_owned()),
        issued_before: Some(NOW.seconds()),
        expires_at: Some(NOW.seconds() + lives),
        made_at: NOW.seconds(),
        revoked_by: None,
    }
}

fn add(store: &mut Store, entry: &RevocationEntry) {
    store.append(|_| vec![entry.clone()]).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn every_kind_of_entry_survives_the_disk_in_private_files() {
    let folder = Folder::new();
    let targets = [
        RevocationTarget::token("secret-id"),
        RevocationTarget::Client("a \"quoted\"\nname".to_owned()),
        RevocationTarget::Subject("ä".to_owned()),
        RevocationTarget::Issuer,
    ];
    let entries: Vec<RevocationEntry> = targets.map(|target| RevocationEntry { target, ..entry("", 9) }).into();
    folder.store().append(|_| entries.clone()).unwrap();
    assert_eq!(folder.store().read().unwrap(), entries);
    assert!(!folder.text().contains("secret-id"), "a token id is kept as its digest alone");
    assert_eq!((mode(&folder.path()), mode(&folder.file())), (0o700, 0o600));
}

#[test]
fn an_unwritten_store_reads_as_empty_and_creates_nothing() {
    let folder = Folder::new();
    let mut store = folder.store();
    assert!(store.read().unwrap().is_empty());
    store.check().unwrap();
    store.compact(NOW).unwrap();
    assert!(!folder.path().exists());
}

#[test]
fn each_writer_sees_the_entries_of_the_other_once() {
    let folder = Folder::new();
    let (mut one, mut other) = (folder.store(), folder.store());
    add(&mut one, &entry("a", 9));
    let mut seen = Vec::new();
    other
        .append(|news| {
            seen = news;
            vec![entry("b", 9)]
        })
        .unwrap();
    assert_eq!(seen, [entry("a", 9)]);
    assert_eq!(one.read().unwrap(), [entry("b", 9)]);
    assert!(one.read().unwrap().is_empty() && other.read().unwrap().is_empty());
}

#[test]
fn many_writers_at_once_tear_nothing() {
    let folder = Folder::new();
    thread::scope(|scope| {
        for writer in 0..4 {
            let folder = &folder;
            scope.spawn(move || {
                let mut store = folder.store();
                (0..20).for_each(|number| add(&mut store, &entry(&format!("{writer}-{number}"), 9)));
                store.compact(NOW).unwrap();
            });
        }
    });
    assert_eq!(folder.store().read().unwrap().len(), 80);
}

#[test]
fn a_torn_last_line_is_passed_over_and_does_not_spoil_the_next() {
    let folder = Folder::new();
    let mut store = folder.store();
    add(&mut store, &entry("a", 9));
    let mut reader = folder.store();
    assert_eq!(reader.read().unwrap().len(), 1);
    folder.write("{\"issuer\":\"https://i.exa");
    assert!(reader.read().unwrap().is_empty(), "it may be under way still");
    add(&mut folder.store(), &entry("b", 9));
    assert_eq!(reader.read().unwrap(), [entry("b", 9)]);
    assert_eq!(store.read().unwrap(), [entry("b", 9)]);
    store.compact(NOW).unwrap();
    assert_eq!(folder.text().lines().count(), 2);
}

#[test]
fn a_line_that_is_under_way_is_read_once_it_is_whole() {
    let folder = Folder::new();
    let mut store = folder.store();
    store.make().unwrap();
    let mut line = Vec::new();
    write_line(&entry("a", 9), &mut line);
    let (begin, end) = line.split_at(30);
    folder.write(std::str::from_utf8(begin).unwrap());
    assert!(store.read().unwrap().is_empty());
    folder.write(std::str::from_utf8(end).unwrap());
    assert_eq!(store.read().unwrap(), [entry("a", 9)]);
}

#[test]
fn a_whole_line_that_is_no_revocation_is_an_error() {
    for line in [
        "{}",
        "[]",
        "7",
        r#"{"issuer":"i","expires_at":1,"made_at":1}"#,
        r#"{"issuer":"i","client":"a","subject":"b","expires_at":1,"made_at":1}"#,
        r#"{"issuer":"i","client":"a","expires_at":1,"made_at":1,"of_later_versions":true}"#,
    ] {
        let folder = Folder::new();
        let mut store = folder.store();
        store.make().unwrap();
        folder.write(&format!("\n{line}\n"));
        assert!(matches!(store.read(), Err(StoreError::NotUnderstood { offset: 1, .. })), "{line}");
        assert!(matches!(store.append(|_| vec![entry("a", 9)]), Err(StoreError::NotUnderstood { .. })), "{line}");
        assert!(matches!(store.compact(NOW), Err(StoreError::NotUnderstood { .. })), "{line}");
    }
}

#[test]
fn a_line_without_end_is_no_line() {
    let folder = Folder::new();
    let mut store = folder.store();
    store.make().unwrap();
    folder.write(&format!("{}\n", "x".repeat(300_000)));
    add(&mut store, &entry("a", 9));
    assert_eq!(folder.store().read().unwrap(), [entry("a", 9)]);
}

#[test]
fn compaction_removes_expired_entries_and_readers_notice() {
    let folder = Folder::new();
    let (mut store, mut reader) = (folder.store(), folder.store());
    add(&mut store, &entry("short", 5));
    add(&mut store, &entry("long", 50));
    assert_eq!(reader.read().unwrap().len(), 2);
    let inode = || fs::metadata(folder.file()).unwrap().ino();
    let before = inode();
    store.compact(NOW).unwrap();
    assert_eq!(inode(), before, "there was nothing to leave out");
    store.compact(UnixTime::from_seconds(NOW.seconds() + 5)).unwrap();
    assert_eq!(folder.text().lines().count(), 1);
    assert_eq!(mode(&folder.file()), 0o600);
    assert_eq!(reader.read().unwrap(), [entry("long", 50)]);
    add(&mut reader, &entry("new", 9));
    assert_eq!(store.read().unwrap(), [entry("long", 50), entry("new", 9)]);
}

#[test]
fn looser_modes_are_refused() {
    let folder = Folder::new();
    add(&mut folder.store(), &entry("a", 9));
    for (path, loose) in [(folder.file(), 0o640), (folder.path(), 0o772)] {
        let tight = fs::metadata(&path).unwrap().permissions();
        fs::set_permissions(&path, fs::Permissions::from_mode(loose)).unwrap();
        assert!(
            matches!(folder.store().check(), Err(StoreError::File(SharedFileError::Mode { fault, .. })) if fault.mode == loose)
        );
        assert!(matches!(folder.store().read(), Err(StoreError::File(SharedFileError::Mode { .. }))));
        fs::set_permissions(&path, tight).unwrap();
    }
    assert_eq!(folder.store().read().unwrap().len(), 1);
}

#[test]
fn a_file_that_was_removed_is_not_made_again() {
    let folder = Folder::new();
    let mut store = folder.store();
    add(&mut store, &entry("a", 9));
    fs::remove_file(folder.file()).unwrap();
    assert!(store.read().is_err());
    assert!(store.append(|_| vec![entry("b", 9)]).is_err());
    add(&mut folder.store(), &entry("c", 9));
    assert_eq!(store.read().unwrap(), [entry("c", 9)]);
}

#[test]
fn a_file_stays_marked_as_complete_over_restart_and_compaction() {
    let folder = Folder::new();
    let mut store = folder.store();
    add(&mut store, &entry("a", 1));
    assert!(!store.is_complete());
    store.mark_complete();
    store.append(|_| Vec::new()).unwrap();
    assert!(store.is_complete() && !store.is_to_mark());
    store.mark_complete();
    add(&mut store, &entry("b", 60));
    let read = || {
        let mut again = folder.store();
        (again.read().unwrap(), again.is_complete())
    };
    assert_eq!(read(), (vec![entry("a", 1), entry("b", 60)], true));
    store.compact(UnixTime::from_seconds(NOW.seconds() + 1)).unwrap();
    assert_eq!(read(), (vec![entry("b", 60)], true));
    let length = folder.text().len();
    store.compact(NOW).unwrap();
    assert_eq!(folder.text().len(), length);
}
