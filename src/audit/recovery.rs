//! Reads the end of the log at a start, to find where the chain continues.
//!
//! A crash can tear the last line. It is cut off, and a line of its own records its text; lines before it are never
//! touched. A crash does not damage more than that: a file with more damage is renamed and kept as it is.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use super::chain::{Hasher, Link, SealedLine, sequence};
use super::{checkpoint, log_paths};
use crate::clock::UnixTime;

/// The end of a log.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Tail {
    /// The file is empty.
    Empty,
    Whole(Link),
    /// The last line is not whole, or not as it was written.
    Torn {
        link: Option<Link>,
        keep: u64,
        text: String,
    },
    /// More than the last line is not as it was written.
    Damaged {
        link: Link,
    },
}

/// The writer writes no line that is longer than half of this.
const WINDOW: u64 = 256 * 1024;

/// Reads the end of a file.
pub(super) fn tail(path: &Path) -> io::Result<Tail> {
    let mut file = File::open(path)?;
    let length = file.seek(SeekFrom::End(0))?;
    let start = length.saturating_sub(WINDOW);
    file.seek(SeekFrom::Start(start))?;
    let mut window = Vec::new();
    file.read_to_end(&mut window)?;
    Ok(if window.is_empty() { Tail::Empty } else { classify(&window, start) })
}

/// `window` is the file from `start` to its end.
fn classify(window: &[u8], start: u64) -> Tail {
    let whole = window.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let (lines, rest) = window.split_at(whole);
    // The first piece is no whole line unless it begins the file.
    let skip = usize::from(start > 0);
    let lines: Vec<&[u8]> = lines.split_inclusive(|byte| *byte == b'\n').skip(skip).collect();
    if lines.is_empty() {
        let link = if start == 0 { None } else { return Tail::Damaged { link: Link::GENESIS } };
        return Tail::Torn { link, keep: 0, text: text(rest) };
    }
    match (good(&lines), lines.split_last().map(|(_, before)| good(before))) {
        (Some(link), _) if rest.is_empty() => Tail::Whole(link),
        (Some(link), _) => Tail::Torn { link: Some(link), keep: start + whole as u64, text: text(rest) },
        (None, Some(Some(link))) => {
            let last = lines.last().map_or(0, |line| line.len());
            let keep = whole - last;
            Tail::Torn { link: Some(link), keep: start + keep as u64, text: text(&window[keep..]) }
        }
        (None, _) => Tail::Damaged { link: claimed(&lines) },
    }
}

/// The last of these lines, if it is as it was written.
fn good(lines: &[&[u8]]) -> Option<Link> {
    let (last, before) = lines.split_last()?;
    let last = SealedLine::parse(last.strip_suffix(b"\n")?)?;
    let previous =
        last.previous().or_else(|| Some(SealedLine::parse(before.last()?.strip_suffix(b"\n")?)?.link.head))?;
    last.follows(&previous, &mut Hasher::default()).then_some(last.link)
}

/// The end of a damaged file, as its last lines state it.
fn claimed(lines: &[&[u8]]) -> Link {
    let sealed = lines.iter().rev().find_map(|line| Some(SealedLine::parse(line.strip_suffix(b"\n")?)?.link));
    let number = lines.iter().rev().find_map(|line| sequence(line)).unwrap_or(0);
    sealed.unwrap_or(Link { sequence: number, ..Link::GENESIS })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The end of the latest of the log's renamed files.
pub(super) fn newest_end(path: &Path) -> Link {
    let ends = log_paths::siblings(path).unwrap_or_default().into_iter().filter_map(|file| end(&file));
    ends.max_by_key(|link| link.sequence).unwrap_or(Link::GENESIS)
}

/// The end of the latest of the log's renamed files, or the last checkpoint's link if that is later.
pub(super) fn predecessor(path: &Path) -> Link {
    let signed = checkpoint::last(&log_paths::checkpoints(path)).unwrap_or(Link::GENESIS);
    std::cmp::max_by_key(newest_end(path), signed, |link| link.sequence)
}

/// The link of a file's last line, if it can be read.
pub(super) fn end(path: &Path) -> Option<Link> {
    if !fs::metadata(path).ok()?.is_file() {
        return None;
    }
    match tail(path).ok()? {
        Tail::Whole(link) | Tail::Torn { link: Some(link), .. } => Some(link),
        Tail::Damaged { link } => (link != Link::GENESIS).then_some(link),
        Tail::Empty | Tail::Torn { link: None, .. } => None,
    }
}

/// The number of a file's first line, and its time.
pub(super) fn beginning(path: &Path) -> (Option<u64>, Option<UnixTime>) {
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(512).read_to_end(&mut head));
    if read.is_err() {
        return (None, None);
    }
    (sequence(&head), time_of(&String::from_utf8_lossy(&head)))
}

/// The time of the oldest line in any file of a log. `None` if it cannot be told, because a file has no such line.
pub(crate) fn oldest_line(log: &Path) -> Option<UnixTime> {
    let files = log_paths::siblings(log).ok()?.into_iter().chain([log.to_owned()]);
    files.map(|file| beginning(&file).1).collect::<Option<Vec<_>>>()?.into_iter().min()
}

fn time_of(line: &str) -> Option<UnixTime> {
    let time = line.split_once("\"time\":\"")?.1.split_once('"')?.0;
    let seconds = time.parse::<jiff::Timestamp>().ok()?.as_second();
    Some(UnixTime::from_seconds(u64::try_from(seconds).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three lines and where each begins.
    fn log() -> (Vec<u8>, [usize; 3], Link) {
        let (mut link, mut out, mut starts) = (Link::GENESIS, Vec::new(), [0; 3]);
        for (index, start) in starts.iter_mut().enumerate() {
            *start = out.len();
            link.seal([b"", b",\"time\":\"x\"}\n"], index == 0, &mut Hasher::default(), &mut out);
        }
        (out, starts, link)
    }

    #[test]
    fn wherever_the_last_line_is_torn_the_ones_before_are_kept() {
        let (log, starts, link) = log();
        assert_eq!(classify(&log, 0), Tail::Whole(link));
        for end in starts[2] + 1..log.len() {
            let Tail::Torn { link: Some(kept), keep, text } = classify(&log[..end], 0) else { panic!("{end}") };
            assert_eq!((kept.sequence, keep), (2, starts[2] as u64));
            assert_eq!(text.as_bytes(), &log[starts[2]..end]);
        }
        for end in 1..starts[1] {
            assert!(matches!(classify(&log[..end], 0), Tail::Torn { link: None, keep: 0, .. }));
        }
    }

    #[test]
    fn a_torn_last_line_is_torn_and_more_than_that_is_damage() {
        let (log, starts, link) = log();
        for (at, torn) in [(starts[2] + 10, true), (starts[1] + 10, false)] {
            let mut bent = log.clone();
            bent[at] ^= 1;
            match classify(&bent, 0) {
                Tail::Torn { link: Some(kept), keep, .. } if torn => {
                    assert_eq!((kept.sequence, keep), (2, starts[2] as u64));
                }
                Tail::Whole(end) => assert!(!torn && end == link, "only the tail is looked at"),
                other => panic!("{at}: {other:?}"),
            }
        }
        let holes = [&log[..], &[0; 900]].concat();
        assert!(matches!(classify(&holes, 0), Tail::Torn { link: Some(kept), .. } if kept == link));
        let foreign = b"{\"seq\":4,\"a\":1}\n{\"seq\":5,\"a\":1}\n";
        assert!(matches!(classify(foreign, 0), Tail::Damaged { link } if link.sequence == 5));
    }
}
