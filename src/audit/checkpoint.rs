//! Checkpoints: signed statements of the chain's last line.
//!
//! The chain alone does not show that its end was cut off, nor that all of it was rewritten. The checkpoints, or just
//! the last of them, show both if they are kept elsewhere. A checkpoint covers the lines since the one before, so that
//! a missing checkpoint is found too. It covers only lines that are on the disk, so that it still holds after a power
//! failure.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Deserialize;
use tracing::{error, info, warn};

use super::audit_key::{AuditKey, PublicKey};
use super::chain::{LineHash, Link};
use super::line::LineBuilder;
use super::log_paths;
use crate::clock::UnixTime;

/// One checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) link: Link,
    /// How many lines it covers: from the one after the checkpoint before.
    pub(crate) count: u64,
    /// How many of these, the first ones, the signer found at its start: it cannot tell whether the gateway wrote them.
    pub(crate) found: u64,
    pub(crate) key: PublicKey,
}

/// The result of reading a line as a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    Signed(Checkpoint, UnixSeconds),
    /// A checkpoint that names another key.
    OtherKey(PublicKey),
    /// A checkpoint whose signature does not verify.
    Forged,
    /// Not a checkpoint, or not a whole one.
    Garbage,
}

/// Since 1970. A checkpoint states it in RFC 3339.
pub(crate) type UnixSeconds = i64;

/// The checkpoints that the writer signs.
#[derive(Debug)]
pub(super) struct Checkpoints {
    key: AuditKey,
    path: PathBuf,
    file: Option<File>,
    /// The last line that a checkpoint covers.
    covered: u64,
    /// How many lines after that one were there at the start.
    found: u64,
    signed_at: Option<Instant>,
    failing: bool,
}

#[derive(Deserialize)]
struct Members<'t> {
    seq: u64,
    head: &'t str,
    count: u64,
    #[serde(default)]
    found: u64,
    time: &'t str,
    key: &'t str,
    signature: &'t str,
}

const EVERY_LINES: u64 = 1000;
const EVERY: Duration = Duration::from_secs(10);
/// Under load, to limit the number of flushes.
const AT_MOST_EVERY: Duration = Duration::from_millis(100);
const SIGNATURE: &str = ",\"signature\":\"";
const TAIL_BYTES: u64 = 4096;

/// The link and the key that each checkpoint in these files states. No signature is checked.
pub(crate) fn unverified(paths: &[PathBuf]) -> io::Result<Vec<(Link, String)>> {
    let mut found = Vec::new();
    for path in paths {
        let text = std::fs::read(path)?;
        found.extend(String::from_utf8_lossy(&text).lines().filter_map(|line| {
            let members = serde_json::from_str::<Members<'_>>(line).ok()?;
            Some((members.link()?, members.key.to_owned()))
        }));
    }
    Ok(found)
}

impl Members<'_> {
    fn link(&self) -> Option<Link> {
        Some(Link { sequence: self.seq, head: LineHash::parse(self.head.as_bytes())? })
    }
}

impl Checkpoint {
    /// The first line that it covers.
    pub(crate) fn first_line(&self) -> u64 {
        self.link.sequence.saturating_sub(self.count) + 1
    }

    /// The first line that its signer has written.
    pub(crate) fn first_own_line(&self) -> u64 {
        self.first_line().saturating_add(self.found)
    }
}

