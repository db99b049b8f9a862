//! Checkpoints: signed statements of where the chain stood.
//!
//! The chain alone does not show that its end was cut off, nor that all of it was written anew. Who keeps the checkpoints, or just
//! their last, sees both. A checkpoint covers the lines since the one before, so that a missing one shows too. It speaks of lines
//! that are on the disk: a power failure can't make it lie.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Deserialize;
use tracing::{error, info};

use super::audit_key::{AuditKey, PublicKey};
use super::chain::{LineHash, Link};
use super::line::LineBuilder;
use crate::clock::UnixTime;

/// One checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) link: Link,
    /// How many lines it covers: from the one after the checkpoint before.
    pub(crate) count: u64,
    pub(crate) key: PublicKey,
}

/// What became of a line that should be a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    Signed(Checkpoint, UnixSeconds),
    /// It is one, by another key.
    OtherKey(PublicKey),
    /// It is one, and its signature does not hold.
    Forged,
    /// Not one, or not whole.
    Garbage,
}

/// RFC 3339, as the checkpoint says it.
pub(crate) type UnixSeconds = i64;

/// The writer's side.
#[derive(Debug)]
pub(super) struct Checkpoints {
    key: AuditKey,
    path: PathBuf,
    file: Option<File>,
    /// The last line that a checkpoint covers.
    covered: u64,
    signed_at: Option<Instant>,
    failing: bool,
}

#[derive(Deserialize)]
struct Members<'t> {
    seq: u64,
    head: &'t str,
    count: u64,
    time: &'t str,
    key: &'t str,
    signature: &'t str,
}

const EVERY_LINES: u64 = 1000;
const EVERY: Duration = Duration::from_secs(10);
/// Under load, so that the disk is not asked for its word all the time.
const AT_MOST_EVERY: Duration = Duration::from_millis(100);
const SIGNATURE: &str = ",\"signature\":\"";
const TAIL_BYTES: u64 = 4096;
/// Of the names of files that hold checkpoints.
pub(crate) const SUFFIX: &str = ".checkpoints";

/// Where the checkpoints of a log stand.
pub(crate) fn path(log: &Path) -> PathBuf {
    let mut path = log.as_os_str().to_owned();
    path.push(SUFFIX);
    path.into()
}

/// All files with checkpoints of a log and of what was put aside of it, whether the log itself is there or not.
pub(crate) fn all(log: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = super::rotation::beside(log)?;
    found.retain(|path| path.as_os_str().as_encoded_bytes().ends_with(SUFFIX.as_bytes()));
    Ok(found)
}

