//! What was used once, on disk: a file with one line for each use, to which several gateways may append.
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

/// Something that was used, by the digest of its id and its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordedUse {
    pub(super) digest: Digest,
    /// Seconds since 1970. What was used is refused by then in any case.
    pub(super) expires_at: u64,
}

/// A reader and writer of the file.
#[derive(Debug)]
pub(super) struct ReplayStore {
    file: SharedFile,
    read: Option<ReadLines>,
}

/// The lines of the file that have been read.
#[derive(Clone, Copy, Debug)]
struct ReadLines {
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
#[serde(deny_unknown_fields)]
struct UseLine {
    /// In hexadecimal.
    used: String,
    expires_at: u64,
}

const FILE_NAME: &str = "replay.jsonl";
/// No valid line is longer.
const MAX_LINE: u64 = 256;

impl ReplayStore {
    pub(super) fn in_directory(directory: &Path) -> Self {
        Self { file: SharedFile::new(directory, FILE_NAME), read: None }
    }

    /// All uses of the file. Empty if there is no file.
    pub(super) fn load(&mut self) -> Result<Vec<RecordedUse>, ReplayStoreError> {
        self.file.check()?;
        match OpenOptions::new().read(true).open(self.file.path()) {
            Ok(file) => self.read_on(&file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(self.file.failed("read")(error).into()),
        }
    }

    /// The lines of the file, as far as they are known.
    pub(super) fn lines(&self) -> usize {
        self.read.map_or(0, |read| read.count)
    }

    /// Passes the uses of other processes to `choose` and appends those that it returns. They are on the disk when this
    /// returns.
    pub(super) fn append(
        &mut self,
        choose: impl FnOnce(Vec<RecordedUse>) -> Vec<RecordedUse>,
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
        chosen.iter().for_each(|used| write_line(used, &mut text));
        if let Err(error) = locked.write_all(&text).and_then(|()| locked.sync_data()) {
            // The uses were refused, so the file must not contain them. If this fails too, they count as used.
            let _ = locked.set_len(length);
            return Err(failed(error).into());
        }
        read.offset = length + text.len() as u64;
        read.count += chosen.len();
        Ok(())
    }

    /// Passes the uses of other processes to `choose`, and replaces the file by the uses that it returns.
    pub(super) fn rewrite(
        &mut self,
        choose: impl FnOnce(Vec<RecordedUse>) -> Vec<RecordedUse>,
    ) -> Result<(), ReplayStoreError> {
        let old = self.locked()?;
        let kept = choose(self.read_on(&old)?);
        let mut text = Vec::new();
        kept.iter().for_each(|used| write_line(used, &mut text));
        let failed = || self.file.failed("write");
        let new = Replacement::create(self.file.path(), "new", FILE_MODE).map_err(failed())?;
        // Locked until its name is durable: another process must not append a line to a file that a crash removes
        // again.
        new.file().lock().map_err(failed())?;
        let of = FileId::of(&new.file().metadata().map_err(failed())?);
        new.publish(&text).map_err(failed())?;
        self.read = Some(ReadLines { of, offset: text.len() as u64, count: kept.len() });
        drop(old);
        Ok(())
    }

    fn locked(&self) -> Result<File, ReplayStoreError> {
        self.file.check()?;
        Ok(self.file.locked(if self.read.is_some() { Missing::Fail } else { Missing::Make })?)
    }

    /// The whole lines that were not read yet. All lines if the file was replaced.
    fn read_on(&mut self, file: &File) -> Result<Vec<RecordedUse>, ReplayStoreError> {
        let metadata = file.metadata().map_err(self.file.failed("read"))?;
        let of = FileId::of(&metadata);
        // A failed write that was undone makes the file shorter.
        let known = self.read.filter(|read| read.of == of && read.offset <= metadata.len());
        let mut read = known.unwrap_or(ReadLines { of, offset: 0, count: 0 });
        let lines = read_lines(file, &mut read.offset).map_err(self.file.failed("read"))?;
        let uses = lines.map_err(|offset| self.not_understood(offset))?;
        read.count += uses.len();
        self.read = Some(read);
        Ok(uses)
    }

    fn not_understood(&self, offset: u64) -> ReplayStoreError {
        ReplayStoreError::NotUnderstood { path: self.file.path().to_owned(), offset }
    }
}

/// The uses of all whole lines after `offset`, which is moved to their end. The inner error is the place of a line that
/// is not understood.
fn read_lines(file: &File, offset: &mut u64) -> io::Result<Result<Vec<RecordedUse>, u64>> {
    let mut reader = BufReader::new(file);
    reader.seek(SeekFrom::Start(*offset))?;
    let (mut uses, mut line, mut torn) = (Vec::new(), Vec::new(), false);
    loop {
        line.clear();
        let length = (&mut reader).take(MAX_LINE).read_until(b'\n', &mut line)? as u64;
        let whole = line.ends_with(b"\n");
        if !whole && length < MAX_LINE {
            return Ok(Ok(uses));
        }
        match parse(&line) {
            ParsedLine::Use(used) if whole && !torn => uses.push(used),
            ParsedLine::NotUnderstood if whole && !torn => return Ok(Err(*offset)),
            ParsedLine::Use(_) | ParsedLine::NotUnderstood | ParsedLine::Torn => {}
        }
        torn = !whole;
        *offset += length;
    }
}

enum ParsedLine {
    Use(RecordedUse),
    /// Torn by a crash, or empty: a part of an object is not valid JSON.
    Torn,
    NotUnderstood,
}

fn parse(line: &[u8]) -> ParsedLine {
    if serde_json::from_slice::<serde::de::IgnoredAny>(line).is_err() {
        return ParsedLine::Torn;
    }
    let line = serde_json::from_slice::<UseLine>(line).ok();
    let used = line.and_then(|UseLine { used, expires_at }| {
        Some(RecordedUse { digest: Digest(u128::from_str_radix(&used, 16).ok()?), expires_at })
    });
    used.map_or(ParsedLine::NotUnderstood, ParsedLine::Use)
}

fn write_line(used: &RecordedUse, text: &mut Vec<u8>) {
    let line = UseLine { used: format!("{:032x}", used.digest.0), expires_at: used.expires_at };
    // Serializing text and numbers into memory does not fail.
    let _ = serde_json::to_writer(&mut *text, &line);
    text.push(b'\n');
}

#[cfg(test)]
mod tests;
