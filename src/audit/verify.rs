//! Whether a log is what was written: two verdicts, one on what is there and one on what is not.
//!
//! Integrity asks whether every line follows from the one before and agrees with what was signed. Completeness asks whether
//! all lines are there that a signed checkpoint knows of. Each line is checked by itself from the hash that stands before it, so
//! that all cores check at once; no JSON is read.

mod piece;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use piece::{Piece, check};

use super::audit_key::PublicKey;
use super::chain::{Hasher, Link, Sealed, sequence};
use super::checkpoint::{self, Checkpoint, Read};

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) lines: u64,
    pub(crate) bytes: u64,
    pub(crate) first: Option<u64>,
    pub(crate) last: Option<Link>,
    /// In the order of the files.
    pub(crate) faults: Vec<Fault>,
    /// Lines that a crash tore and a start cut off, each with a line that says so.
    pub(crate) recovered: u64,
    /// Bytes at a file's end that are no line: a crash and no start since, or a line that is being written.
    pub(crate) torn: Option<(PathBuf, u64)>,
    pub(crate) checkpoints: Signed,
}

/// What the checkpoints say.
#[derive(Debug, Default)]
pub(crate) struct Signed {
    pub(crate) count: u64,
    /// The last one's line, and when it was signed, in seconds since 1970.
    pub(crate) last: Option<(u64, i64)>,
    /// Lines that a checkpoint knows of, before the first that is there and after the last.
    pub(crate) missing: Vec<(u64, u64)>,
    /// What is no checkpoint of this key, and where checkpoints lack.
    pub(crate) faults: Vec<String>,
}

/// Something that is not as it was written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) file: PathBuf,
    /// From 1.
    pub(crate) line: u64,
    pub(crate) kind: FaultKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// It has not the form of a line.
    NotALine,
    /// It, or the one before, is not what was written.
    Changed,
    /// Lines are missing before it.
    Gap { from: u64, to: u64 },
    /// Files are missing before its file.
    FilesMissing { from: u64, to: u64 },
    /// It is not the next.
    OutOfOrder { expected: u64, found: u64 },
    /// It begins the file, and does not say what it follows.
    Beheaded,
    /// A checkpoint has signed another hash for its number.
    Rewritten,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Completeness {
    Complete,
    Incomplete,
    /// Nothing is signed.
    Unknown,
}

impl FaultKind {
    /// What is missing is no lack of integrity, if the rest is sound.
    pub(crate) const fn is_about_completeness(self) -> bool {
        match self {
            Self::FilesMissing { .. } => true,
            Self::NotALine
            | Self::Changed
            | Self::Gap { .. }
            | Self::OutOfOrder { .. }
            | Self::Beheaded
            | Self::Rewritten => false,
        }
    }
}

impl Report {
    pub(crate) fn is_intact(&self) -> bool {
        self.faults.iter().all(|fault| fault.kind.is_about_completeness()) && self.checkpoints.faults.is_empty()
    }

    pub(crate) fn completeness(&self) -> Completeness {
        let missing = |kind: FaultKind| matches!(kind, FaultKind::FilesMissing { .. } | FaultKind::Gap { .. });
        if !self.checkpoints.missing.is_empty() || self.faults.iter().any(|fault| missing(fault.kind)) {
            Completeness::Incomplete
        } else if self.checkpoints.count == 0 {
            Completeness::Unknown
        } else {
            Completeness::Complete
        }
    }
}

/// Files in the order of their lines; empty ones are left out.
pub(crate) fn in_order(files: Vec<PathBuf>) -> io::Result<Vec<PathBuf>> {
    let mut numbered = Vec::new();
    for path in files {
        let mut head = Vec::new();
        File::open(&path)?.take(64).read_to_end(&mut head)?;
        if !head.is_empty() {
            numbered.push((sequence(&head).unwrap_or(0), path));
        }
    }
    numbered.sort();
    Ok(numbered.into_iter().map(|(_, path)| path).collect())
}

