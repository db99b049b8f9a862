//! The revocations on disk: a file with one line for each, to which several gateways and the command line may append.
//!
//! A writer holds the lock of the file, and a line is valid once it is flushed. A reader takes no lock: it continues
//! where it stopped, up to the last whole line. It starts again from the beginning when the file was replaced, which
//! compaction does. A line that a crash has torn was never confirmed to a client: it is skipped. A whole line that
//! cannot be parsed is an error.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::revocation::{MAX_ENTRIES, RevocationEntry, RevocationTarget};
use crate::clock::{self, UnixTime};
use crate::durable_file::{Replacement, create_new, make_folder, open_to_append, sync_folder};
use crate::file_privacy::{self, TooOpen};

/// A reader and writer of the file.
#[derive(Debug)]
pub(crate) struct Store {
    directory: PathBuf,
    path: PathBuf,
    open: Option<OpenFile>,
}

#[derive(Debug)]
struct OpenFile {
    file: File,
    /// Device and inode.
    id: (u64, u64),
    /// The end of the lines that have been read.
    offset: u64,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("cannot {action} `{path}`")]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`{path}`, which stores revocations, is accessible to others (mode {:o}); {}", fault.mode, fault.remedy)]
    Mode { path: PathBuf, fault: TooOpen },
    #[error("`{path}` contains a line at byte {offset} that is not a revocation, or is one of a later version")]
    NotUnderstood { path: PathBuf, offset: u64 },
    #[error("`{path}` contains more than {MAX_ENTRIES} entries that have not expired")]
    TooMany { path: PathBuf },
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredLine {
    issuer: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    jti_sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    issued_before: Option<u64>,
    expires_at: u64,
    made_at: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revoked_by: Option<String>,
}

const FILE_NAME: &str = "revocations.jsonl";
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// Names have at most 1 KiB, so that no valid line is longer.
const MAX_LINE: u64 = 64 * 1024;
/// A lock is held only while the disk is written.
const LOCK_TIMEOUT: Duration = Duration::from_secs(3);
const LOCK_RETRY: Duration = Duration::from_millis(5);

