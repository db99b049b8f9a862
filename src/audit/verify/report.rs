//! The findings in a chain, and the two verdicts on it.

use std::path::PathBuf;

use super::recorded::RecordedEvent;
use crate::audit::audit_key::PublicKey;
use crate::audit::chain::Link;

/// The findings in one chain.
#[derive(Debug, Default)]
pub(crate) struct VerifyReport {
    pub(crate) lines: u64,
    pub(crate) bytes: u64,
    pub(crate) first: Option<u64>,
    pub(crate) last: Option<Link>,
    /// In the order of the files.
    pub(crate) faults: Vec<VerifyFault>,
    /// Lines that a crash tore and a start cut off, each recorded by a line that a checkpoint confirms.
    pub(crate) recovered: u64,
    /// Bytes at a file's end that are no line: a crash and no start since, or a line that is being written.
    pub(crate) torn: Option<(PathBuf, u64)>,
    /// Rotation has removed the lines up to this one, as a later line records that a checkpoint confirms.
    pub(crate) removed: u64,
    /// Lines that the gateway itself found to be missing, as later lines record that a checkpoint confirms.
    pub(crate) recorded_missing: Vec<(u64, u64)>,
    /// Events that no checkpoint confirms, although there are checkpoints: anyone who can write to the log can have
    /// appended them. Each with the number of its line. They excuse nothing.
    pub(crate) unconfirmed: Vec<(u64, RecordedEvent)>,
    pub(crate) missing: Vec<MissingLines>,
    /// The file that the gateway writes, where it is not there or empty although the log has other files.
    pub(crate) lacks_current: Option<PathBuf>,
    /// The first line that is requested.
    pub(super) from: u64,
    pub(crate) checkpoints: Signed,
}

/// The findings in the checkpoints.
#[derive(Debug, Default)]
pub(crate) struct Signed {
    pub(crate) count: u64,
    /// The last one's line, and when it was signed, in seconds since 1970.
    pub(crate) last: Option<(u64, i64)>,
    /// Lines that should be covered by a checkpoint and are not.
    pub(crate) unsigned: Vec<(u64, u64)>,
    /// Lines that their signer found at its start: lines of a run that crashed, or of another process.
    pub(crate) found: Vec<(u64, u64)>,
    /// The keys that have signed them.
    pub(crate) keys: Vec<PublicKey>,
    /// Checkpoints with a bad signature or by another key.
    pub(crate) faults: Vec<String>,
}

/// The lines that are requested.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestedRange {
    /// Those before may be gone.
    pub(crate) from: u64,
    /// `None` is up to the last line that a file or a checkpoint has.
    pub(crate) to: Option<u64>,
}

/// Lines that are in no file, before the first that is there or after the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MissingLines {
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// A checkpoint covers them.
    pub(crate) is_signed: bool,
}

/// A line that is not as it was written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct VerifyFault {
    pub(crate) file: PathBuf,
    /// From 1.
    pub(crate) line: u64,
    pub(crate) kind: FaultKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// It does not have the form of a line.
    NotALine,
    /// It, or the one before, was changed.
    Changed,
    /// Lines are missing before it.
    Gap { from: u64, to: u64 },
    /// Lines are missing before it, and it names the hash that it follows: it begins a file, or the gateway continued
    /// after a loss.
    Missing { from: u64, to: u64 },
    /// It is not the next line.
    OutOfOrder { expected: u64, found: u64 },
    /// It begins the file, and does not name the hash that it follows.
    Beheaded,
    /// A checkpoint has signed another hash for its number.
    Rewritten,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Completeness {
    Complete,
    Incomplete,
    /// No line is signed.
    Unknown,
}

impl FaultKind {
    /// Missing lines do not break integrity, if the chain continues from their hash.
    pub(crate) const fn is_about_completeness(self) -> bool {
        match self {
            Self::Missing { .. } => true,
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
            FaultKind::Missing { to, .. } => to >= self.from.max(self.removed + 1),
            FaultKind::Gap { .. } => true,
            FaultKind::NotALine
            | FaultKind::Changed
            | FaultKind::OutOfOrder { .. }
            | FaultKind::Beheaded
            | FaultKind::Rewritten => false,
        }
    }

    /// The first line that must be there.
    pub(super) fn begin(&self, requested: RequestedRange) -> u64 {
        requested.from.max(self.removed + 1)
    }
}
