//! Some lines of a file, checked from the link before them.

use memchr::{memchr_iter, memmem};

use super::FaultKind;
use crate::audit::chain::{Hasher, LineHash, Link, SealedLine};
use crate::audit::checkpoint::Checkpoint;
use crate::audit::rotation;

/// What was found in them.
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
    /// The last line that rotation has removed, by lines that say so.
    pub(super) removed: u64,
    /// From when to when the lines after the last checkpoint were written, in seconds since 1970.
    pub(super) unsigned: Option<(i64, i64)>,
}

/// A quote in a value is escaped: nothing that a client sends can look like this.
const RECOVERED: &[u8] = b",\"gateway.event\":\"recovered\",";
const REMOVED: &[u8] = b",\"gateway.event\":\"removed\",";
const FILE: &[u8] = b",\"gateway.file\":\"";
const TIME: &[u8] = b",\"time\":\"";
const DURATION: &[u8] = b",\"duration_us\":";

/// `lines` ends with a line break. `signed` are all checkpoints, in order.
pub(super) fn check(
    lines: &[u8],
    before: Option<Link>,
    begins_file: bool,
    signed: &[Checkpoint],
    hasher: &mut Hasher,
) -> PieceFindings {
    let recovered = memmem::find_iter(lines, RECOVERED).count() as u64;
    let removed = memmem::find_iter(lines, REMOVED).filter_map(|at| removed(lines.get(at..)?)).max().unwrap_or(0);
    let mut piece =
        PieceFindings { bytes: lines.len() as u64, recovered, removed, last: before, ..PieceFindings::default() };
    // Where nothing is signed, no time is asked for.
    let last_signed = signed.last().map_or(u64::MAX, |checkpoint| checkpoint.link.sequence);
    let mut signed = signed;
    let mut start = 0;
    for end in memchr_iter(b'\n', lines) {
        piece.lines += 1;
        let line = lines.get(start..end).unwrap_or_default();
        start = end + 1;
        let begins = begins_file && piece.lines == 1;
        match SealedLine::parse(line) {
            None => piece.faults.push((piece.lines, FaultKind::NotALine)),
            Some(sealed) => {
                if let Some(fault) = fault(&sealed, piece.last, begins, hasher) {
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

fn fault(sealed: &SealedLine<'_>, before: Option<Link>, begins_file: bool, hasher: &mut Hasher) -> Option<FaultKind> {
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
    match sealed.previous().filter(|_| begins_file) {
        Some(named) if sealed.follows(&named, hasher) => Some(FaultKind::FilesMissing { from, to }),
        Some(_) => Some(FaultKind::Changed),
        None => Some(FaultKind::Gap { from, to }),
    }
}

/// Whether a checkpoint of this line has another hash. Passes by the checkpoints of earlier lines.
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

/// The last line of the file that was removed. Rotation removes the oldest first, so that all lines before it are gone too.
fn removed(rest: &[u8]) -> Option<u64> {
    let line = rest.get(..memchr::memchr(b'\n', rest)?)?;
    let name = std::str::from_utf8(text_after(line, FILE)?).ok()?;
    Some(rotation::numbers(name.rsplit_once('.')?.1)?.1)
}

/// When a line was written: its request's time and duration.
fn written(line: &[u8]) -> Option<i64> {
    let time = std::str::from_utf8(text_after(line, TIME)?).ok()?.parse::<jiff::Timestamp>().ok()?;
    let microseconds = memmem::find(line, DURATION).and_then(|at| {
        let digits = line.get(at + DURATION.len()..)?;
        let end = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
        std::str::from_utf8(digits.get(..end)?).ok()?.parse::<i64>().ok()
    });
    Some(time.as_second().saturating_add(microseconds.unwrap_or(0) / 1_000_000))
}

fn text_after<'l>(line: &'l [u8], name: &[u8]) -> Option<&'l [u8]> {
    let rest = line.get(memmem::find(line, name)? + name.len()..)?;
    rest.get(..memchr::memchr(b'"', rest)?)
}

/// The span of both.
pub(super) fn both(one: Option<(i64, i64)>, two: Option<(i64, i64)>) -> Option<(i64, i64)> {
    match (one, two) {
        (Some((from, to)), Some((other_from, other_to))) => Some((from.min(other_from), to.max(other_to))),
        (one, two) => one.or(two),
    }
}
