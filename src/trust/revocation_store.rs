//! The revocations on disk: a file with one line for each, to which several gateways and the command line may append.
//!
//! A writer holds the lock of the file, and a line is valid once it is flushed. A reader takes no lock: it continues
//! where it stopped, up to the last whole line. It starts again from the beginning when the file was replaced, which
//! compaction does. A line that a crash has torn was never confirmed to a client: it is skipped. A whole line that
//! cannot be parsed is an error.
//!
//! With a shared store, one line marks the file as [complete](Store::mark_complete): it has all revocations that the
//! replicas had at one time.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::revocation::{LearnedRule, MAX_ENTRIES, RevocationEntry, RevocationTarget};
use super::shared_file::{FILE_MODE, FileId, Missing, SharedFile, SharedFileError};
use crate::clock::UnixTime;
use crate::durable_file::Replacement;
use crate::oauth::caller::Digest;

/// A reader and writer of the file.
#[derive(Debug)]
pub(crate) struct Store {
    file: SharedFile,
    open: Option<OpenFile>,
    /// The next entries are written with the line that marks the file as complete.
    to_mark: bool,
}

#[derive(Debug)]
struct OpenFile {
    file: File,
    id: FileId,
    /// The end of the lines that have been read.
    offset: u64,
    is_complete: bool,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error(transparent)]
    File(#[from] SharedFileError),
    #[error("`{path}` contains a line at byte {offset} that is not a revocation, or is one of a later version")]
    NotUnderstood { path: PathBuf, offset: u64 },
    #[error("`{path}` contains more than {MAX_ENTRIES} entries that have not expired")]
    TooMany { path: PathBuf },
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredLine {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    issuer: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    jti_sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    /// The rule of another replica, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_token: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    issued_before: Option<u64>,
    expires_at: u64,
    made_at: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revoked_by: Option<String>,
}

const FILE_NAME: &str = "revocations.jsonl";
const COMPLETE_LINE: &[u8] = b"{\"complete\":true}\n";
/// Names have at most 1 KiB, so that no valid line is longer.
const MAX_LINE: u64 = 64 * 1024;

impl Store {
    pub(crate) fn in_directory(directory: &Path) -> Self {
        Self { file: SharedFile::new(directory, FILE_NAME), open: None, to_mark: false }
    }

    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    /// Checks the modes of folder and file, as reading does. Reads and writes nothing.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        Ok(self.file.check()?)
    }

    /// Makes the folder and the file if they are missing.
    pub(crate) fn make(&mut self) -> Result<(), StoreError> {
        self.check()?;
        let made = self.locked()?;
        if self.open.is_none() {
            made.unlock().map_err(self.file.failed("unlock"))?;
            self.open = Some(OpenFile::new(made).map_err(self.file.failed("read"))?);
        }
        Ok(())
    }

    /// The same file, of which nothing was read yet.
    pub(super) fn reopened(&self) -> Self {
        Self { file: self.file.clone(), open: None, to_mark: false }
    }

    /// Whether the file has all revocations that the replicas had at one time, as far as it was read.
    pub(super) fn is_complete(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.is_complete)
    }

    /// The next [append](Self::append) marks the file as complete.
    pub(super) fn mark_complete(&mut self) {
        self.to_mark = !self.is_complete();
    }

    pub(super) fn is_to_mark(&self) -> bool {
        self.to_mark
    }

    /// The entries added since the last call, or all entries if the file was replaced. Empty if there is no file and
    /// never was one.
    pub(crate) fn read(&mut self) -> Result<Vec<RevocationEntry>, StoreError> {
        let id = match fs::metadata(self.file.path()) {
            Ok(metadata) => {
                if self
                    .open
                    .as_ref()
                    .is_some_and(|open| open.id == FileId::of(&metadata) && open.offset == metadata.len())
                {
                    return Ok(Vec::new());
                }
                FileId::of(&metadata)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.open.is_none() => return Ok(Vec::new()),
            Err(error) => return Err(self.file.failed("read")(error).into()),
        };
        if self.open.as_ref().is_none_or(|open| open.id != id) {
            self.check()?;
            let file = OpenOptions::new().read(true).open(self.file.path()).map_err(self.file.failed("read"))?;
            self.open = Some(OpenFile::new(file).map_err(self.file.failed("read"))?);
        }
        match &mut self.open {
            Some(open) => open.read(self.file.path()),
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
        let gone = || self.file.failed("read")(io::ErrorKind::NotFound.into());
        let open = self.open.as_mut().ok_or_else(gone)?;
        let length = locked.metadata().map_err(self.file.failed("read"))?.len();
        let chosen = choose(news);
        if chosen.is_empty() && !self.to_mark {
            return Ok(());
        }
        let mut text = Vec::new();
        if length > open.offset {
            warn!(path = %self.file.path().display(), "skipped the last line of the revocations, which a crash has torn");
            text.push(b'\n');
        }
        if self.to_mark {
            text.extend_from_slice(COMPLETE_LINE);
        }
        chosen.iter().for_each(|entry| write_line(entry, &mut text));
        if let Err(error) = locked.write_all(&text).and_then(|()| locked.sync_data()) {
            // The entries were refused, so the file must not contain them. If this fails too, they are revoked after
            // all.
            let _ = locked.set_len(length);
            return Err(self.file.failed("write")(error).into());
        }
        open.offset = length + text.len() as u64;
        open.is_complete |= std::mem::take(&mut self.to_mark);
        Ok(())
    }

    /// Rewrites the file without expired entries and torn lines, if it has any.
    pub(crate) fn compact(&mut self, now: UnixTime) -> Result<(), StoreError> {
        if self.open.is_none() && !self.file.path().exists() {
            return Ok(());
        }
        let old = self.locked()?;
        let mut reading =
            OpenFile::new(old.try_clone().map_err(self.file.failed("read"))?).map_err(self.file.failed("read"))?;
        let entries = reading.read(self.file.path())?;
        let length = old.metadata().map_err(self.file.failed("read"))?.len();
        if length > reading.offset {
            warn!(path = %self.file.path().display(), "removed the last line of the revocations, which a crash has torn");
        }
        let mut text = if reading.is_complete { COMPLETE_LINE.to_vec() } else { Vec::new() };
        entries.iter().filter(|entry| entry.is_live(now)).for_each(|entry| write_line(entry, &mut text));
        if length == text.len() as u64 {
            return Ok(());
        }
        let new = Replacement::create(self.file.path(), "new", FILE_MODE).map_err(self.file.failed("write"))?;
        // Locked until its name is durable: another process must not append a line to a file that a crash removes
        // again.
        new.file().lock().map_err(self.file.failed("lock"))?;
        Ok(new.publish(&text).map_err(self.file.failed("write"))?)
    }

    /// The locked file, made if it is missing. If it existed before and is gone, its revocations are lost.
    fn locked(&self) -> Result<File, StoreError> {
        Ok(self.file.locked(if self.open.is_some() { Missing::Fail } else { Missing::Make })?)
    }
}

impl OpenFile {
    fn new(file: File) -> io::Result<Self> {
        let id = FileId::of(&file.metadata()?);
        Ok(Self { file, id, offset: 0, is_complete: false })
    }

    /// The entries of all whole lines after `offset`.
    fn read(&mut self, path: &Path) -> Result<Vec<RevocationEntry>, StoreError> {
        let mut reader = BufReader::new(&self.file);
        let mut is_complete = false;
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
                    ParsedLine::Complete if whole && !torn => is_complete = true,
                    ParsedLine::Entry(entry) if whole && !torn => entries.push(entry),
                    ParsedLine::NotUnderstood if whole && !torn => return Ok(Err(offset)),
                    ParsedLine::Entry(_)
                    | ParsedLine::Complete
                    | ParsedLine::NotUnderstood
                    | ParsedLine::Torn
                    | ParsedLine::Nothing => {}
                }
                torn = !whole;
                offset += length;
            }
        };
        match read().map_err(failed("read", path))? {
            Ok((entries, offset)) => {
                self.offset = offset;
                self.is_complete |= is_complete;
                Ok(entries)
            }
            Err(offset) => Err(StoreError::NotUnderstood { path: path.to_owned(), offset }),
        }
    }
}

