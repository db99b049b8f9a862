//! The configurations that were in use, without their secrets: `configs/REVISION.yaml` in `state_directory`.
//!
//! They let a command decide a past request again under the configuration that decided it. A failure to keep one is
//! logged, and refuses nothing. A file is removed when no file of the audit log can name it any more.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf, absolute};
use std::time::{Duration, SystemTime};

use tracing::warn;

use crate::audit::recovery::oldest_line;
use crate::clock::UnixTime;
use crate::config::types::Config;
use crate::durable_file::{Replacement, make_folder};
use crate::telemetry::error_chain::reason;

/// A configuration to be kept.
#[derive(Debug)]
pub(super) struct KeptRevision {
    folder: PathBuf,
    revision: String,
    text: String,
    /// `None` if the lines go to standard output.
    log: Option<PathBuf>,
}

/// The file of a revision. `None` if the text is no revision.
pub(crate) fn path(state_directory: &Path, revision: &str) -> Option<PathBuf> {
    let is_legal = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f' | b'-');
    let is_revision = (12..=19).contains(&revision.len()) && revision.bytes().all(is_legal);
    is_revision.then(|| state_directory.join(FOLDER).join(format!("{revision}.yaml")))
}

impl KeptRevision {
    pub(super) fn of(config: &mut Config) -> Self {
        Self {
            folder: config.state_directory.clone(),
            revision: config.id.clone(),
            text: std::mem::take(&mut config.masked),
            log: config.audit.target.file().map(Path::to_owned),
        }
    }

    /// Writes the file, and removes those that no line can name. Blocks.
    pub(super) fn keep(self) {
        let Some(path) = path(&self.folder, &self.revision) else { return };
        let folder = self.folder.join(FOLDER);
        if self.text.len() as u64 > MAX_BYTES {
            warn!(
                config = self.revision,
                "the configuration is too long to be kept: its decisions cannot be explained"
            );
            return;
        }
        let log = self.log.as_deref().and_then(|log| absolute(log).ok());
        let header = header(log.as_deref());
        let suffix = format!("new-{}", std::process::id());
        let kept = make_folder(&folder, FOLDER_MODE)
            .and_then(|()| Replacement::create(&path, &suffix, FILE_MODE))
            .and_then(|file| file.publish(format!("{header}\n{}", self.text).as_bytes()));
        if let Err(error) = kept {
            let (path, reason) = (path.display(), reason(&error));
            warn!("cannot keep the configuration in `{path}`: {reason}; its decisions cannot be explained later");
        }
        let oldest = log.as_deref().and_then(oldest_line);
        if let Err(error) = prune(&folder, &path, (&header, oldest)) {
            warn!("cannot remove old configurations from `{}`: {}", folder.display(), reason(&error));
        }
    }
}

/// The first line of a file. Several gateways may share the folder, and each judges by its own log.
fn header(log: Option<&Path>) -> String {
    log.map_or_else(|| "# decisions on standard output".to_owned(), |log| format!("# decisions in {log:?}"))
}

/// Whether the file has this first line.
fn begins_with(path: &Path, header: &str) -> bool {
    let mut line = String::new();
    let read = File::open(path).and_then(|file| BufReader::new(file).take(MAX_HEADER).read_line(&mut line));
    read.is_ok() && line.trim_end() == header
}

/// Removes the files that were replaced before the oldest line of their log, and the oldest ones beyond the limits.
fn prune(folder: &Path, in_use: &Path, (header, oldest): (&str, Option<UnixTime>)) -> io::Result<()> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (path, metadata) = (entry.path(), entry.metadata()?);
        if path.extension().is_some_and(|end| end == "yaml") && metadata.is_file() {
            files.push((metadata.modified()?, path, metadata.len()));
        }
    }
    files.sort();
    let oldest = oldest.map(|time| SystemTime::UNIX_EPOCH + Duration::from_secs(time.seconds()));
    let (mut count, mut bytes, mut replaced_at) = (0, 0, None);
    for (began, path, length) in files.into_iter().rev() {
        count += 1;
        bytes += length;
        // In use up to the time at which the next one of the same gateway came.
        let is_ours = begins_with(&path, header);
        let is_over = is_ours && replaced_at.zip(oldest).is_some_and(|(until, oldest)| until < oldest);
        if (is_over || count > MAX_FILES || bytes > MAX_BYTES) && path != in_use {
            fs::remove_file(&path)?;
        }
        replaced_at = if is_ours { Some(began) } else { replaced_at };
    }
    Ok(())
}

const FOLDER: &str = "configs";
const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// Longer than any path.
const MAX_HEADER: u64 = 16 << 10;
const MAX_FILES: usize = 1000;
/// Of all files together.
const MAX_BYTES: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const OURS: &str = "# decisions in \"/a\"";

    fn folder_with(ages: &[u64]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for age in ages {
            let mut file = File::create(folder.path().join(format!("{age:012}.yaml"))).unwrap();
            writeln!(file, "{OURS}").unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 - age)).unwrap();
        }
        folder
    }

    fn left(folder: &Path) -> Vec<u64> {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut ages: Vec<u64> = names.map(|name| name.trim_end_matches(".yaml").parse().unwrap()).collect();
        ages.sort_unstable();
        ages
    }

    #[test]
    fn a_revision_is_removed_when_it_ended_before_the_oldest_line() {
        let folder = folder_with(&[0, 10, 20, 30]);
        let in_use = folder.path().join(format!("{:012}.yaml", 0));
        prune(folder.path(), &in_use, (OURS, None)).unwrap();
        assert_eq!(left(folder.path()), [0, 10, 20, 30]);
        // The one of 20 was in use up to 10 before the end.
        let oldest = Some(UnixTime::from_seconds(1_000_000 - 15));
        prune(folder.path(), &in_use, ("# decisions in \"/b\"", oldest)).unwrap();
        assert_eq!(left(folder.path()).len(), 4, "they belong to another gateway");
        prune(folder.path(), &in_use, (OURS, oldest)).unwrap();
        assert_eq!(left(folder.path()), [0, 10, 20]);
    }

    #[test]
    fn the_number_of_revisions_is_bounded_and_the_one_in_use_stays() {
        let ages: Vec<u64> = (0..1010).collect();
        let folder = folder_with(&ages);
        let in_use = folder.path().join(format!("{:012}.yaml", 1009));
        prune(folder.path(), &in_use, (OURS, None)).unwrap();
        let left = left(folder.path());
        assert_eq!((left.len(), left.first(), left.last()), (1001, Some(&0), Some(&1009)));
    }

    #[test]
    fn only_a_revision_is_the_name_of_a_file() {
        let state = Path::new("state");
        assert_eq!(path(state, "6687ad24ccda-93ab12"), Some(PathBuf::from("state/configs/6687ad24ccda-93ab12.yaml")));
        for other in ["", "../../etc/passwd", "6687ad24ccd/", "6687ad24ccda-93ab12-93ab12"] {
            assert_eq!(path(state, other), None, "{other}");
        }
    }
}