/// The key that the last checkpoint in a file names.
pub(crate) fn key_of(path: &Path) -> Option<String> {
    let text = String::from_utf8_lossy(&std::fs::read(path).ok()?).into_owned();
    text.lines().rev().find_map(|line| Some(serde_json::from_str::<Members<'_>>(line).ok()?.key.to_owned()))
}

impl Checkpoints {
    /// The log's file begins after the line `begins_after` and ends with `last_line`.
    pub(super) fn open(key: AuditKey, log: &Path, begins_after: u64, last_line: u64) -> io::Result<Self> {
        let path = path(log);
        let covered = last(&path).map_or(begins_after, |link| link.sequence.min(last_line));
        let file = Some(open(&path)?);
        Ok(Self { key, path, file, covered, signed_at: None, failing: false })
    }

    pub(super) fn public_key(&self) -> PublicKey {
        self.key.public()
    }

    pub(super) fn is_due(&self, sequence: u64, now: Instant) -> bool {
        let lines = sequence.saturating_sub(self.covered);
        let Some(signed_at) = self.signed_at else { return lines > 0 };
        let age = now.saturating_duration_since(signed_at);
        lines > 0 && (age >= EVERY || (lines >= EVERY_LINES && age >= AT_MOST_EVERY))
    }

    /// States where the chain stands. Lines up to there must be on the disk.
    pub(super) fn sign(&mut self, link: Link, time: UnixTime, now: Instant) {
        if link.sequence <= self.covered {
            return;
        }
        self.signed_at = Some(now);
        match self.write(link, time) {
            Ok(()) => {
                self.covered = link.sequence;
                if std::mem::replace(&mut self.failing, false) {
                    info!("checkpoints of the audit log can be written again");
                }
            }
            Err(error) => {
                self.file = None;
                if !std::mem::replace(&mut self.failing, true) {
                    error!(%error, path = %self.path.display(), "cannot write a checkpoint of the audit log");
                }
            }
        }
    }

    /// The log goes on in a new file, and so do its checkpoints.
    pub(super) fn moved(&mut self) {
        self.file = None;
    }

    fn write(&mut self, link: Link, time: UnixTime) -> io::Result<()> {
        let text = self.text(link, time);
        let is_there = self.path.exists();
        let file = match &mut self.file {
            Some(file) if is_there => file,
            none => none.insert(open(&self.path)?),
        };
        file.write_all(&text)?;
        file.sync_data()
    }

    fn text(&self, link: Link, time: UnixTime) -> Vec<u8> {
        let mut text = format!("{{\"seq\":{}", link.sequence).into_bytes();
        let count = link.sequence.saturating_sub(self.covered);
        LineBuilder::open(&mut text)
            .plain("head", link.head)
            .number("count", count)
            .plain("time", time)
            .plain("key", self.key.public());
        let signature = self.key.sign(&text);
        text.extend_from_slice(SIGNATURE.as_bytes());
        text.extend_from_slice(signature.as_bytes());
        text.extend_from_slice(b"\"}\n");
        text
    }
}

/// Reads one line. Only what is signed by one of these keys is believed.
pub(crate) fn read(line: &str, keys: &[PublicKey]) -> Read {
    let Ok(members) = serde_json::from_str::<Members<'_>>(line) else { return Read::Garbage };
    let (Some(head), Some(theirs)) = (LineHash::parse(members.head.as_bytes()), PublicKey::parse(members.key)) else {
        return Read::Garbage;
    };
    let Some(key) = keys.iter().find(|key| **key == theirs) else { return Read::OtherKey(theirs) };
    let message = line.rfind(SIGNATURE).and_then(|end| line.get(..end)).unwrap_or_default();
    if !key.holds(message.as_bytes(), members.signature) {
        return Read::Forged;
    }
    let time = members.time.parse::<jiff::Timestamp>().map_or(0, jiff::Timestamp::as_second);
    let link = Link { sequence: members.seq, head };
    Read::Signed(Checkpoint { link, count: members.count, key: theirs }, time)
}

/// What the last checkpoint says, unverified: for going on, not for believing.
pub(super) fn last(path: &Path) -> Option<Link> {
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES))).ok()?;
    let mut text = Vec::new();
    file.read_to_end(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text);
    text.lines().rev().find_map(|line| {
        let members = serde_json::from_str::<Members<'_>>(line).ok()?;
        Some(Link { sequence: members.seq, head: LineHash::parse(members.head.as_bytes())? })
    })
}

/// A last line that was torn is ended, so that ours begins on its own.
fn open(path: &Path) -> io::Result<File> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    if file.metadata()?.len() > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn checkpoints_follow_each_other_and_only_ours_are_believed() {
        let folder = std::env::temp_dir().join(format!("portcullis-checkpoints-{}", std::process::id()));
        let key = AuditKey::open(&folder).unwrap();
        let public = key.public();
        let log = folder.join("audit.jsonl");
        let mut checkpoints = Checkpoints::open(key, &log, 0, 0).unwrap();
        let start = clock::instant();
        assert!(!checkpoints.is_due(0, start) && checkpoints.is_due(1, start));
        for (sequence, at) in [(7, 0), (1500, 60)] {
            let now = start + Duration::from_secs(at);
            checkpoints.sign(Link { sequence, head: LineHash::GENESIS }, UnixTime::from_seconds(1_800_000_000), now);
        }
        let now = start + Duration::from_secs(60);
        assert!(!checkpoints.is_due(1501, now + Duration::from_secs(9)));
        assert!(checkpoints.is_due(1501, now + Duration::from_secs(10)));
        assert!(checkpoints.is_due(2500, now + Duration::from_millis(100)));
        let text = std::fs::read_to_string(path(&log)).unwrap();
        let counts: Vec<_> = text
            .lines()
            .map(|line| match read(line, &[public]) {
                Read::Signed(checkpoint, 1_800_000_000) => (checkpoint.link.sequence, checkpoint.count),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(counts, [(7, 7), (1500, 1493)]);
        let line = text.lines().next().unwrap();
        assert_eq!(read(&line.replace("\"seq\":7", "\"seq\":8"), &[public]), Read::Forged);
        assert_eq!(read(&line[..80], &[public]), Read::Garbage);
        let other = AuditKey::open(&folder.join("other")).unwrap();
        assert_eq!(read(line, &[other.public()]), Read::OtherKey(public));
        assert_eq!(last(&path(&log)).unwrap().sequence, 1500);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
