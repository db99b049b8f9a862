//! The open file: locked, and checked for changes by other processes before every write.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::log_paths::folder;
use crate::durable_file::sync_folder;

#[derive(Debug)]
pub(super) struct LogFile {
    /// Shared with the thread that flushes it.
    file: Arc<File>,
    path: PathBuf,
    /// Device and inode. The number is not given to another file while this one is open.
    identity: (u64, u64),
    /// After our last write; `None` for a device, which has no length.
    length: Option<u64>,
}

/// The condition of the file, which other processes may have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Sound,
    /// The path leads to another file, or nowhere.
    Moved,
    /// Longer or shorter than we left it.
    Altered {
        expected: u64,
        found: u64,
    },
    /// Its mode denies its owner writing.
    Closed {
        mode: u32,
    },
}

impl LogFile {
    /// Makes the file, and its folder, where there is none.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let folder = folder(path);
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        refuse_pipes(path)?;
        let is_new = !path.exists();
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_file() {
            lock(&file)?;
            if is_new {
                // A file whose name is lost in a power failure is lost.
                sync_folder(folder)?;
            }
        }
        let length = metadata.is_file().then_some(file.metadata()?.len());
        Ok(Self { file: Arc::new(file), path: path.to_owned(), identity: (metadata.dev(), metadata.ino()), length })
    }

    /// Opens the file that the path leads to now. This one's lock is released first, as it may be the same file.
    pub(super) fn reopen(&self) -> io::Result<Self> {
        let _ = self.file.unlock();
        Self::open(&self.path)
    }

    pub(super) fn condition(&self) -> Condition {
        let Ok(there) = fs::metadata(&self.path) else { return Condition::Moved };
        let Some(expected) = self.length.filter(|_| (there.dev(), there.ino()) == self.identity) else {
            let same = (there.dev(), there.ino()) == self.identity;
            return if same { Condition::Sound } else { Condition::Moved };
        };
        match (there.len(), there.mode()) {
            (_, mode) if mode & 0o200 == 0 => Condition::Closed { mode: mode & 0o777 },
            (found, _) if found != expected => Condition::Altered { expected, found },
            _ => Condition::Sound,
        }
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.identity == other.identity
    }

    /// The file was deleted: its lines are lost once it is closed.
    pub(super) fn is_deleted(&self) -> bool {
        self.file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.nlink() == 0)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// `None` for a device.
    pub(super) fn length(&self) -> Option<u64> {
        self.length
    }

    /// Takes the length that another process has given it.
    pub(super) fn accept(&mut self, length: u64) {
        self.length = self.length.map(|_| length);
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = (&*self.file).write(bytes)?;
        self.length = self.length.map(|length| length + written as u64);
        Ok(written)
    }

    /// Cuts off the end.
    pub(super) fn cut_to(&mut self, length: u64) -> io::Result<()> {
        if self.length.is_some() {
            self.file.set_len(length)?;
            self.length = Some(length);
        }
        Ok(())
    }

    /// The file, to be flushed by another thread. `None` for a device.
    pub(super) fn to_flush(&self) -> Option<Arc<File>> {
        self.length.map(|_| Arc::clone(&self.file))
    }

    /// Devices have nothing to flush to.
    pub(super) fn sync(&self) -> io::Result<()> {
        if self.length.is_some() { self.file.sync_data() } else { Ok(()) }
    }
}

fn lock(file: &File) -> io::Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            Err(io::Error::new(io::ErrorKind::ResourceBusy, "another process writes to it"))
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Opening a pipe waits for its reader, which may never come.
pub(super) fn refuse_pipes(path: &Path) -> io::Result<()> {
    match fs::metadata(path).map(|metadata| metadata.file_type()) {
        Ok(kind) if kind.is_fifo() || kind.is_socket() => Err(io::Error::other("it is a pipe or socket, not a file")),
        Ok(_) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn open(name: &str) -> (PathBuf, LogFile) {
        let folder = std::env::temp_dir().join(format!("portcullis-log-file-{}-{name}", std::process::id()));
        let mut file = LogFile::open(&folder.join("deep/audit.jsonl")).unwrap();
        assert_eq!(file.write(b"line\n").unwrap(), 5);
        (folder, file)
    }

    #[test]
    fn a_new_file_is_sound_and_readable_by_its_owner_only() {
        let (folder, file) = open("sound");
        assert_eq!((file.condition(), file.length()), (Condition::Sound, Some(5)));
        assert_eq!(fs::metadata(file.path()).unwrap().mode() & 0o777, 0o600);
        assert!(LogFile::open(file.path()).is_err(), "another writer");
        assert!(file.reopen().unwrap().is_same(&file));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn changes_by_other_processes_are_seen() {
        let (folder, mut file) = open("others");
        let path = file.path().to_owned();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
        assert_eq!(file.condition(), Condition::Closed { mode: 0 });
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        OpenOptions::new().write(true).open(&path).unwrap().set_len(2).unwrap();
        assert_eq!(file.condition(), Condition::Altered { expected: 5, found: 2 });
        file.accept(2);
        assert_eq!(file.condition(), Condition::Sound);
        fs::rename(&path, folder.join("aside")).unwrap();
        assert_eq!(file.condition(), Condition::Moved);
        fs::write(&path, "line\n").unwrap();
        assert_eq!(file.condition(), Condition::Moved);
        assert!(!file.reopen().unwrap().is_same(&file));
        fs::remove_dir_all(folder).unwrap();
    }
}