enum ParsedLine {
    Entry(RevocationEntry),
    Complete,
    Nothing,
    /// Torn by a crash: a part of an object is not valid JSON.
    Torn,
    NotUnderstood,
}

fn entry(line: &[u8]) -> ParsedLine {
    if line.trim_ascii().is_empty() {
        return ParsedLine::Nothing;
    }
    if line == COMPLETE_LINE {
        return ParsedLine::Complete;
    }
    if serde_json::from_slice::<serde::de::IgnoredAny>(line).is_err() {
        return ParsedLine::Torn;
    }
    let Ok(line) = serde_json::from_slice::<StoredLine>(line) else { return ParsedLine::NotUnderstood };
    let rule = line.rule.map(|rule| u128::from_str_radix(&rule, 16).map(Digest));
    let target = match (line.jti_sha256, line.client, line.subject, rule) {
        (.., None) if line.issuer.is_empty() => return ParsedLine::NotUnderstood,
        (Some(token), None, None, None) => RevocationTarget::Token(token),
        (None, Some(client), None, None) => RevocationTarget::Client(client),
        (None, None, Some(subject), None) => RevocationTarget::Subject(subject),
        (None, None, None, Some(Ok(digest))) => {
            RevocationTarget::Learned(LearnedRule { digest, is_token: line.is_token, by: line.by })
        }
        (None, None, None, None) if line.issued_before.is_some() => RevocationTarget::Issuer,
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
        rule: None,
        is_token: false,
        by: None,
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
        RevocationTarget::Learned(LearnedRule { digest, is_token, by }) => {
            (line.rule, line.is_token, line.by) = (Some(format!("{:032x}", digest.0)), is_token, by);
        }
    }
    // Serializing text and numbers into memory does not fail.
    let _ = serde_json::to_writer(&mut *text, &line);
    text.push(b'\n');
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SharedFileError + use<> {
    let path = path.to_owned();
    move |source| SharedFileError::Io { action, path, source }
}

#[cfg(test)]
mod tests;
