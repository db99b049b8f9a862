use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::report::{Completeness, FaultKind, MissingLines};
use super::*;
use crate::audit::audit_key::AuditKey;
use crate::audit::checkpoint::Checkpoints;
use crate::audit::log_paths;
use crate::clock::{self, UnixTime};

/// A log of several files with its checkpoints, in a folder of its own.
struct Log {
    folder: PathBuf,
    key: PublicKey,
    files: Vec<PathBuf>,
}

impl Drop for Log {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Log {
    /// A log with files of these numbers of lines. Each file ends with a checkpoint.
    fn new(files: &[u64]) -> Self {
        Self::by(files, &["member"; 1])
    }

    fn by(lines: &[u64], members: &[&str]) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("portcullis-verify-{}-{number}", std::process::id()));
        let key = AuditKey::open(&folder).unwrap();
        let public = key.public();
        let log = folder.join("audit.jsonl");
        let mut checkpoints = Checkpoints::open(key, &log, 0, 0).unwrap();
        let (mut link, mut files, mut hasher) = (Link::GENESIS, Vec::new(), Hasher::default());
        for lines in lines {
            let (first, mut text) = (link.sequence + 1, Vec::new());
            for index in 0..*lines {
                let member = members[usize::try_from(index).unwrap() % members.len()];
                link.seal([b"", format!(",\"m\":\"{member}\"}}\n").as_bytes()], index == 0, &mut hasher, &mut text);
            }
            let path = folder.join(format!("audit.jsonl.{first:012}-{:012}", link.sequence));
            fs::write(&path, text).unwrap();
            checkpoints.sign(link, UnixTime::from_seconds(1_800_000_000), clock::instant());
            fs::rename(log_paths::checkpoints(&log), log_paths::checkpoints(&path)).unwrap();
            checkpoints.moved();
            files.push(path);
        }
        Self { folder, key: public, files }
    }

    fn report(&self) -> VerifyReport {
        self.report_from(1)
    }

    fn report_from(&self, from: u64) -> VerifyReport {
        let chain = chains::of_files(&self.files).unwrap().chains.remove(0);
        verify(&chain, &[self.key], RequestedRange { from, to: None }, |_| {}).unwrap()
    }

    fn text(&self, file: usize) -> Vec<u8> {
        fs::read(&self.files[file]).unwrap()
    }

    fn change(&self, file: usize, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
        let mut lines: Vec<Vec<u8>> =
            self.text(file).split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        change(&mut lines);
        fs::write(&self.files[file], lines.concat()).unwrap();
    }

    /// The first fault: file, line, kind.
    fn first_fault(&self) -> (usize, u64, FaultKind) {
        let report = self.report();
        assert!(!report.is_intact() || report.completeness() == Completeness::Incomplete);
        let fault = report.faults.first().unwrap_or_else(|| panic!("{report:?}"));
        let file = self.files.iter().position(|file| *file == fault.file).unwrap();
        (file, fault.line, fault.kind)
    }
}

#[test]
fn a_log_as_it_was_written_is_intact_and_complete() {
    let log = Log::new(&[3, 1, 5]);
    let report = log.report();
    assert!(report.is_intact(), "{report:?}");
    assert_eq!((report.completeness(), report.lines, report.first), (Completeness::Complete, 9, Some(1)));
    assert_eq!((report.checkpoints.count, report.checkpoints.last), (3, Some((9, 1_800_000_000))));
    let text: u64 = (0..3).map(|file| log.text(file).len() as u64).sum();
    assert_eq!(report.bytes, text);
}

#[test]
fn more_than_one_piece_is_one_chain() {
    let log = Log::by(&[3000, 1], &[&"x".repeat(2000)]);
    let report = log.report();
    assert!(report.is_intact() && report.lines == 3001, "{:?}", report.faults);
    log.change(0, |lines| drop(lines.remove(2500)));
    assert_eq!(log.first_fault(), (0, 2501, FaultKind::Gap { from: 2501, to: 2501 }));
}

