//! Reads the checkpoints of a chain, and finds the lines that are missing according to them.

use std::io;
use std::path::PathBuf;

use super::chains::naming;
use super::report::{MissingLines, RequestedRange, Signed, VerifyReport};
use crate::audit::audit_key::PublicKey;
use crate::audit::checkpoint::{self, Checkpoint, Read};

/// The longest time span of unsigned lines at the end. The writer signs every 10 s.
const UNSIGNED_SECONDS: i64 = 60;

/// All checkpoints in these files, in the order of their lines.
pub(super) fn read(paths: &[PathBuf], keys: &[PublicKey], found: &mut Signed) -> io::Result<Vec<Checkpoint>> {
    let mut signed = Vec::new();
    let mut by_others: Vec<(PublicKey, u64)> = Vec::new();
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
                    if !found.keys.contains(&checkpoint.key) {
                        found.keys.push(checkpoint.key);
                    }
                    if checkpoint.found > 0 {
                        found.found.push((checkpoint.first_line(), checkpoint.first_own_line() - 1));
                    }
                    signed.push(checkpoint);
                }
                Read::OtherKey(other) => match by_others.iter_mut().find(|(key, _)| *key == other) {
                    Some((_, count)) => *count += 1,
                    None => by_others.push((other, 1)),
                },
                Read::Forged => found.faults.push(fault("the signature does not hold")),
                // A crash can tear a checkpoint. Lines that only such a line would cover are reported as unsigned.
                Read::Garbage => {}
            }
        }
    }
    found.faults.extend(by_others.into_iter().map(|(key, count)| {
        let are = if count == 1 { "checkpoint is" } else { "checkpoints are" };
        format!(
            "{count} {are} signed by another key, {key}: if it is the key of one of your instances, add it with --key"
        )
    }));
    found.count = signed.len() as u64;
    signed.sort_by_key(|checkpoint| checkpoint.link.sequence);
    Ok(signed)
}

/// Finds lines that should be there and are not. `unsigned_seconds` is the time span of the lines after the last
/// checkpoint.
pub(super) fn conclude(
    report: &mut VerifyReport,
    signed: &[Checkpoint],
    requested: RequestedRange,
    unsigned_seconds: i64,
) {
    let begin = report.begin(requested);
    let last = report.last.map_or(0, |link| link.sequence);
    let known = signed.last().map_or(0, |checkpoint| checkpoint.link.sequence);
    let end = requested.to.unwrap_or(known.max(last));
    let is_signed = |from, to| signed.iter().any(|one| one.link.sequence >= from && one.first_line() <= to);
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
    let mut ranges: Vec<_> = signed.iter().map(|one| (one.first_line(), one.link.sequence)).collect();
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
