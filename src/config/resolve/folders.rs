//! Checks, without writing, whether the gateway could create its folders and write its files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, PROC_SUPER_MAGIC, access, statfs};

use super::super::diagnostics::Reported;
use super::super::source::At;
use super::Resolver;
use crate::telemetry::error_chain;

impl Resolver<'_> {
    /// Checks a folder that the gateway creates, or in which it creates files. `need` names the use of the folder and
    /// the remedy.
    pub(super) fn writable_folder(&mut self, at: &At<PathBuf>, folder: &Path, need: &str) -> Result<(), Reported> {
        check_folder(folder).map_err(|error| self.unwritable("create files in", at, (folder, need), &error))
    }

    /// Checks a file that the gateway appends to. It may not exist yet.
    pub(super) fn writable_file(&mut self, at: &At<PathBuf>, file: &Path, need: &str) -> Result<(), Reported> {
        let is_there = fs::symlink_metadata(file).is_ok();
        let checked =
            if is_there { may(file, Access::READ_OK | Access::WRITE_OK) } else { check_folder(folder_of(file)) };
        checked.map_err(|error| self.unwritable("write", at, (file, need), &error))
    }

    fn unwritable(
        &mut self,
        action: &str,
        at: &At<PathBuf>,
        (path, need): (&Path, &str),
        error: &io::Error,
    ) -> Reported {
        let shown = path.display().to_string();
        let reason = error_chain::reason(error);
        let or_run = if error.kind() == io::ErrorKind::PermissionDenied { ", or run as its owner" } else { "" };
        let mut message = format!("cannot {action} `{shown}`: {reason}; {need}{or_run}");
        if self.source.has_references(at.span) {
            // A variable may hold a secret, for example a private key instead of its path.
            let written = self.source.quote(at.span).unwrap_or_else(|| "the path".to_owned());
            message = format!("cannot {action} {written}: {reason}; {need}{or_run}");
        }
        self.faults.at(at.span, message)
    }
}

fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn check_folder(folder: &Path) -> io::Result<()> {
    match fs::metadata(folder) {
        Ok(metadata) if !metadata.is_dir() => Err(io::ErrorKind::NotADirectory.into()),
        Ok(_) if is_virtual(folder) => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
        Ok(_) => may(folder, Access::WRITE_OK | Access::EXEC_OK),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Err(_) if fs::symlink_metadata(folder).is_ok() => {
            Err(io::Error::new(io::ErrorKind::AlreadyExists, "it is a symbolic link to a missing file"))
        }
        Err(_) => check_folder(folder_of(folder)),
    }
}

/// Checks a permission for the user and groups of this process.
fn may(path: &Path, what: Access) -> io::Result<()> {
    access(path, what).map_err(io::Error::from)
}

/// /proc accepts no new files, regardless of its permissions.
fn is_virtual(folder: &Path) -> bool {
    statfs(folder).is_ok_and(|found| found.f_type == PROC_SUPER_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn gives(folder: &Path, expected: Option<io::ErrorKind>) {
        assert_eq!(check_folder(folder).err().map(|error| error.kind()), expected, "{}", folder.display());
    }

    #[test]
    fn a_folder_that_can_not_be_made_is_found_before() {
        let home = std::env::temp_dir().join(format!("portcullis-folders-{}", std::process::id()));
        fs::create_dir_all(&home).unwrap();
        fs::write(home.join("file"), "").unwrap();
        std::os::unix::fs::symlink("nowhere", home.join("link")).unwrap();
        gives(&home, None);
        gives(&home.join("new/folder"), None);
        gives(&home.join("file"), Some(io::ErrorKind::NotADirectory));
        gives(&home.join("file/below"), Some(io::ErrorKind::NotADirectory));
        gives(&home.join("link"), Some(io::ErrorKind::AlreadyExists));
        gives(&home.join("link/below"), Some(io::ErrorKind::AlreadyExists));
        gives(Path::new("/proc/none/below"), Some(io::ErrorKind::ReadOnlyFilesystem));
        assert_eq!(fs::read_dir(&home).unwrap().count(), 2, "nothing was made");
        fs::remove_dir_all(home).unwrap();
    }
}