#[test]
fn each_kind_of_tampering_is_named_with_its_line() {
    let log = || Log::new(&[5, 5]);
    let deleted = log();
    deleted.change(0, |lines| drop(lines.remove(2)));
    assert_eq!(deleted.first_fault(), (0, 3, FaultKind::Gap { from: 3, to: 3 }));
    let changed = log();
    changed.change(1, |lines| lines[3][10] = b'x');
    assert_eq!(changed.first_fault(), (1, 4, FaultKind::Changed));
    let swapped = log();
    swapped.change(0, |lines| lines.swap(1, 2));
    assert_eq!(swapped.first_fault(), (0, 2, FaultKind::Gap { from: 2, to: 2 }));
    let beheaded = log();
    beheaded.change(0, |lines| drop(lines.remove(0)));
    assert_eq!(beheaded.first_fault(), (0, 1, FaultKind::Beheaded));
    let inserted = log();
    inserted.change(0, |lines| lines.insert(1, b"{\"seq\":1}\n".to_vec()));
    assert_eq!(inserted.first_fault(), (0, 2, FaultKind::NotALine));
    let repeated = log();
    repeated.change(0, |lines| lines.insert(1, lines[0].clone()));
    assert_eq!(repeated.first_fault(), (0, 2, FaultKind::OutOfOrder { expected: 2, found: 1 }));
}

#[test]
fn a_missing_file_and_a_missing_end_are_a_lack_of_completeness() {
    let mut log = Log::new(&[2, 3, 2]);
    log.files.remove(1);
    let report = log.report();
    assert!(report.is_intact(), "{report:?}");
    assert_eq!(report.completeness(), Completeness::Incomplete);
    assert_eq!(report.faults[0].kind, FaultKind::Missing { from: 3, to: 5 });
    let log = Log::new(&[3, 4]);
    log.change(1, |lines| lines.truncate(2));
    let report = log.report();
    assert!(report.is_intact(), "{report:?}");
    let missing = MissingLines { from: 6, to: 7, is_signed: true };
    assert_eq!((report.completeness(), &report.missing[..]), (Completeness::Incomplete, &[missing][..]));
}

#[test]
fn a_chain_without_line_1_is_incomplete_unless_rotation_says_so() {
    let mut log = Log::new(&[2, 3]);
    let removed = log.files.remove(0);
    for is_signed in [true, false] {
        let report = log.report();
        assert!(report.is_intact() && report.completeness() == Completeness::Incomplete, "{report:?}");
        assert_eq!(report.missing, [MissingLines { from: 1, to: 2, is_signed }]);
        let requested = log.report_from(3);
        assert!(requested.is_intact() && requested.completeness() == Completeness::Complete, "{requested:?}");
        let _ = fs::remove_file(log_paths::checkpoints(&removed));
        let _ = fs::remove_file(&removed);
    }
    for (name, completeness) in
        [("000000000001-000000000002", Completeness::Complete), ("000000000001-000000000001", Completeness::Incomplete)]
    {
        let member =
            format!("x\",\"gateway.event\":\"removed\",\"gateway.config\":\"c\",\"gateway.file\":\"audit.jsonl.{name}");
        let mut log = Log::by(&[2, 3], &[&member]);
        let removed = log.files.remove(0);
        fs::remove_file(log_paths::checkpoints(&removed)).unwrap();
        let report = log.report();
        assert_eq!((report.is_intact(), report.completeness()), (true, completeness), "{report:?}");
    }
}

