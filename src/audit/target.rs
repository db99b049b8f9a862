//! Where the audit log goes, and what may be wrong with that place.
//!
//! Judges without writing, so that `check` can say what the start would.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::audit_key::AuditKeyError;
use super::log_file::refuse_pipes;
use crate::telemetry::error_chain::reason;

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AuditTarget {
    Stdout,
    File(PathBuf),
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// The cause is told here, so that the way out stands last.
    #[error("cannot open the audit log `{path}`: {}; {}", reason(error), way_out(error))]
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
    /// Says what [`Writer::open`](super::writer::Writer::open) would, as far as can be told without writing.
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
        let metadata = fs::metadata(folder).map_err(failed)?;
        match (metadata.is_dir(), metadata.permissions().readonly()) {
            (true, false) => Ok(()),
            (true, true) => Err(failed(io::ErrorKind::PermissionDenied.into())),
            (false, _) => Err(failed(io::ErrorKind::NotADirectory.into())),
        }
    }
}

fn way_out(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::PermissionDenied {
        "run as its owner or set `audit.file`"
    } else {
        "set `audit.file` to another path"
    }
}