impl Store {
    pub(crate) fn in_directory(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), path: directory.join(FILE_NAME), open: None }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Checks the modes of folder and file, as reading does. Reads and writes nothing.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        match fs::metadata(&self.directory) {
            Ok(metadata) if !metadata.is_dir() => {
                return Err(failed("use", &self.directory)(io::ErrorKind::NotADirectory.into()));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed("read", &self.directory)(error)),
        }
        // Other users may read the folder, but write access would let them change revocations.
        let folder = file_privacy::check_folder(&self.directory, 0o022).map_err(failed("read", &self.directory))?;
        folder.map_err(|fault| StoreError::Mode { path: self.directory.clone(), fault })?;
        match file_privacy::check_file(&self.path) {
            Ok(checked) => checked.map_err(|fault| StoreError::Mode { path: self.path.clone(), fault }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed("read", &self.path)(error)),
        }
    }

    /// Makes the folder and the file if they are missing.
    pub(crate) fn make(&mut self) -> Result<(), StoreError> {
        self.check()?;
        let _made = self.locked()?;
        if self.open.is_none() {
            self.open = Some(OpenFile::new(self.open_to_append()?).map_err(failed("read", &self.path))?);
        }
        Ok(())
    }

    /// The same file, of which nothing was read yet.
    pub(super) fn reopened(&self) -> Self {
        Self::in_directory(&self.directory)
    }

    /// The entries added since the last call, or all entries if the file was replaced. Empty if there is no file and
    /// never was one.
    pub(crate) fn read(&mut self) -> Result<Vec<RevocationEntry>, StoreError> {
        let id = match fs::metadata(&self.path) {
            Ok(metadata) => {
                if self.open.as_ref().is_some_and(|open| open.id == id(&metadata) && open.offset == metadata.len()) {
                    return Ok(Vec::new());
                }
                id(&metadata)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.open.is_none() => return Ok(Vec::new()),
            Err(error) => return Err(failed("read", &self.path)(error)),
        };
        if self.open.as_ref().is_none_or(|open| open.id != id) {
            self.check()?;
            let file = OpenOptions::new().read(true).open(&self.path).map_err(failed("read", &self.path))?;
            self.open = Some(OpenFile::new(file).map_err(failed("read", &self.path))?);
        }
        match &mut self.open {
            Some(open) => open.read(&self.path),
            None => Ok(Vec::new()),
        }
    }

    /// Passes the entries of other processes to `choose` and appends the entries that it returns. They are on the disk
    /// when this returns.
    pub(crate) fn append(
        &mut self,
        choose: impl FnOnce(Vec<RevocationEntry>) -> Vec<RevocationEntry>,
    ) -> Result<(), StoreError> {
        let mut locked = self.locked()?;
        let news = self.read()?;
        let gone = || failed("read", &self.path)(io::ErrorKind::NotFound.into());
        let open = self.open.as_mut().ok_or_else(gone)?;
        let length = locked.metadata().map_err(failed("read", &self.path))?.len();
        let chosen = choose(news);
        if chosen.is_empty() {
            return Ok(());
        }
        let mut text = Vec::new();
        if length > open.offset {
            warn!(path = %self.path.display(), "skipped the last line of the revocations, which a crash has torn");
            text.push(b'\n');
        }
        chosen.iter().for_each(|entry| write_line(entry, &mut text));
        if let Err(error) = locked.write_all(&text).and_then(|()| locked.sync_data()) {
            // The entries were refused, so the file must not contain them. If this fails too, they are revoked after
            // all.
            let _ = locked.set_len(length);
            return Err(failed("write", &self.path)(error));
        }
        open.offset = length + text.len() as u64;
        Ok(())
    }

    /// Rewrites the file without expired entries and torn lines, if it has any.
    pub(crate) fn compact(&mut self, now: UnixTime) -> Result<(), StoreError> {
        if self.open.is_none() && !self.path.exists() {
            return Ok(());
        }
        let old = self.locked()?;
        let mut reading =
            OpenFile::new(old.try_clone().map_err(failed("read", &self.path))?).map_err(failed("read", &self.path))?;
        let entries = reading.read(&self.path)?;
        let length = old.metadata().map_err(failed("read", &self.path))?.len();
        if length > reading.offset {
            warn!(path = %self.path.display(), "removed the last line of the revocations, which a crash has torn");
        }
        let mut text = Vec::new();
        entries.iter().filter(|entry| entry.is_live(now)).for_each(|entry| write_line(entry, &mut text));
        if length == text.len() as u64 {
            return Ok(());
        }
        let new = Replacement::create(&self.path, "new", FILE_MODE).map_err(failed("write", &self.path))?;
        // Locked until its name is durable: another process must not append a line to a file that a crash removes
        // again.
        new.file().lock().map_err(failed("lock", &self.path))?;
        new.publish(&text).map_err(failed("write", &self.path))
    }

    /// Opens and locks the file, made if it is missing. The lock is held until the result is dropped.
    fn locked(&self) -> Result<File, StoreError> {
        let deadline = clock::instant() + LOCK_TIMEOUT;
        loop {
            let file = self.open_to_append()?;
            match file.try_lock() {
                Ok(()) => {
                    let mine = file.metadata().map_err(failed("read", &self.path))?;
                    // Another process may have replaced the file in between.
                    if fs::metadata(&self.path).is_ok_and(|named| id(&named) == id(&mine)) {
                        return Ok(file);
                    }
                }
                Err(TryLockError::WouldBlock) => thread::park_timeout(LOCK_RETRY),
                Err(TryLockError::Error(error)) => return Err(failed("lock", &self.path)(error)),
            }
            if clock::instant() >= deadline {
                return Err(failed("lock", &self.path)(io::ErrorKind::TimedOut.into()));
            }
        }
    }

    fn open_to_append(&self) -> Result<File, StoreError> {
        match open_to_append(&self.path) {
            // If the file existed before and is gone, its revocations are lost: a new file would hide that.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.open.is_none() => {}
            opened => return opened.map_err(failed("write", &self.path)),
        }
        make_folder(&self.directory, DIRECTORY_MODE).map_err(failed("create", &self.directory))?;
        let file = match create_new(&self.path, FILE_MODE) {
            // Another process was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => open_to_append(&self.path),
            made => made,
        };
        let file = file.map_err(failed("create", &self.path))?;
        flush_directory(&self.directory)?;
        Ok(file)
    }
}