/// Verifies files in this order. `from` is the first line that is asked for. `progress` is told of bytes as they are done.
pub(crate) fn verify(
    files: &[PathBuf],
    key: Option<&PublicKey>,
    from: u64,
    mut progress: impl FnMut(u64),
) -> io::Result<Report> {
    let mut report = Report::default();
    let signed = match key {
        Some(key) => signed(files, key, &mut report.checkpoints)?,
        None => Vec::new(),
    };
    let pieces = thread::scope(|scope| {
        let (jobs, waiting) = sync_channel(2);
        let (results, pieces) = channel();
        // Where the last worker has gone, the reader must not wait for one.
        let waiting = Arc::new(Mutex::new(waiting));
        let workers = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let signed = &signed[..];
        for _ in 0..workers {
            let (waiting, results) = (Arc::clone(&waiting), results.clone());
            scope.spawn(move || work(&waiting, signed, |number, piece| results.send((number, piece)).is_ok()));
        }
        drop((waiting, results));
        let reader = scope.spawn(move || cut_all(files, &jobs));
        let mut done = BTreeMap::new();
        for (number, piece) in pieces {
            progress(piece.bytes);
            done.insert(number, piece);
        }
        let torn = reader.join().unwrap_or_else(|_| Err(io::Error::other("the reader died")))?;
        Ok::<_, io::Error>((done, torn))
    });
    let (pieces, torn) = pieces?;
    report.torn = torn;
    gather(&mut report, files, pieces.into_values());
    conclude(&mut report, &signed, from);
    Ok(report)
}

/// Some lines of a file, whole.
struct Job {
    number: u64,
    file: usize,
    begins_file: bool,
    before: Option<Link>,
    lines: Vec<u8>,
}

const BLOCK: u64 = 2 * 1024 * 1024;
/// More faults than these are counted by nobody.
const MAX_FAULTS: usize = 1000;

fn work(jobs: &Mutex<Receiver<Job>>, signed: &[Checkpoint], mut done: impl FnMut(u64, Piece) -> bool) {
    let mut hasher = Hasher::default();
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        let mut piece = check(&job.lines, job.before, job.begins_file, signed, &mut hasher);
        piece.file = job.file;
        if !done(job.number, piece) {
            return;
        }
    }
}

/// Cuts files into pieces of whole lines, each with the link before it. Gives a last line that is not whole.
fn cut_all(files: &[PathBuf], jobs: &SyncSender<Job>) -> io::Result<Option<(PathBuf, u64)>> {
    let (mut before, mut number, mut torn) = (None, 0, None);
    for (file, path) in files.iter().enumerate() {
        let mut source = File::open(path)?;
        let (mut rest, mut begins_file) = (Vec::new(), true);
        loop {
            let mut lines = rest;
            let read = source.by_ref().take(BLOCK).read_to_end(&mut lines)?;
            let whole = memchr::memrchr(b'\n', &lines).map_or(0, |at| at + 1);
            rest = lines.split_off(whole);
            if whole > 0 {
                let after = last_link(&lines).or(before);
                let job = Job { number, file, begins_file, before, lines };
                if jobs.send(job).is_err() {
                    return Ok(torn);
                }
                (before, number, begins_file) = (after, number + 1, false);
            }
            if read == 0 {
                break;
            }
        }
        if !rest.is_empty() {
            torn = Some((path.clone(), rest.len() as u64));
        }
    }
    Ok(torn)
}

/// The link that the last line claims.
fn last_link(lines: &[u8]) -> Option<Link> {
    let lines = lines.strip_suffix(b"\n")?;
    let mut end = lines.len();
    loop {
        let start = memchr::memrchr(b'\n', &lines[..end]).map_or(0, |at| at + 1);
        match Sealed::parse(&lines[start..end]) {
            Some(sealed) => return Some(sealed.link),
            None => end = start.checked_sub(1)?,
        }
    }
}

