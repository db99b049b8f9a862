//! The uses of assertions on disk: a file with one line for each use, to which several gateways may append.
//!
//! A use counts once its line is flushed. Everything is read and written under the lock of the file, so that of two
//! gateways only one is the first. A line that a crash has torn was never confirmed: it is skipped. A whole line that
//! cannot be parsed is an error.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::shared_file::{FILE_MODE, FileId, Missing, SharedFile, SharedFileError};
use crate::durable_file::Replacement;
use crate::oauth::caller::Digest;

/// The use of an assertion, by the digest of its `jti` and of its client or platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordedUse {
    pub(super) digest: Digest,
    /// A part of the digest of the user, by which uses are counted.
    pub(super) user: u64,
    /// Seconds since 1970. From then on the assertion has expired.
    pub(super) expires_at: u64,
}

/// The content of the file, or the part of it that was not read yet.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct RecordedUses {
    pub(super) uses: Vec<RecordedUse>,
    /// Uses that end by then may have been removed from the file. In seconds since 1970.
    pub(super) forgotten: u64,
}

/// A reader and writer of the file.
#[derive(Debug)]
pub(super) struct ReplayStore {
    file: SharedFile,
    read: Option<ReadLines>,
}

/// The lines of the file that have been read.
#[derive(Debug)]
struct ReadLines {
    /// Open, so that no other file gets its number while this one knows the file by it.
    file: File,
    of: FileId,
    /// The end of the last one.
    offset: u64,
    count: usize,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplayStoreError {
    #[error(transparent)]
    File(#[from] SharedFileError),
    #[error("`{path}` contains a line at byte {offset} that is not a use, or is one of a later version")]
    NotUnderstood { path: PathBuf, offset: u64 },
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum ReplayLine {
    Use {
        /// In hexadecimal, as the user.
        used: String,
        user: String,
        expires_at: u64,
    },
    Forgotten {
        forgotten: u64,
    },
}

const FILE_NAME: &str = "replay.jsonl";
/// No valid line is longer.
const MAX_LINE: u64 = 256;

impl ReplayStore {
    pub(super) fn in_directory(directory: &Path) -> Self {
        Self { file: SharedFile::new(directory, FILE_NAME), read: None }
    }

    /// All that the file contains. Empty if there is no file.
    pub(super) fn load(&mut self) -> Result<RecordedUses, ReplayStoreError> {
        self.file.check()?;
        match self.file.locked(Missing::Fail) {
            Ok(locked) => self.read_on(&locked),
            Err(SharedFileError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(RecordedUses::default())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The lines of the file, as far as they are known.
    pub(super) fn lines(&self) -> usize {
        self.read.as_ref().map_or(0, |read| read.count)
    }

    /// Passes the uses of other processes to `choose` and appends those that it returns. They are on the disk when this
    /// returns.
    pub(super) fn append(
        &mut self,
        choose: impl FnOnce(RecordedUses) -> Vec<RecordedUse>,
    ) -> Result<(), ReplayStoreError> {
        let mut locked = self.locked()?;
        let news = self.read_on(&locked)?;
        let chosen = choose(news);
        let length = locked.metadata().map_err(self.file.failed("read"))?.len();
        let failed = self.file.failed("write");
        let Some(read) = self.read.as_mut().filter(|_| !chosen.is_empty()) else { return Ok(()) };
        let mut text = Vec::new();
        if length > read.offset {
            warn!("skipped the last line of the replay file, which a crash has torn");
            text.push(b'\n');
        }
        chosen.iter().for_each(|used| write_line(&ReplayLine::of(used), &mut text));
        if let Err(error) = locked.write_all(&text).and_then(|()| locked.sync_data()) {
            // The uses were refused, so the file must not contain them. If this fails too, they count as used.
            let _ = locked.set_len(length);
            return Err(failed(error).into());
        }
        read.offset = length + text.len() as u64;
        read.count += chosen.len();
        Ok(())
    }

    /// Passes the uses of other processes to `choose`, and replaces the file by what it returns.
    pub(super) fn rewrite(
        &mut self,
        choose: impl FnOnce(RecordedUses) -> RecordedUses,
    ) -> Result<(), ReplayStoreError> {
        let old = self.locked()?;
        let kept = choose(self.read_on(&old)?);
        let mut text = Vec::new();
        write_line(&ReplayLine::Forgotten { forgotten: kept.forgotten }, &mut text);
        kept.uses.iter().for_each(|used| write_line(&ReplayLine::of(used), &mut text));
        let failed = || self.file.failed("write");
        let new = Replacement::create(self.file.path(), "new", FILE_MODE).map_err(failed())?;
        // Locked until its name is durable: another process must not append a line to a file that a crash removes
        // again.
        new.file().lock().map_err(failed())?;
        let of = FileId::of(&new.file().metadata().map_err(failed())?);
        let file = new.file().try_clone().map_err(failed())?;
        new.publish(&text).map_err(failed())?;
        // The copy that stays open shares the lock.
        file.unlock().map_err(failed())?;
        self.read = Some(ReadLines { file, of, offset: text.len() as u64, count: kept.uses.len() });
        drop(old);
        Ok(())
    }

    fn locked(&self) -> Result<File, ReplayStoreError> {
        self.file.check()?;
        Ok(self.file.locked(if self.read.is_some() { Missing::Fail } else { Missing::Make })?)
    }

    /// The whole lines that were not read yet. All lines if the file was replaced.
    fn read_on(&mut self, locked: &File) -> Result<RecordedUses, ReplayStoreError> {
        let metadata = locked.metadata().map_err(self.file.failed("read"))?;
        let of = FileId::of(&metadata);
        // A failed write that was undone makes the file shorter.
        let known = self.read.take().filter(|read| read.of == of && read.offset <= metadata.len());
        let mut read = match known {
            Some(read) => read,
            None => ReadLines { file: self.opened(of)?, of, offset: 0, count: 0 },
        };
        let lines = read_lines(&read.file, &mut read.offset);
        let lines = lines.map_err(self.file.failed("read")).map(|lines| lines.map_err(|at| self.not_understood(at)));
        if let Ok(Ok(lines)) = &lines {
            read.count += lines.uses.len();
        }
        // Kept after an error, too: the file was there.
        self.read = Some(read);
        lines?
    }

    /// The locked file, open without its lock.
    fn opened(&self, locked: FileId) -> Result<File, ReplayStoreError> {
        let file = OpenOptions::new().read(true).open(self.file.path()).map_err(self.file.failed("read"))?;
        let metadata = file.metadata().map_err(self.file.failed("read"))?;
        if FileId::of(&metadata) == locked {
            return Ok(file);
        }
        Err(self.file.failed("read")(io::Error::other("it was replaced without its lock")).into())
    }

    fn not_understood(&self, offset: u64) -> ReplayStoreError {
        ReplayStoreError::NotUnderstood { path: self.file.path().to_owned(), offset }
    }
}

/// The uses of all whole lines after `offset`, which is moved to their end. The inner error is the place of a line that
/// is not understood.
fn read_lines(file: &File, offset: &mut u64) -> io::Result<Result<RecordedUses, u64>> {
    let mut reader = BufReader::new(file);
    reader.seek(SeekFrom::Start(*offset))?;
    let (mut found, mut line, mut torn) = (RecordedUses::default(), Vec::new(), false);
    loop {
        line.clear();
        let length = (&mut reader).take(MAX_LINE).read_until(b'\n', &mut line)? as u64;
        let whole = line.ends_with(b"\n");
        if !whole && length < MAX_LINE {
            return Ok(Ok(found));
        }
        match parse(&line) {
            ParsedLine::Use(used) if whole && !torn => found.uses.push(used),
            ParsedLine::Forgotten(end) if whole && !torn => found.forgotten = found.forgotten.max(end),
            ParsedLine::NotUnderstood if whole && !torn => return Ok(Err(*offset)),
            ParsedLine::Use(_) | ParsedLine::Forgotten(_) | ParsedLine::NotUnderstood | ParsedLine::Torn => {}
        }
        torn = !whole;
        *offset += length;
    }
}

enum ParsedLine {
    Use(RecordedUse),
    Forgotten(u64),
    /// Torn by a crash, or empty: a part of an object is not valid JSON.
    Torn,
    NotUnderstood,
}

fn parse(line: &[u8]) -> ParsedLine {
    if serde_json::from_slice::<serde::de::IgnoredAny>(line).is_err() {
        return ParsedLine::Torn;
    }
    match serde_json::from_slice::<ReplayLine>(line) {
        Ok(ReplayLine::Forgotten { forgotten }) => ParsedLine::Forgotten(forgotten),
        Ok(ReplayLine::Use { used, user, expires_at }) => {
            match (u128::from_str_radix(&used, 16), u64::from_str_radix(&user, 16)) {
                (Ok(digest), Ok(user)) => ParsedLine::Use(RecordedUse { digest: Digest(digest), user, expires_at }),
                (Err(_), _) | (_, Err(_)) => ParsedLine::NotUnderstood,
            }
        }
        Err(_) => ParsedLine::NotUnderstood,
    }
}

impl ReplayLine {
    fn of(used: &RecordedUse) -> Self {
        let RecordedUse { digest, user, expires_at } = *used;
        Self::Use { used: format!("{:032x}", digest.0), user: format!("{user:016x}"), expires_at }
    }
}

fn write_line(line: &ReplayLine, text: &mut Vec<u8>) {
    // Serializing text and numbers into memory does not fail.
    let _ = serde_json::to_writer(&mut *text, line);
    text.push(b'\n');
}

#[cfg(test)]
mod tests;
