//! Checks some lines of a file, from the link before them.

use memchr::memchr_iter;

use super::recorded::{self, number_after, text_after};
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
    pub(super) recovered: u64,
    /// The last line that rotation has removed, as these lines record.
    pub(super) removed: u64,
    /// Lines that the gateway found to be missing, as these lines record.
    pub(super) recorded_missing: Vec<(u64, u64)>,
    /// From when to when the lines after the last checkpoint were written, in seconds since 1970.
    pub(super) unsigned: Option<(i64, i64)>,
}

const TIME: &[u8] = b",\"time\":\"";
const DURATION: &[u8] = b",\"duration_us\":";

/// `lines` ends with a line break. `signed` are all checkpoints, in order.
pub(super) fn check(lines: &[u8], before: Option<Link>, signed: &[Checkpoint], hasher: &mut Hasher) -> PieceFindings {
    let mut piece = PieceFindings {
        bytes: lines.len() as u64,
        recovered: recorded::recovered(lines),
        removed: recorded::removed_up_to(lines),
        recorded_missing: recorded::missing(lines).collect(),
        last: before,
        ..PieceFindings::default()
    };
    // Without a checkpoint no time is read.
    let last_signed = signed.last().map_or(u64::MAX, |checkpoint| checkpoint.link.sequence);
    let mut signed = signed;
    let mut start = 0;
    for end in memchr_iter(b'\n', lines) {
        piece.lines += 1;
        let line = lines.get(start..end).unwrap_or_default();
        start = end + 1;
        match SealedLine::parse(line) {
            None => piece.faults.push((piece.lines, FaultKind::NotALine)),
            Some(sealed) => {
                if let Some(fault) = fault(&sealed, piece.last, hasher) {
                    piece.faults.push((piece.lines, fault));
                }
                if contradicts(sealed.link, &mut signed) {
                    piece.faults.push((piece.lines, FaultKind::Rewritten));
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

/// Whether a checkpoint of this line has another hash. Skips the checkpoints of earlier lines.
fn contradicts(link: Link, signed: &mut &[Checkpoint]) -> bool {
    // Most lines have none: one comparison.
    if signed.first().is_none_or(|next| next.link.sequence > link.sequence) {
        return false;
    }
    let earlier = signed.partition_point(|checkpoint| checkpoint.link.sequence < link.sequence);
    *signed = signed.get(earlier..).unwrap_or_default();
    let of_this = signed.iter().take_while(|checkpoint| checkpoint.link.sequence == link.sequence);
    of_this.into_iter().any(|checkpoint| checkpoint.link.head != link.head)
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