fn gather(report: &mut Report, files: &[PathBuf], pieces: impl Iterator<Item = Piece>) {
    let (mut file, mut lines_before) = (0, 0);
    for piece in pieces {
        if piece.file != file {
            (file, lines_before) = (piece.file, 0);
        }
        report.bytes += piece.bytes;
        report.lines += piece.lines;
        report.recovered += piece.recovered;
        report.first = report.first.or(piece.first);
        report.last = piece.last.or(report.last);
        let room = MAX_FAULTS.saturating_sub(report.faults.len());
        for (line, kind) in piece.faults.into_iter().take(room) {
            let file = files.get(file).cloned().unwrap_or_default();
            report.faults.push(Fault { file, line: lines_before + line, kind });
        }
        lines_before += piece.lines;
    }
}

/// All checkpoints beside these files, in the order of their lines.
fn signed(files: &[PathBuf], key: &PublicKey, found: &mut Signed) -> io::Result<Vec<Checkpoint>> {
    let mut signed = Vec::new();
    for file in files {
        let path = checkpoint::path(file);
        let text = match std::fs::read(&path) {
            Ok(text) => String::from_utf8_lossy(&text).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for (line, number) in text.lines().zip(1u64..) {
            let fault = |what: &str| format!("{}:{number}: {what}", path.display());
            match checkpoint::read(line, key) {
                Read::Signed(checkpoint, time) => {
                    if found.last.is_none_or(|(last, _)| checkpoint.link.sequence >= last) {
                        found.last = Some((checkpoint.link.sequence, time));
                    }
                    signed.push(checkpoint);
                }
                Read::OtherKey(other) => found.faults.push(fault(&format!("signed by another key, {other}"))),
                Read::Forged => found.faults.push(fault("the signature does not hold")),
                // A crash can tear a checkpoint. If it was not one, the next shows the gap.
                Read::Garbage => {}
            }
        }
    }
    found.count = signed.len() as u64;
    signed.sort_by_key(|checkpoint| checkpoint.link.sequence);
    Ok(signed)
}

/// What is not there although it was signed.
fn conclude(report: &mut Report, signed: &[Checkpoint], from: u64) {
    let found = &mut report.checkpoints;
    let first = report.first.unwrap_or(u64::MAX);
    let last = report.last.map_or(0, |link| link.sequence);
    let covered = signed.iter().map(|checkpoint| checkpoint.link.sequence.saturating_sub(checkpoint.count) + 1);
    if let Some(line) = covered.map(|line| line.max(from)).min().filter(|line| *line < first) {
        let to = if report.first.is_some() { first - 1 } else { signed.last().map_or(line, |last| last.link.sequence) };
        if line <= to {
            found.missing.push((line, to));
        }
    }
    if let Some(after) = signed.last().map(|checkpoint| checkpoint.link.sequence).filter(|line| *line > last)
        && report.first.is_some()
    {
        found.missing.push((last + 1, after));
    }
    for pair in signed.windows(2) {
        let [one, next] = pair else { continue };
        if one.link.sequence + next.count != next.link.sequence && one.link.sequence + 1 >= from {
            let (after, before) = (one.link.sequence, next.link.sequence);
            found.faults.push(format!("checkpoints are missing between those of lines {after} and {before}"));
        }
    }
}

/// The files of a log that are here: those that were put aside, and the one that is written.
pub(crate) fn files_of(log: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = super::rotation::siblings(log)?;
    files.retain(|path| begins_like_a_log(path));
    if log.exists() {
        files.push(log.to_owned());
    }
    Ok(files)
}

fn begins_like_a_log(path: &Path) -> bool {
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(32).read_to_end(&mut head));
    read.is_ok() && head.starts_with(b"{\"seq\":")
}

#[cfg(test)]
mod tests;
