//! The names of a log's files: what rotation has renamed, where its checkpoints are, and which files belong to another
//! log.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Lines sort as they were written up to here.
const DIGITS: usize = 12;
/// The suffix of files with checkpoints.
const CHECKPOINTS: &str = ".checkpoints";
/// The suffix of damaged files begins with this. The number of their last line and a counter follow.
const DAMAGED: &str = "damaged-";

/// The name of a file that holds the lines from `first` to `last`.
pub(super) fn aside(log: &Path, first: u64, last: u64) -> PathBuf {
    with_suffix(log, &format!("{first:0DIGITS$}-{last:0DIGITS$}"))
}

/// An unused name for a damaged file that ends with line `last`.
pub(super) fn damaged(log: &Path, last: u64) -> PathBuf {
    let mut names = (0..).map(|number| with_suffix(log, &format!("{DAMAGED}{last}-{number}")));
    names.find(|name| !name.exists()).unwrap_or_else(|| log.with_extension("damaged"))
}

/// The file of a log's checkpoints.
pub(crate) fn checkpoints(log: &Path) -> PathBuf {
    let mut path = log.as_os_str().to_owned();
    path.push(CHECKPOINTS);
    path.into()
}

/// The log's path, if this path is that of its checkpoints.
pub(super) fn log_of_checkpoints(path: &Path) -> Option<PathBuf> {
    Some(path.with_file_name(path.file_name()?.to_str()?.strip_suffix(CHECKPOINTS)?))
}

/// Whether there is a log at this path, or files that rotation or signing has left of one.
pub(crate) fn has_lines(log: &Path) -> bool {
    log.exists() || beside(log).is_ok_and(|files| !files.is_empty())
}

/// The files that rotation has renamed, oldest first.
pub(super) fn rotated(log: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = siblings(log)?;
    found.retain(|path| suffix_after(log, path).and_then(numbers).is_some());
    found.sort();
    Ok(found)
}

/// Everything beside the log that begins with its name and a dot, but for checkpoints and files of other logs.
pub(crate) fn siblings(log: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = beside(log)?;
    found.retain(|path| log_of_checkpoints(path).is_none());
    Ok(found)
}

/// All checkpoints of a log and of its rotated files, whether the log itself is there or not.
pub(crate) fn all_checkpoints(log: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = beside(log)?;
    found.retain(|path| log_of_checkpoints(path).is_some());
    Ok(found)
}

/// Everything beside the log that begins with its name and a dot, but for files of other logs.
pub(super) fn beside(log: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = all_beside(log)?;
    let others = logs_among(log, &found);
    found.retain(|path| !others.iter().any(|other| path == other || suffix_after(other, path).is_some()));
    Ok(found)
}

/// Other logs whose names begin with this one's name and a dot.
pub(crate) fn other_logs(log: &Path) -> io::Result<Vec<PathBuf>> {
    let mut others = logs_among(log, &all_beside(log)?);
    others.sort();
    Ok(others)
}

/// A file with checkpoints of its own is another log, unless rotation has renamed it.
fn logs_among(log: &Path, files: &[PathBuf]) -> Vec<PathBuf> {
    let named = files.iter().filter_map(|path| log_of_checkpoints(path));
    named.filter(|other| other != log && suffix_after(log, other).is_some_and(|suffix| !is_of_log(suffix))).collect()
}

/// Whether a file with this suffix was renamed by us. The suffix may be that of another log's file.
pub(super) fn is_of_log(suffix: &str) -> bool {
    let last = suffix.rsplit_once('.').map_or(suffix, |(_, last)| last);
    numbers(last).is_some() || last.starts_with(DAMAGED)
}

/// A folder that is not there holds nothing.
fn all_beside(log: &Path) -> io::Result<Vec<PathBuf>> {
    let Some(name) = log.file_name().and_then(|name| name.to_str()) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    let entries = match fs::read_dir(folder(log)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?.file_name();
        let entry = entry.to_str().unwrap_or_default();
        if entry.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')) {
            found.push(log.with_file_name(entry));
        }
    }
    Ok(found)
}

pub(super) fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The part of a file's name after the log's name and a dot.
fn suffix_after<'p>(log: &Path, path: &'p Path) -> Option<&'p str> {
    let rest = path.file_name()?.to_str()?.strip_prefix(log.file_name()?.to_str()?)?;
    rest.strip_prefix('.')
}

/// The first and the last line of a rotated file, by the end of its name.
pub(super) fn numbers(suffix: &str) -> Option<(u64, u64)> {
    let number = |text: &str| {
        let is_number = text.len() >= DIGITS && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| text.parse().ok())?
    };
    let (first, last) = suffix.split_once('-')?;
    Some((number(first)?, number(last)?))
}

fn with_suffix(log: &Path, suffix: &str) -> PathBuf {
    let mut path = log.as_os_str().to_owned();
    path.push(".");
    path.push(suffix);
    path.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_its_own_checkpoints_is_another_log() {
        let folder = std::env::temp_dir().join(format!("portcullis-log-paths-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let log = folder.join("audit.jsonl");
        let of_log = ["audit.jsonl.1", "audit.jsonl.000000000001-000000000009", "audit.jsonl.damaged-9-0"];
        let of_other = ["audit.jsonl.b", "audit.jsonl.b.000000000001-000000000009", "audit.jsonl.b.1"];
        for name in of_log.iter().chain(&of_other).chain(&["audit.jsonl", "audit.json"]) {
            fs::write(folder.join(name), "").unwrap();
        }
        for name in ["audit.jsonl", of_log[1], of_other[0], of_other[1]] {
            fs::write(checkpoints(&folder.join(name)), "").unwrap();
        }
        let sorted = |found: io::Result<Vec<PathBuf>>| {
            let mut found = found.unwrap();
            found.sort();
            found
        };
        let mut expected = of_log.map(|name| folder.join(name));
        expected.sort();
        assert_eq!(sorted(siblings(&log)), expected);
        assert_eq!(sorted(all_checkpoints(&log)), [checkpoints(&folder.join(of_log[1])), checkpoints(&log)]);
        assert_eq!(rotated(&log).unwrap(), [folder.join(of_log[1])]);
        let other = folder.join("audit.jsonl.b");
        assert_eq!(other_logs(&log).unwrap(), std::slice::from_ref(&other));
        assert_eq!(rotated(&other).unwrap(), [folder.join(of_other[1])]);
        fs::remove_dir_all(folder).unwrap();
    }
}
