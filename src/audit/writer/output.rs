//! The sinks that the writer stores sealed lines in.
//!
//! A further sink is a variant of [`Output`] and one of [`AuditTarget`](crate::audit::target::AuditTarget); sealing,
//! retrying and checkpoints do not depend on the kind of sink.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;

use crate::audit::log_file::{Condition, LogFile};

pub(super) enum Output {
    /// Without the standard library's buffer, which does not report how much of it was written.
    Stdout(File),
    File(LogFile),
}

impl Output {
    pub(super) fn stdout() -> io::Result<Self> {
        io::stdout().as_fd().try_clone_to_owned().map(|stdout| Self::Stdout(stdout.into()))
    }

    /// Returns how many bytes were written, which may be fewer than all.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(stdout) => stdout.write(bytes),
            Self::File(file) => file.write(bytes),
        }
    }

    /// Flushes to the disk, where there is one.
    pub(super) fn sync(&self) -> io::Result<()> {
        match self {
            Self::Stdout(_) => Ok(()),
            Self::File(file) => file.sync(),
        }
    }

    /// Whether the written lines can be found where the configuration says. False for a file that was moved or altered.
    pub(super) fn is_in_place(&self) -> bool {
        match self {
            Self::Stdout(_) => true,
            Self::File(file) => file.condition() == Condition::Sound,
        }
    }

    /// The file, which can be rotated and reopened.
    pub(super) fn file(&self) -> Option<&LogFile> {
        match self {
            Self::Stdout(_) => None,
            Self::File(file) => Some(file),
        }
    }

    pub(super) fn file_mut(&mut self) -> Option<&mut LogFile> {
        match self {
            Self::Stdout(_) => None,
            Self::File(file) => Some(file),
        }
    }
}
