//! Renames files that are full or old after the numbers of their lines, and removes the oldest.
//!
//! The chain continues in the new file. For rotation by another program, set both limits to `unlimited`: a renamed file
//! is noticed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::log_paths::{checkpoints, rotated};
use crate::clock::UnixTime;

/// When a file is rotated, and how many are kept. `None` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rotation {
    pub(crate) size: Option<u64>,
    pub(crate) age: Option<Duration>,
    pub(crate) keep: Option<usize>,
}

impl Rotation {
    /// The size of all files together, without checkpoints and damaged files; `None` is no limit.
    pub(super) fn max_total(&self) -> Option<u64> {
        Some(self.size?.saturating_mul(self.keep? as u64 + 1))
    }

    /// Whether a file that began at `began` is to be rotated before `more` bytes are added to its `length`.
    pub(super) fn is_due(&self, length: u64, more: u64, began: UnixTime, now: UnixTime) -> bool {
        let full = self.size.is_some_and(|size| length.saturating_add(more) > size);
        let old = self.age.is_some_and(|age| began.plus(age) <= now);
        length > 0 && (full || old)
    }
}

/// Renames a log and its checkpoints.
pub(super) fn rename(log: &Path, to: &Path) -> io::Result<()> {
    if to.exists() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    fs::rename(log, to)?;
    match fs::rename(checkpoints(log), checkpoints(to)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The oldest files, which are more than are to be kept.
pub(super) fn surplus(log: &Path, keep: Option<usize>) -> io::Result<Vec<PathBuf>> {
    let Some(keep) = keep else { return Ok(Vec::new()) };
    let mut aside = rotated(log)?;
    aside.truncate(aside.len().saturating_sub(keep));
    Ok(aside)
}

/// Removes a rotated file and its checkpoints.
pub(super) fn remove(old: &Path) -> io::Result<()> {
    fs::remove_file(old)?;
    match fs::remove_file(checkpoints(old)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::log_paths::aside;

    #[test]
    fn a_file_is_due_when_it_would_be_too_large_or_is_too_old() {
        let [began, later] = [100, 160].map(UnixTime::from_seconds);
        let none = Rotation { size: None, age: None, keep: None };
        assert!(!none.is_due(u64::MAX, 1, began, later));
        let by_size = Rotation { size: Some(100), ..none };
        assert_eq!(by_size.max_total(), None);
        assert_eq!(Rotation { keep: Some(3), ..by_size }.max_total(), Some(400));
        assert!(by_size.is_due(90, 11, began, began) && !by_size.is_due(90, 10, began, began));
        assert!(!by_size.is_due(0, 1000, began, began), "an empty file takes lines of any size");
        let by_age = Rotation { age: Some(Duration::from_secs(60)), ..none };
        assert!(by_age.is_due(1, 1, began, later) && !by_age.is_due(1, 1, began, began));
    }

    #[test]
    fn only_rotated_files_are_removed_the_oldest_first() {
        let folder = std::env::temp_dir().join(format!("portcullis-rotation-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let log = folder.join("audit.jsonl");
        for (first, last) in [(1, 9), (10, 99), (100, 1_000_000_000_000)] {
            fs::write(&log, "").unwrap();
            fs::write(checkpoints(&log), "").unwrap();
            rename(&log, &aside(&log, first, last)).unwrap();
        }
        for other in ["audit.jsonl", "audit.jsonl.1", "audit.jsonl.gz", "audit.jsonl.1-2", "audit.json"] {
            fs::write(folder.join(other), "").unwrap();
        }
        assert_eq!(surplus(&log, None).unwrap(), [] as [PathBuf; 0]);
        let old = surplus(&log, Some(1)).unwrap();
        assert_eq!(old, [aside(&log, 1, 9), aside(&log, 10, 99)]);
        old.iter().for_each(|old| remove(old).unwrap());
        // The third and its checkpoints, and the five others.
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 7);
        fs::remove_dir_all(folder).unwrap();
    }
}