impl Checkpoints {
    /// For a log whose file begins after the line `begins_after` and ends with `last_line`. Lines of this file without
    /// a checkpoint are there after a crash, or because another process appended them.
    pub(super) fn open(key: AuditKey, log: &Path, begins_after: u64, last_line: u64) -> io::Result<Self> {
        let path = log_paths::checkpoints(log);
        let covered = last(&path).map_or(begins_after, |link| link.sequence.min(last_line));
        let found = last_line.saturating_sub(covered);
        if found > 0 {
            let (from, up_to) = (covered + 1, last_line);
            warn!(
                from,
                up_to,
                "the last lines of the audit log have no checkpoint, as after a crash: `audit verify` ignores it if they state \
                that rotation removed files"
            );
        }
        let file = Some(open(&path)?);
        Ok(Self { key, path, file, covered, found, signed_at: None, failing: false })
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

    /// Signs the chain's last line. All lines up to it must be on the disk.
    pub(super) fn sign(&mut self, link: Link, time: UnixTime, now: Instant) {
        if self.covers(link.sequence) {
            return;
        }
        self.signed_at = Some(now);
        match self.write(link, time) {
            Ok(()) => {
                (self.covered, self.found) = (link.sequence, 0);
                if std::mem::replace(&mut self.failing, false) {
                    info!("checkpoints of the audit log can be written again");
                }
            }
            Err(error) => {
                self.file = None;
                if !std::mem::replace(&mut self.failing, true) {
                    error!(%error, path = %self.path.display(), "cannot write a checkpoint of the audit log: lines are written but not signed; check its disk");
                }
            }
        }
    }

    pub(super) fn covers(&self, sequence: u64) -> bool {
        sequence <= self.covered
    }

    /// The log was renamed with its checkpoints: the next checkpoint goes into a new file.
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
        let mut line = LineBuilder::open(&mut text);
        line.plain("head", link.head).number("count", count);
        if self.found > 0 {
            line.number("found", self.found);
        }
        line.plain("time", time).plain("key", self.key.public());
        let signature = self.key.sign(&text);
        text.extend_from_slice(SIGNATURE.as_bytes());
        text.extend_from_slice(signature.as_bytes());
        text.extend_from_slice(b"\"}\n");
        text
    }
}

/// Reads one line. Only signatures of these keys are trusted.
pub(crate) fn read(line: &str, keys: &[PublicKey]) -> Read {
    let Ok(members) = serde_json::from_str::<Members<'_>>(line) else { return Read::Garbage };
    let (Some(link), Some(theirs)) = (members.link(), PublicKey::parse(members.key)) else { return Read::Garbage };
    let Some(key) = keys.iter().find(|key| **key == theirs) else { return Read::OtherKey(theirs) };
    let message = line.rfind(SIGNATURE).and_then(|end| line.get(..end)).unwrap_or_default();
    if !key.verifies(message.as_bytes(), members.signature) {
        return Read::Forged;
    }
    let time = members.time.parse::<jiff::Timestamp>().map_or(0, jiff::Timestamp::as_second);
    let (count, found) = (members.count, members.found);
    Read::Signed(Checkpoint { link, count, found, key: theirs }, time)
}

/// The link of the last checkpoint. Its signature is not checked: it decides where to continue, not what to trust.
pub(super) fn last(path: &Path) -> Option<Link> {
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES))).ok()?;
    let mut text = Vec::new();
    file.read_to_end(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text);
    text.lines().rev().find_map(|line| serde_json::from_str::<Members<'_>>(line).ok()?.link())
}

/// Ends a torn last line, so that the next checkpoint begins on a line of its own.
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
    fn checkpoints_are_in_order_and_only_of_the_trusted_key() {
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
        let text = std::fs::read_to_string(log_paths::checkpoints(&log)).unwrap();
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
        assert_eq!(last(&log_paths::checkpoints(&log)).unwrap().sequence, 1500);
        let mut next = Checkpoints::open(AuditKey::open(&folder).unwrap(), &log, 0, 1504).unwrap();
        for sequence in [1510, 1511] {
            next.sign(Link { sequence, head: LineHash::GENESIS }, UnixTime::from_seconds(1_800_000_000), now);
        }
        let text = std::fs::read_to_string(log_paths::checkpoints(&log)).unwrap();
        let own = text.lines().skip(2).map(|line| match read(line, &[public]) {
            Read::Signed(checkpoint, _) => (checkpoint.first_line(), checkpoint.first_own_line()),
            other => panic!("{other:?}"),
        });
        assert_eq!(own.collect::<Vec<_>>(), [(1501, 1505), (1511, 1511)], "it did not write lines 1501 to 1504");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
