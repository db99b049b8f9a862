//! Some lines of a file, checked from the link before them.

use memchr::{memchr_iter, memmem};

use super::FaultKind;
use crate::audit::chain::{Hasher, Link, Sealed};
use crate::audit::checkpoint::Checkpoint;

/// What was found in them.
#[derive(Debug, Default)]
pub(super) struct Piece {
    pub(super) file: usize,
    pub(super) bytes: u64,
    pub(super) lines: u64,
    pub(super) first: Option<u64>,
    pub(super) last: Option<Link>,
    /// By line, from 1.
    pub(super) faults: Vec<(u64, FaultKind)>,
    pub(super) recovered: u64,
}

/// A quote in a value is escaped: nothing that a client sends can look like this.
const RECOVERED: &[u8] = b",\"gateway.event\":\"recovered\",";

/// `lines` ends with a line break. `signed` are all checkpoints, in order.
pub(super) fn check(
    lines: &[u8],
    before: Option<Link>,
    begins_file: bool,
    signed: &[Checkpoint],
    hasher: &mut Hasher,
) -> Piece {
    let recovered = memmem::find_iter(lines, RECOVERED).count() as u64;
    let mut piece = Piece { bytes: lines.len() as u64, recovered, last: before, ..Piece::default() };
    let mut signed = signed;
    let mut start = 0;
    for end in memchr_iter(b'\n', lines) {
        piece.lines += 1;
        let line = lines.get(start..end).unwrap_or_default();
        start = end + 1;
        let begins = begins_file && piece.lines == 1;
        match Sealed::parse(line) {
            None => piece.faults.push((piece.lines, FaultKind::NotALine)),
            Some(sealed) => {
                if let Some(fault) = fault(&sealed, piece.last, begins, hasher) {
                    piece.faults.push((piece.lines, fault));
                }
                if contradicts(sealed.link, &mut signed) {
                    piece.faults.push((piece.lines, FaultKind::Rewritten));
                }
                piece.first = piece.first.or(Some(sealed.link.sequence));
                piece.last = Some(sealed.link);
            }
        }
    }
    piece
}

fn fault(sealed: &Sealed<'_>, before: Option<Link>, begins_file: bool, hasher: &mut Hasher) -> Option<FaultKind> {
    let found = sealed.link.sequence;
    let Some(before) = before else {
        return match sealed.previous() {
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
