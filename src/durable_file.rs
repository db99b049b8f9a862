//! Files that are replaced as a whole, so that a crash leaves either the old content or the new one.
//!
//! The new content is written to a temporary file in the same folder, flushed, and renamed; then the folder is flushed.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// New content for a file. Until [`Self::publish`] the file keeps its old content.
#[derive(Debug)]
pub(crate) struct Replacement {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
}

impl Replacement {
    /// The name of the temporary file is `path` with `.SUFFIX`. Processes that write the same file at the same time
    /// need different suffixes. A file that a crash left under this name is overwritten.
    pub(crate) fn create(path: &Path, suffix: &str, mode: u32) -> io::Result<Self> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".");
        temporary.push(suffix);
        let temporary = PathBuf::from(temporary);
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
        // The mode above applies to a file that is made, and only without the bits of the umask.
        file.set_permissions(Permissions::from_mode(mode))?;
        Ok(Self { file, temporary, path: path.to_owned() })
    }

    /// The temporary file, to lock it.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Replaces the content. A lock on the temporary file is held until the folder is flushed.
    pub(crate) fn publish(mut self, content: &[u8]) -> io::Result<()> {
        self.file.write_all(content)?;
        self.file.sync_all()?;
        fs::rename(&self.temporary, &self.path)?;
        sync_folder(folder_of(&self.path))
    }
}

/// Replaces the content of a file that no other process writes at the same time.
pub(crate) fn replace(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    Replacement::create(path, "new", mode)?.publish(content)
}

/// Makes the names in a folder durable: without it, a power failure may undo that a file was made or renamed.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// The folder of a file; `.` if the path has none.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_has_the_new_content_and_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        fs::write(&path, "old").unwrap();
        fs::write(folder.path().join("a.json.new"), "left by a crash, and longer than the new content").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        replace(&path, 0o600, b"new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "the temporary file is gone");
    }

    #[test]
    fn a_failure_keeps_the_old_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        fs::create_dir(&path).unwrap();
        assert!(replace(&path, 0o600, b"new").is_err(), "a folder has the name");
        assert!(path.is_dir());
        assert!(replace(&folder.path().join("missing/a.json"), 0o600, b"new").is_err());
    }

    #[test]
    fn the_folder_of_a_bare_name_is_the_current_one() {
        assert_eq!(folder_of(Path::new("a.json")), Path::new("."));
        assert_eq!(folder_of(Path::new("state/a.json")), Path::new("state"));
    }
}
