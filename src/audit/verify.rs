//! Checks whether a log is as it was written. Gives two verdicts: one on the lines that are present, one on missing
//! lines.
//!
//! Integrity: every line follows from the one before and agrees with the signed checkpoints. Completeness: the chain
//! begins with line 1, or where rotation or the caller says, and holds every line that a checkpoint covers. Each line
//! is checked against the hash that the line before it states, so that all cores work in parallel. No JSON is parsed.

pub(crate) mod chains;
mod piece;
pub(crate) mod recorded;
pub(crate) mod report;
mod signed;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use chains::{LogChain, naming};
use piece::{Mark, PieceFindings, check};
use recorded::RecordedEvent;
use report::{RequestedRange, VerifyFault, VerifyReport};

use super::audit_key::PublicKey;
use super::chain::{Hasher, Link, SealedLine};
use super::checkpoint::Checkpoint;
use crate::clock;

/// Verifies one chain. Without keys no checkpoint is trusted. `progress` gets the number of bytes of each piece that is
/// done.
pub(crate) fn verify(
    chain: &LogChain,
    keys: &[PublicKey],
    requested: RequestedRange,
    mut progress: impl FnMut(u64),
) -> io::Result<VerifyReport> {
    let mut report = VerifyReport { from: requested.from, ..VerifyReport::default() };
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
        // If all workers end early, the reader must not wait for one.
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
        let torn = reader
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the reader of the log ended because of a panic")))?;
        Ok::<_, io::Error>((done, torn))
    });
    let (pieces, torn) = pieces?;
    report.torn = torn;
    let unsigned = gather(&mut report, files, !signed.is_empty(), pieces.into_values());
    // Lines that were written meanwhile may have a checkpoint by now.
    let seconds = unsigned.map_or(0, |(from, to)| to.min(begun) - from);
    signed::conclude(&mut report, &signed, requested, seconds);
    Ok(report)
}

/// Some lines of a file, whole.
struct Job {
    number: u64,
    file: usize,
    before: Option<Link>,
    lines: Vec<u8>,
}

const BLOCK: u64 = 2 * 1024 * 1024;
/// More faults are not collected.
const MAX_FAULTS: usize = 1000;

fn work(jobs: &Mutex<Receiver<Job>>, signed: &[Checkpoint], mut done: impl FnMut(u64, PieceFindings) -> bool) {
    let mut hasher = Hasher::default();
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        let mut piece = check(&job.lines, job.before, signed, &mut hasher);
        piece.file = job.file;
        if !done(job.number, piece) {
            return;
        }
    }
}

/// Cuts files into pieces of whole lines, each with the link before it. Returns a last line that is not whole.
fn cut_all(files: &[PathBuf], jobs: &SyncSender<Job>) -> io::Result<Option<(PathBuf, u64)>> {
    let (mut before, mut number, mut torn) = (None, 0, None);
    for (file, path) in files.iter().enumerate() {
        let mut source = File::open(path).map_err(|error| naming(path, &error))?;
        let mut rest = Vec::new();
        loop {
            let mut lines = rest;
            let read = source.by_ref().take(BLOCK).read_to_end(&mut lines)?;
            let whole = memchr::memrchr(b'\n', &lines).map_or(0, |at| at + 1);
            rest = lines.split_off(whole);
            if whole > 0 {
                let after = last_link(&lines).or(before);
                let job = Job { number, file, before, lines };
                if jobs.send(job).is_err() {
                    return Ok(torn);
                }
                (before, number) = (after, number + 1);
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

/// The link that the last line states.
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

/// Returns the time span of the lines after the last checkpoint.
fn gather(
    report: &mut VerifyReport,
    files: &[PathBuf],
    is_signed: bool,
    pieces: impl Iterator<Item = PieceFindings>,
) -> Option<(i64, i64)> {
    let (mut file, mut lines_before) = (0, 0);
    let mut recorded = RecordedEvents { is_signed, ..RecordedEvents::default() };
    let mut unsigned: Option<(i64, i64)> = None;
    for piece in pieces {
        if piece.file != file {
            (file, lines_before) = (piece.file, 0);
        }
        report.bytes += piece.bytes;
        report.lines += piece.lines;
        piece.marks.into_iter().for_each(|mark| recorded.add(mark, report));
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
    recorded.end(report);
    unsigned
}

/// Separates events that a checkpoint confirms from those that any process with access to the file can have appended.
#[derive(Default)]
struct RecordedEvents {
    /// Without checkpoints, every event counts.
    is_signed: bool,
    /// Events after the last checkpoint so far.
    open: Vec<(u64, RecordedEvent)>,
}

impl RecordedEvents {
    fn add(&mut self, mark: Mark, report: &mut VerifyReport) {
        match mark {
            Mark::Stated(line, event) => self.open.push((line, event)),
            Mark::Confirmed { from } => self.close(report, |line| line >= from),
            Mark::Broken => self.close(report, |_| false),
        }
    }

    /// Decides on the events so far.
    fn close(&mut self, report: &mut VerifyReport, is_confirmed: impl Fn(u64) -> bool) {
        for (line, event) in self.open.drain(..) {
            let counts = event.is_possible_at(line) && (!self.is_signed || is_confirmed(line));
            match event {
                _ if !counts => push_limited(&mut report.unconfirmed, (line, event)),
                RecordedEvent::Recovered => report.recovered += 1,
                RecordedEvent::Removed { up_to } => report.removed = report.removed.max(up_to),
                RecordedEvent::Missing { from, up_to } => push_limited(&mut report.recorded_missing, (from, up_to)),
            }
        }
    }

    fn end(mut self, report: &mut VerifyReport) {
        self.close(report, |_| false);
        // A crash before its checkpoint leaves such a line; the next start removes the file and records that again.
        let removed = report.removed;
        report.unconfirmed.retain(|(_, event)| match event {
            RecordedEvent::Removed { up_to } => *up_to > removed,
            RecordedEvent::Recovered | RecordedEvent::Missing { .. } => true,
        });
    }
}

fn push_limited<T>(list: &mut Vec<T>, item: T) {
    if list.len() < MAX_FAULTS {
        list.push(item);
    }
}

#[cfg(test)]
mod tests;
