//! Whether a log is what was written: two verdicts, one on what is there and one on what is not.
//!
//! Integrity asks whether every line follows from the one before and agrees with what was signed. Completeness asks whether
//! the chain begins with line 1, or where rotation or the caller says, and holds every line that a signed checkpoint knows of.
//! Each line is checked by itself from the hash that stands before it, so
//! that all cores check at once; no JSON is read.

pub(crate) mod chains;
mod piece;
pub(crate) mod signed;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use chains::{LogChain, naming};
use piece::{PieceFindings, check};
use signed::{RequestedRange, Signed};

use super::audit_key::PublicKey;
use super::chain::{Hasher, Link, SealedLine};
use super::checkpoint::Checkpoint;
use crate::clock;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct VerifyReport {
    pub(crate) lines: u64,
    pub(crate) bytes: u64,
    pub(crate) first: Option<u64>,
    pub(crate) last: Option<Link>,
    /// In the order of the files.
    pub(crate) faults: Vec<VerifyFault>,
    /// Lines that a crash tore and a start cut off, each with a line that says so.
    pub(crate) recovered: u64,
    /// Bytes at a file's end that are no line: a crash and no start since, or a line that is being written.
    pub(crate) torn: Option<(PathBuf, u64)>,
    /// Rotation has removed the lines up to this one, as a later line says.
    pub(crate) removed: u64,
    pub(crate) missing: Vec<MissingLines>,
    /// The file that the gateway writes, where it is not there or empty although the log has other files.
    pub(crate) lacks_current: Option<PathBuf>,
    /// The first line that is asked for.
    from: u64,
    pub(crate) checkpoints: Signed,
}

/// Lines that are in no file, before the first that is there or after the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MissingLines {
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// A checkpoint knows of them.
    pub(crate) is_signed: bool,
}

/// Something that is not as it was written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct VerifyFault {
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

impl VerifyReport {
    pub(crate) fn is_intact(&self) -> bool {
        self.faults.iter().all(|fault| fault.kind.is_about_completeness()) && self.checkpoints.faults.is_empty()
    }

    pub(crate) fn completeness(&self) -> Completeness {
        let lacks = self.lines == 0 || self.lacks_current.is_some() || !self.missing.is_empty();
        if lacks || !self.checkpoints.unsigned.is_empty() || self.faults.iter().any(|fault| self.is_missing(fault)) {
            Completeness::Incomplete
        } else if self.checkpoints.count == 0 {
            Completeness::Unknown
        } else {
            Completeness::Complete
        }
    }

    fn is_missing(&self, fault: &VerifyFault) -> bool {
        match fault.kind {
            FaultKind::FilesMissing { to, .. } => to >= self.from.max(self.removed + 1),
            FaultKind::Gap { .. } => true,
            FaultKind::NotALine
            | FaultKind::Changed
            | FaultKind::OutOfOrder { .. }
            | FaultKind::Beheaded
            | FaultKind::Rewritten => false,
        }
    }

    /// The first line that must be there.
    fn begin(&self, asked: RequestedRange) -> u64 {
        asked.from.max(self.removed + 1)
    }
}

/// Verifies one chain. Without keys no checkpoint is believed. `progress` is told of bytes as they are done.
pub(crate) fn verify(
    chain: &LogChain,
    keys: &[PublicKey],
    asked: RequestedRange,
    mut progress: impl FnMut(u64),
) -> io::Result<VerifyReport> {
    let mut report = VerifyReport { from: asked.from, ..VerifyReport::default() };
    let files = &chain.files[..];
    let begun = i64::try_from(clock::now().seconds()).unwrap_or(i64::MAX);
    let signed =
        if keys.is_empty() { Vec::new() } else { signed::read(&chain.checkpoints, keys, &mut report.checkpoints)? };
    let is_empty = |path: &PathBuf| std::fs::metadata(path).map_or(true, |metadata| metadata.len() == 0);
    let has_others = !(chain.files.is_empty() && chain.checkpoints.is_empty());
    report.lacks_current = chain.current.clone().filter(|current| has_others && is_empty(current));
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
    let unsigned = gather(&mut report, files, pieces.into_values());
    // Lines that came while this ran may have a checkpoint by now.
    let seconds = unsigned.map_or(0, |(from, to)| to.min(begun) - from);
    signed::conclude(&mut report, &signed, asked, seconds);
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

fn work(jobs: &Mutex<Receiver<Job>>, signed: &[Checkpoint], mut done: impl FnMut(u64, PieceFindings) -> bool) {
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
        let mut source = File::open(path).map_err(|error| naming(path, &error))?;
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
        match SealedLine::parse(&lines[start..end]) {
            Some(sealed) => return Some(sealed.link),
            None => end = start.checked_sub(1)?,
        }
    }
}

/// Gives what the lines after the last checkpoint span.
fn gather(
    report: &mut VerifyReport,
    files: &[PathBuf],
    pieces: impl Iterator<Item = PieceFindings>,
) -> Option<(i64, i64)> {
    let (mut file, mut lines_before) = (0, 0);
    let mut unsigned: Option<(i64, i64)> = None;
    for piece in pieces {
        if piece.file != file {
            (file, lines_before) = (piece.file, 0);
        }
        report.bytes += piece.bytes;
        report.lines += piece.lines;
        report.recovered += piece.recovered;
        report.removed = report.removed.max(piece.removed);
        unsigned = piece::both(unsigned, piece.unsigned);
        report.first = report.first.or(piece.first);
        report.last = piece.last.or(report.last);
        let room = MAX_FAULTS.saturating_sub(report.faults.len());
        for (line, kind) in piece.faults.into_iter().take(room) {
            let file = files.get(file).cloned().unwrap_or_default();
            report.faults.push(VerifyFault { file, line: lines_before + line, kind });
        }
        lines_before += piece.lines;
    }
    unsigned
}

#[cfg(test)]
mod tests;