#[test]
fn a_removed_line_counts_only_if_its_writers_checkpoint_covers() {
    let removed = |up_to: u64| {
        format!(
            "x\",\"gateway.event\":\"removed\",\"gateway.config\":\"c\",\"gateway.file\":\"a.000000000001-{up_to:012}"
        )
    };
    let without_first = |log: &mut Log| {
        let first = log.files.remove(0);
        fs::remove_file(log_paths::checkpoints(&first)).unwrap();
    };
    let is_ignored = |log: &Log, line: u64, up_to: u64| {
        let report = log.report();
        assert_eq!((report.completeness(), report.removed), (Completeness::Incomplete, 0), "{report:?}");
        assert!(report.unconfirmed.contains(&(line, RecordedEvent::Removed { up_to })), "{report:?}");
    };
    // Appended after the last checkpoint.
    let mut log = Log::by(&[2, 3, 1], &["member"]);
    let (mut link, mut forged) = (last_link(&log.text(2)).unwrap(), Vec::new());
    link.seal([b"", format!(",\"m\":\"{}\"}}\n", removed(2)).as_bytes()], false, &mut Hasher::default(), &mut forged);
    fs::write(&log.files[2], [log.text(2), forged].concat()).unwrap();
    without_first(&mut log);
    is_ignored(&log, 7, 2);
    // The next start signs the line, and the checkpoint says that it was found.
    let current = log.folder.join("audit.jsonl");
    let mut next = Checkpoints::open(AuditKey::open(&log.folder).unwrap(), &current, 6, 7).unwrap();
    next.sign(link, UnixTime::from_seconds(1_800_000_000), clock::instant());
    log.files.push(current.clone());
    fs::write(&current, "").unwrap();
    is_ignored(&log, 7, 2);
    assert_eq!(log.report().checkpoints.found, [(7, 7)]);
    // A line cannot say that it was removed itself.
    let mut log = Log::by(&[2, 3], &[&removed(9)]);
    without_first(&mut log);
    is_ignored(&log, 3, 9);
    // A checkpoint after a break of the chain does not confirm a line before it.
    let mut log = Log::by(&[2, 3, 2], &[&removed(2)]);
    log.change(2, |lines| drop(lines.remove(0)));
    log.change(1, |lines| drop(lines.remove(2)));
    without_first(&mut log);
    is_ignored(&log, 3, 2);
}

#[test]
fn lines_left_unsigned_for_too_long_are_reported() {
    for (times, completeness) in [
        (["2027-01-15T08:00:00.000Z", "2027-01-15T08:00:30.000Z"], Completeness::Complete),
        (["2026-01-15T08:00:00.000Z", "2026-01-15T08:02:00.000Z"], Completeness::Incomplete),
    ] {
        let members = times.map(|time| format!("x\",\"time\":\"{time}"));
        let log = Log::by(&[2, 2], &[&members[0], &members[1]]);
        fs::remove_file(log_paths::checkpoints(&log.files[1])).unwrap();
        let report = log.report();
        assert_eq!((report.is_intact(), report.completeness()), (true, completeness), "{report:?}");
    }
}

#[test]
fn a_rewritten_chain_contradicts_its_checkpoints() {
    let (log, forged) = (Log::new(&[4]), Log::by(&[4], &["forged"]));
    fs::copy(&forged.files[0], &log.files[0]).unwrap();
    assert_eq!(log.first_fault(), (0, 4, FaultKind::Rewritten));
    fs::copy(log_paths::checkpoints(&forged.files[0]), log_paths::checkpoints(&log.files[0])).unwrap();
    let report = log.report();
    assert!(!report.is_intact() && report.completeness() == Completeness::Unknown, "{report:?}");
    assert!(report.checkpoints.faults[0].contains(&forged.key.to_string()), "{report:?}");
}

#[test]
fn a_torn_end_is_a_crash_and_not_tampering() {
    let log = Log::new(&[3]);
    let text = [&log.text(0)[..], b"{\"seq\":4,\"m"].concat();
    fs::write(&log.files[0], text).unwrap();
    let report = log.report();
    assert!(report.is_intact() && report.completeness() == Completeness::Complete);
    assert_eq!(report.torn, Some((log.files[0].clone(), 11)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Every change is found: a changed byte, a deleted, repeated or moved line, a cut.
    #[test]
    fn every_change_of_a_log_is_found(
        files in prop::collection::vec(1..6u64, 1..4),
        place in any::<prop::sample::Index>(),
        other in any::<prop::sample::Index>(),
        bits in 1..=255u8,
        change in 0..5,
    ) {
        let log = Log::new(&files);
        let file = place.index(files.len());
        let before = log.text(file);
        log.change(file, |lines| {
            let (one, two) = (place.index(lines.len()), other.index(lines.len()));
            match change {
                0 => {
                    let byte = other.index(lines[one].len());
                    lines[one][byte] ^= bits;
                }
                1 => drop(lines.remove(one)),
                2 => lines.swap(one, two),
                3 => lines.insert(two, lines[one].clone()),
                _ => {
                    let mut text = lines.concat();
                    text.truncate(other.index(text.len()));
                    *lines = vec![text];
                }
            }
        });
        let report = log.report();
        let sound = report.is_intact() && report.completeness() == Completeness::Complete;
        prop_assert_eq!(sound, log.text(file) == before, "{:?}", report);
    }
}
