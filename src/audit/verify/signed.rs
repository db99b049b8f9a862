//! What the checkpoints of a chain say, and what is missing by them.

use std::io;
use std::path::PathBuf;

use super::chains::naming;
use super::{MissingLines, VerifyReport};
use crate::audit::audit_key::PublicKey;
use crate::audit::checkpoint::{self, Checkpoint, Read};

/// What the checkpoints say.
#[derive(Debug, Default)]
pub(crate) struct Signed {
    pub(crate) count: u64,
    /// The last one's line, and when it was signed, in seconds since 1970.
    pub(crate) last: Option<(u64, i64)>,
    /// Lines that no checkpoint covers and that one should.
    pub(crate) unsigned: Vec<(u64, u64)>,
    /// What is no checkpoint of these keys.
    pub(crate) faults: Vec<String>,
}

/// The lines that are asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestedRange {
    /// Those before may be gone.
    pub(crate) from: u64,
    /// `None` is up to the last line that is known of.
    pub(crate) to: Option<u64>,
}

/// Unsigned lines at the end may span so long: the writer signs every 10 s.
const UNSIGNED_SECONDS: i64 = 60;

/// All checkpoints in these files, in the order of their lines.
pub(super) fn read(paths: &[PathBuf], keys: &[PublicKey], found: &mut Signed) -> io::Result<Vec<Checkpoint>> {
    let mut signed = Vec::new();
    for path in paths {
        let text = match std::fs::read(path) {
            Ok(text) => String::from_utf8_lossy(&text).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(naming(path, &error)),
        };
        for (line, number) in text.lines().zip(1u64..) {
            let fault = |what: &str| format!("{}:{number}: {what}", path.display());
            match checkpoint::read(line, keys) {
                Read::Signed(checkpoint, time) => {
                    if found.last.is_none_or(|(last, _)| checkpoint.link.sequence >= last) {
                        found.last = Some((checkpoint.link.sequence, time));
                    }
                    signed.push(checkpoint);
                }
                Read::OtherKey(other) => found.faults.push(fault(&format!("signed by another key, {other}"))),
                Read::Forged => found.faults.push(fault("the signature does not hold")),
                // A crash can tear a checkpoint. If it was not one, its lines are covered by none.
                Read::Garbage => {}
            }
        }
    }
    found.count = signed.len() as u64;
    signed.sort_by_key(|checkpoint| checkpoint.link.sequence);
    Ok(signed)
}

/// What is not there although it should be. `unsigned_seconds` is what the lines after the last checkpoint span.
pub(super) fn conclude(report: &mut VerifyReport, signed: &[Checkpoint], asked: RequestedRange, unsigned_seconds: i64) {
    let begin = report.begin(asked);
    let last = report.last.map_or(0, |link| link.sequence);
    let known = signed.last().map_or(0, |checkpoint| checkpoint.link.sequence);
    let end = asked.to.unwrap_or(known.max(last));
    let is_signed = |from, to| signed.iter().any(|one| one.link.sequence >= from && first_of(one) <= to);
    let mut miss = |from: u64, to: u64| {
        if from <= to {
            report.missing.push(MissingLines { from, to, is_signed: is_signed(from, to) });
        }
    };
    match report.first {
        Some(first) => {
            miss(begin, (first - 1).min(end));
            miss(begin.max(last + 1), end);
        }
        None => miss(begin, end),
    }
    let Some(first) = report.first.filter(|_| !signed.is_empty()) else { return };
    let mut ranges: Vec<_> = signed.iter().map(|one| (first_of(one), one.link.sequence)).collect();
    ranges.sort_unstable();
    let mut covered = begin.max(first) - 1;
    let unsigned = &mut report.checkpoints.unsigned;
    for (from, to) in ranges {
        if from > covered + 1 && covered < end {
            unsigned.push((covered + 1, (from - 1).min(end)));
        }
        covered = covered.max(to);
    }
    if covered < last.min(end) && unsigned_seconds > UNSIGNED_SECONDS {
        unsigned.push((covered + 1, last.min(end)));
    }
}

fn first_of(checkpoint: &Checkpoint) -> u64 {
    checkpoint.link.sequence.saturating_sub(checkpoint.count) + 1
}
