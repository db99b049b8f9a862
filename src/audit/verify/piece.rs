//! Checks some lines of a file, from the link before them.

use memchr::memchr_iter;

use super::recorded::{RecordedEvent, events, number_after, text_after};
use super::report::FaultKind;
use crate::audit::chain::{Hasher, LineHash, Link, SealedLine};
use crate::audit::checkpoint::Checkpoint;

/// The findings in some lines.
#[derive(Debug, Default)]
pub(super) struct PieceFindings {
    pub(super) file: usize,
    pub(super) bytes: u64,
    pub(super) lines: u64,
    pub(super) first: Option<u64>,
    pub(super) last: Option<Link>,
    /// By line, from 1.
    pub(super) faults: Vec<(u64, FaultKind)>,
    /// In the order of the lines.
    pub(super) marks: Vec<Mark>,
    /// From when to when the lines after the last checkpoint were written, in seconds since 1970.
    pub(super) unsigned: Option<(i64, i64)>,
}

/// Marks that decide whether a checkpoint confirms the events that lines state.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mark {
    /// The line with this number states this event.
    Stated(u64, RecordedEvent),
    /// A checkpoint of this place agrees with the chain: its signer wrote the lines from this one on.
    Confirmed { from: u64 },
    /// The chain is broken here: no later checkpoint confirms a line before.
    Broken,
}

const TIME: &[u8] = b",\"time\":\"";
const DURATION: &[u8] = b",\"duration_us\":";

/// `lines` ends with a line break. `signed` are all checkpoints, in order.
pub(super) fn check(lines: &[u8], before: Option<Link>, signed: &[Checkpoint], hasher: &mut Hasher) -> PieceFindings {
    let mut piece = PieceFindings { bytes: lines.len() as u64, last: before, ..PieceFindings::default() };
    // Without a checkpoint no time is read.
    let last_signed = signed.last().map_or(u64::MAX, |checkpoint| checkpoint.link.sequence);
    let mut signed = signed;
    let mut events = events(lines).peekable();
    let mut start = 0;
    for end in memchr_iter(b'\n', lines) {
        piece.lines += 1;
        let line = lines.get(start..end).unwrap_or_default();
        start = end + 1;
        match SealedLine::parse(line) {
            None => {
                while events.next_if(|(at, _)| *at < end).is_some() {}
                piece.faults.push((piece.lines, FaultKind::NotALine));
                piece.marks.push(Mark::Broken);
            }
            Some(sealed) => {
                let fault = fault(&sealed, piece.last, hasher);
                if let Some(fault) = fault {
                    piece.faults.push((piece.lines, fault));
                    piece.marks.push(Mark::Broken);
                }
                while let Some((_, event)) = events.next_if(|(at, _)| *at < end) {
                    piece.marks.push(Mark::Stated(sealed.link.sequence, event));
                }
                if fault.is_some_and(|fault| !fault.is_about_completeness()) {
                    piece.marks.push(Mark::Broken);
                }
                match compare(sealed.link, &mut signed) {
                    None => {}
                    Some(CheckpointVerdict::Agrees { from }) => piece.marks.push(Mark::Confirmed { from }),
                    Some(CheckpointVerdict::Contradicts) => {
                        piece.faults.push((piece.lines, FaultKind::Rewritten));
                        piece.marks.push(Mark::Broken);
                    }
                }
                if sealed.link.sequence > last_signed {
                    piece.unsigned = both(piece.unsigned, written(line).map(|time| (time, time)));
                }
                piece.first = piece.first.or(Some(sealed.link.sequence));
                piece.last = Some(sealed.link);
            }
        }
    }
    piece
}

fn fault(sealed: &SealedLine<'_>, before: Option<Link>, hasher: &mut Hasher) -> Option<FaultKind> {
    let found = sealed.link.sequence;
    let Some(before) = before else {
        return match sealed.previous() {
            Some(named) if found == 1 && named != LineHash::GENESIS => Some(FaultKind::Changed),
            Some(named) if sealed.follows(&named, hasher) => None,
            Some(_) => Some(FaultKind::Changed),
            None => Some(FaultKind::Beheaded),
        };
    };
    let expected = before.sequence + 1;
    if found == expected {
        return (!sealed.follows(&before.head, hasher)).then_some(FaultKind::Changed);
    }
    if found < expected {
        return Some(FaultKind::OutOfOrder { expected, found });
    }
    let (from, to) = (expected, found - 1);
    match sealed.previous() {
        Some(named) if sealed.follows(&named, hasher) => Some(FaultKind::Missing { from, to }),
        Some(_) => Some(FaultKind::Changed),
        None => Some(FaultKind::Gap { from, to }),
    }
}

/// The statement of checkpoints about a line.
enum CheckpointVerdict {
    /// The signer wrote the lines from this one on.
    Agrees { from: u64 },
    /// One has another hash.
    Contradicts,
}

/// `None` if no checkpoint is of this line. Skips the checkpoints of earlier lines.
fn compare(link: Link, signed: &mut &[Checkpoint]) -> Option<CheckpointVerdict> {
    // Most lines have none: one comparison.
    if signed.first().is_none_or(|next| next.link.sequence > link.sequence) {
        return None;
    }
    let earlier = signed.partition_point(|checkpoint| checkpoint.link.sequence < link.sequence);
    *signed = signed.get(earlier..).unwrap_or_default();
    let of_this = || signed.iter().take_while(|checkpoint| checkpoint.link.sequence == link.sequence);
    if of_this().any(|checkpoint| checkpoint.link.head != link.head) {
        return Some(CheckpointVerdict::Contradicts);
    }
    of_this().map(Checkpoint::first_own_line).min().map(|from| CheckpointVerdict::Agrees { from })
}

/// When a line was written: its request's time and duration.
fn written(line: &[u8]) -> Option<i64> {
    let time = std::str::from_utf8(text_after(line, TIME)?).ok()?.parse::<jiff::Timestamp>().ok()?;
    let microseconds = number_after(line, DURATION).unwrap_or(0);
    Some(time.as_second().saturating_add((microseconds / 1_000_000).cast_signed()))
}

/// The span of both.
pub(super) fn both(one: Option<(i64, i64)>, two: Option<(i64, i64)>) -> Option<(i64, i64)> {
    match (one, two) {
        (Some((from, to)), Some((other_from, other_to))) => Some((from.min(other_from), to.max(other_to))),
        (one, two) => one.or(two),
    }
}
