//! A file of the state directory to which several processes append, one at a time.
//!
//! A writer holds the lock of the file. The file may be replaced as a whole by a process that holds its lock.

use std::fs::{self, File, Metadata, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::clock;
use crate::durable_file::{create_new, make_folder, open_to_append, sync_folder};
use crate::file_privacy::{self, TooOpen};

/// The place of the file.
#[derive(Clone, Debug)]
pub(super) struct SharedFile {
    directory: PathBuf,
    path: PathBuf,
}

/// The identity of an open file: device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileId(u64, u64);

#[derive(Debug, thiserror::Error)]
pub(crate) enum SharedFileError {
    #[error("cannot {action} `{path}`")]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`{path}` is accessible to others (mode {:o}); {}", fault.mode, fault.remedy)]
    Mode { path: PathBuf, fault: TooOpen },
}

/// Whether a missing file is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    Make,
    /// The file was there before and is gone, with what it knew: a new file would hide that.
    Fail,
}

pub(super) const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;
/// A lock is held only while the disk is written.
const LOCK_TIMEOUT: Duration = Duration::from_secs(3);
const LOCK_RETRY: Duration = Duration::from_millis(5);

impl SharedFile {
    pub(super) fn new(directory: &Path, name: &str) -> Self {
        Self { directory: directory.to_owned(), path: directory.join(name) }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Checks the modes of folder and file. A missing folder or file is no fault.
    pub(super) fn check(&self) -> Result<(), SharedFileError> {
        match fs::metadata(&self.directory) {
            Ok(metadata) if !metadata.is_dir() => {
                return Err(failed("use", &self.directory)(io::ErrorKind::NotADirectory.into()));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed("read", &self.directory)(error)),
        }
        // Other users may read the folder, but write access would let them replace the file.
        let folder = file_privacy::check_folder(&self.directory, 0o022).map_err(failed("read", &self.directory))?;
        folder.map_err(|fault| SharedFileError::Mode { path: self.directory.clone(), fault })?;
        match file_privacy::check_file(&self.path) {
            Ok(checked) => checked.map_err(|fault| SharedFileError::Mode { path: self.path.clone(), fault }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(self.failed("read")(error)),
        }
    }

    /// Opens and locks the file. The lock is held until the result is dropped.
    pub(super) fn locked(&self, missing: Missing) -> Result<File, SharedFileError> {
        let deadline = clock::instant() + LOCK_TIMEOUT;
        loop {
            let file = self.opened(missing)?;
            match file.try_lock() {
                Ok(()) => {
                    let mine = FileId::of(&file.metadata().map_err(self.failed("read"))?);
                    // Another process may have replaced the file in between.
                    if fs::metadata(&self.path).is_ok_and(|named| FileId::of(&named) == mine) {
                        return Ok(file);
                    }
                }
                Err(TryLockError::WouldBlock) => thread::park_timeout(LOCK_RETRY),
                Err(TryLockError::Error(error)) => return Err(self.failed("lock")(error)),
            }
            if clock::instant() >= deadline {
                return Err(self.failed("lock")(io::ErrorKind::TimedOut.into()));
            }
        }
    }

    fn opened(&self, missing: Missing) -> Result<File, SharedFileError> {
        match open_to_append(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && missing == Missing::Make => {}
            opened => return opened.map_err(self.failed("write")),
        }
        make_folder(&self.directory, DIRECTORY_MODE).map_err(failed("create", &self.directory))?;
        let file = match create_new(&self.path, FILE_MODE) {
            // Another process was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => open_to_append(&self.path),
            made => made,
        };
        let file = file.map_err(self.failed("create"))?;
        sync_folder(&self.directory).map_err(failed("flush", &self.directory))?;
        Ok(file)
    }

    pub(super) fn failed(&self, action: &'static str) -> impl FnOnce(io::Error) -> SharedFileError + use<> {
        failed(action, &self.path)
    }
}

impl FileId {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self(metadata.dev(), metadata.ino())
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SharedFileError + use<> {
    let path = path.to_owned();
    move |source| SharedFileError::Io { action, path, source }
}
