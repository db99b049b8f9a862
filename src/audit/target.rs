//! The target of the audit log, and the reasons why it may not be usable.
//!
//! Checks without writing, so that `check` reports the errors of a start.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::audit_key::AuditKeyError;
use super::log_file::refuse_pipes;
use crate::telemetry::error_chain::reason;

/// The target of the lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AuditTarget {
    Stdout,
    File(PathBuf),
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// The cause is part of the text, so that the advice comes last.
    #[error("cannot open the audit log `{path}`: {}; {}", reason(error), advice(error))]
    Log { path: PathBuf, error: io::Error },
    #[error("the key that signs the audit log's checkpoints can't be used")]
    Key(#[from] AuditKeyError),
}

impl fmt::Display for AuditTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("standard output"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

impl AuditTarget {
    /// The file that the log is in, if it is in one.
    pub(crate) fn file(&self) -> Option<&Path> {
        match self {
            Self::Stdout => None,
            Self::File(path) => Some(path),
        }
    }

    /// Returns the error of [`AuditWriter::open`](super::writer::AuditWriter::open), as far as it can be found without
    /// writing.
    pub(crate) fn check(&self) -> Result<(), OpenError> {
        let Self::File(path) = self else {
            return Ok(());
        };
        let failed = |error| OpenError::Log { path: path.clone(), error };
        refuse_pipes(path).map_err(failed)?;
        if path.exists() {
            return OpenOptions::new().append(true).open(path).map(drop).map_err(failed);
        }
        let folder = path.ancestors().skip(1).find(|folder| folder.as_os_str().is_empty() || folder.exists());
        let folder = folder.filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let is_folder = fs::metadata(folder).map_err(failed)?.is_dir();
        if is_folder { Ok(()) } else { Err(failed(io::ErrorKind::NotADirectory.into())) }
    }
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "run as its owner or set `audit.file`",
        io::ErrorKind::ReadOnlyFilesystem => {
            "set `audit.file` to a path on a volume that can be written, or to `-` for standard output"
        }
        io::ErrorKind::ResourceBusy => {
            "a previous gateway may still run or drain: wait until it has stopped, or set `audit.file` to another path for \
             another instance"
        }
        _ => "set `audit.file` to another path",
    }
}