impl OpenFile {
    fn new(file: File) -> io::Result<Self> {
        let id = id(&file.metadata()?);
        Ok(Self { file, id, offset: 0 })
    }

    /// The entries of all whole lines after `offset`.
    fn read(&mut self, path: &Path) -> Result<Vec<RevocationEntry>, StoreError> {
        let mut reader = BufReader::new(&self.file);
        let mut read = || -> io::Result<Result<(Vec<RevocationEntry>, u64), u64>> {
            if self.file.metadata()?.len() < self.offset {
                // A failed write was undone.
                self.offset = 0;
            }
            reader.seek(SeekFrom::Start(self.offset))?;
            let (mut entries, mut offset, mut line) = (Vec::new(), self.offset, Vec::new());
            let mut torn = false;
            loop {
                line.clear();
                let length = (&mut reader).take(MAX_LINE).read_until(b'\n', &mut line)? as u64;
                let whole = line.ends_with(b"\n");
                if !whole && length < MAX_LINE {
                    return Ok(Ok((entries, offset)));
                }
                match entry(&line) {
                    ParsedLine::Entry(entry) if whole && !torn => entries.push(entry),
                    ParsedLine::NotUnderstood if whole && !torn => return Ok(Err(offset)),
                    ParsedLine::Entry(_) | ParsedLine::NotUnderstood | ParsedLine::Torn | ParsedLine::Nothing => {}
                }
                torn = !whole;
                offset += length;
            }
        };
        match read().map_err(failed("read", path))? {
            Ok((entries, offset)) => {
                self.offset = offset;
                Ok(entries)
            }
            Err(offset) => Err(StoreError::NotUnderstood { path: path.to_owned(), offset }),
        }
    }
}

enum ParsedLine {
    Entry(RevocationEntry),
    Nothing,
    /// Torn by a crash: a part of an object is not valid JSON.
    Torn,
    NotUnderstood,
}

fn entry(line: &[u8]) -> ParsedLine {
    if line.trim_ascii().is_empty() {
        return ParsedLine::Nothing;
    }
    if serde_json::from_slice::<serde::de::IgnoredAny>(line).is_err() {
        return ParsedLine::Torn;
    }
    let Ok(line) = serde_json::from_slice::<StoredLine>(line) else { return ParsedLine::NotUnderstood };
    let target = match (line.jti_sha256, line.client, line.subject) {
        (Some(token), None, None) => RevocationTarget::Token(token),
        (None, Some(client), None) => RevocationTarget::Client(client),
        (None, None, Some(subject)) => RevocationTarget::Subject(subject),
        (None, None, None) if line.issued_before.is_some() => RevocationTarget::Issuer,
        _ => return ParsedLine::NotUnderstood,
    };
    ParsedLine::Entry(RevocationEntry {
        issuer: line.issuer,
        target,
        issued_before: line.issued_before,
        expires_at: Some(line.expires_at),
        made_at: line.made_at,
        revoked_by: line.revoked_by,
    })
}

fn write_line(entry: &RevocationEntry, text: &mut Vec<u8>) {
    let mut line = StoredLine {
        issuer: entry.issuer.clone(),
        jti_sha256: None,
        client: None,
        subject: None,
        issued_before: entry.issued_before,
        expires_at: entry.expires_at.unwrap_or(u64::MAX),
        made_at: entry.made_at,
        revoked_by: entry.revoked_by.clone(),
    };
    match entry.target.clone() {
        RevocationTarget::Token(token) => line.jti_sha256 = Some(token),
        RevocationTarget::Client(client) => line.client = Some(client),
        RevocationTarget::Subject(subject) => line.subject = Some(subject),
        RevocationTarget::Issuer => {}
    }
    // Serializing text and numbers into memory does not fail.
    let _ = serde_json::to_writer(&mut *text, &line);
    text.push(b'\n');
}

fn id(metadata: &fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn flush_directory(directory: &Path) -> Result<(), StoreError> {
    sync_folder(directory).map_err(failed("flush", directory))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { action, path, source }
}

#[cfg(test)]
mod tests;
