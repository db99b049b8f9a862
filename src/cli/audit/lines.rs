//! Reads the lines of logs that match a filter, from one file, from a chain, or from several chains in the order of
//! time.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::vec;

use serde_json::Value;

use super::filter::Filter;
use crate::audit::chain::sequence;
use crate::audit::verify::recorded::removed_up_to;
use crate::telemetry::error_chain::reason;

/// A line that matches.
#[derive(Debug)]
pub(super) struct MatchedLine {
    pub(super) text: Vec<u8>,
    pub(super) value: Value,
}

/// The whole lines of a file.
#[derive(Debug)]
pub(super) struct FileLines {
    source: BufReader<File>,
    line: Vec<u8>,
    is_whole: bool,
}

/// The lines of a chain that match, in order.
pub(super) struct ChainLines<'f> {
    files: vec::IntoIter<PathBuf>,
    open: Option<FileLines>,
    filter: &'f Filter,
    /// How many lines were read.
    pub(super) read: u64,
    /// The number of the last line.
    last: u64,
    /// Rotation has removed the lines up to this one.
    removed: u64,
    gaps: Vec<(u64, u64)>,
}

const BUFFER: usize = 256 * 1024;
/// More gaps are not reported.
const MAX_GAPS: usize = 20;

impl MatchedLine {
    fn time(&self) -> &str {
        self.value["time"].as_str().unwrap_or_default()
    }
}

impl FileLines {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path).map_err(|error| {
            let text = format!("cannot read the audit log `{}`: {}", path.display(), reason(&error));
            io::Error::new(error.kind(), text)
        })?;
        Ok(Self { source: BufReader::with_capacity(BUFFER, file), line: Vec::new(), is_whole: false })
    }

    /// The next line, without its line break. `None` at the end that the file has now; later calls see lines written
    /// since.
    pub(super) fn next(&mut self) -> io::Result<Option<&[u8]>> {
        if std::mem::take(&mut self.is_whole) {
            self.line.clear();
        }
        self.source.read_until(b'\n', &mut self.line)?;
        self.is_whole = self.line.ends_with(b"\n");
        Ok(self.line.strip_suffix(b"\n"))
    }

    /// The next line that matches.
    pub(super) fn next_match(&mut self, filter: &Filter) -> io::Result<Option<MatchedLine>> {
        while let Some(line) = self.next()? {
            if let Some(value) = filter.read(line) {
                return Ok(Some(MatchedLine { text: line.to_vec(), value }));
            }
        }
        Ok(None)
    }

    /// The last `count` lines that match, and how many lines were read.
    pub(super) fn last_matches(&mut self, filter: &Filter, count: usize) -> io::Result<(VecDeque<MatchedLine>, u64)> {
        let (mut last, mut read) = (VecDeque::new(), 0);
        while let Some(line) = self.next()? {
            read += 1;
            if let Some(value) = filter.read(line) {
                last.push_back(MatchedLine { text: line.to_vec(), value });
                if last.len() > count {
                    last.pop_front();
                }
            }
        }
        Ok((last, read))
    }

    /// Whether the path leads to another file by now. A file that was cut off is read from its new end.
    pub(super) fn has_moved(&mut self, path: &Path) -> bool {
        let (Ok(there), Ok(here)) = (fs::metadata(path), self.source.get_ref().metadata()) else { return false };
        if self.source.stream_position().is_ok_and(|position| position > here.len()) {
            self.line.clear();
            let _ = self.source.seek(SeekFrom::End(0));
        }
        (there.dev(), there.ino()) != (here.dev(), here.ino())
    }
}

impl<'f> ChainLines<'f> {
    pub(super) fn new(files: Vec<PathBuf>, filter: &'f Filter) -> Self {
        Self { files: files.into_iter(), open: None, filter, read: 0, last: 0, removed: 0, gaps: Vec::new() }
    }

    /// Lines that are in no file, although rotation has not removed them.
    pub(super) fn gaps(&self) -> impl Iterator<Item = (u64, u64)> {
        let first_kept = self.removed + 1;
        self.gaps.iter().map(move |(from, to)| (first_kept.max(*from), *to)).filter(|(from, to)| from <= to)
    }

    fn next_match(&mut self) -> io::Result<Option<MatchedLine>> {
        loop {
            let Some(open) = &mut self.open else {
                let Some(path) = self.files.next() else { return Ok(None) };
                self.open = Some(FileLines::open(&path)?);
                continue;
            };
            let Some(line) = open.next()? else {
                self.open = None;
                continue;
            };
            self.read += 1;
            if let Some(number) = sequence(line) {
                if number > self.last + 1 && self.gaps.len() < MAX_GAPS {
                    self.gaps.push((self.last + 1, number - 1));
                }
                self.last = number;
            }
            self.removed = self.removed.max(removed_up_to(line));
            if let Some(value) = self.filter.read(line) {
                return Ok(Some(MatchedLine { text: line.to_vec(), value }));
            }
        }
    }
}

impl Iterator for ChainLines<'_> {
    type Item = io::Result<MatchedLine>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_match().transpose()
    }
}

/// Gives the lines of several chains to `show` by their times; the order within a chain is kept. Ends early, with
/// false, if `show` returns false.
pub(super) fn merge<C: Iterator<Item = io::Result<MatchedLine>>>(
    chains: &mut [C],
    mut show: impl FnMut(MatchedLine) -> bool,
) -> io::Result<bool> {
    let mut heads = Vec::new();
    for chain in &mut *chains {
        heads.push(chain.next().transpose()?);
    }
    loop {
        let of_time = |(at, head): (usize, &Option<MatchedLine>)| Some((head.as_ref()?.time().to_owned(), at));
        let Some((_, at)) = heads.iter().enumerate().filter_map(of_time).min() else { return Ok(true) };
        let next = chains[at].next().transpose()?;
        if let Some(line) = std::mem::replace(&mut heads[at], next)
            && !show(line)
        {
            return Ok(false);
        }
    }
}
