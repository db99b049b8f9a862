//! Files that are replaced as a whole, so that a crash leaves either the old content or the new one.
//!
//! The new content is written to a temporary file in the same folder, flushed, and renamed; then the folder is flushed.
//!
//! Files and folders that are made here get the owner of their folder: a command that root runs leaves no file behind
//! that the gateway, which runs as another user, cannot read. Only a file or folder that this process has just made is
//! given away, and a symbolic link is never followed to a file: the owner of the folder must not choose which file root
//! writes or gives away.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open, openat};
use rustix::process::geteuid;

/// New content for a file. Until [`Self::publish`] the file keeps its old content.
#[derive(Debug)]
pub(crate) struct Replacement {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
}

impl Replacement {
    /// The name of the temporary file is `path` with `.SUFFIX`. Processes that write the same file at the same time
    /// need different suffixes. A file that a crash left under this name is deleted.
    pub(crate) fn create(path: &Path, suffix: &str, mode: u32) -> io::Result<Self> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".");
        temporary.push(suffix);
        let temporary = PathBuf::from(temporary);
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let file = create_new(&temporary, mode)?;
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

/// Makes a file that does not exist yet, to be read and appended to.
pub(crate) fn create_new(path: &Path, mode: u32) -> io::Result<File> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let folder =
        File::from(open(folder_of(path), OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?);
    let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(openat(&folder, name, flags, Mode::from_raw_mode(mode))?);
    // The mode above applies without the bits of the umask.
    file.set_permissions(Permissions::from_mode(mode))?;
    give_to_owner(&folder, &file)?;
    Ok(file)
}

/// Opens an existing file to read and to append. Fails for a symbolic link.
pub(crate) fn open_to_append(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match open(path, flags, Mode::empty()) {
        Err(rustix::io::Errno::LOOP) => Err(io::Error::other("it is a symbolic link, and must be the file itself")),
        opened => Ok(File::from(opened?)),
    }
}

/// Makes a folder, and those above it that are missing.
pub(crate) fn make_folder(folder: &Path, mode: u32) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let above = folder_of(folder);
    make_folder(above, mode)?;
    match DirBuilder::new().mode(mode).create(folder) {
        // Another process was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => return Ok(()),
        made => made?,
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    give_to_owner(&File::open(above)?, &File::from(open(folder, flags, Mode::empty())?))
}

/// Gives a file or folder that this process has made to the owner of its folder, if this process is root's.
fn give_to_owner(folder: &File, made: &File) -> io::Result<()> {
    let (folder, made_by) = (folder.metadata()?, made.metadata()?);
    if !geteuid().is_root() || made_by.uid() != ROOT || folder.uid() == ROOT {
        return Ok(());
    }
    match fchown(made, Some(folder.uid()), Some(folder.gid())) {
        // The root of a container may lack this right. The gateway then runs as this root too.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        given => given,
    }
}

/// Makes the names in a folder durable: without it, a power failure may undo that a file was made or renamed.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

const ROOT: u32 = 0;

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
    fn a_symbolic_link_is_never_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (target, path) = (folder.path().join("target"), folder.path().join("a.json"));
        fs::write(&target, "precious").unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        std::os::unix::fs::symlink(&target, folder.path().join("a.json.new")).unwrap();
        assert!(create_new(&path, 0o600).is_err());
        assert!(open_to_append(&path).unwrap_err().to_string().contains("symbolic link"));
        replace(&path, 0o600, b"new").unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert!(fs::symlink_metadata(&path).unwrap().is_file(), "the link itself was replaced");
    }

    #[test]
    fn files_and_folders_made_by_root_get_the_owner_of_the_folder() {
        if !geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::chown(folder.path(), Some(12_345), Some(12_346)).unwrap();
        make_folder(&folder.path().join("state/keys"), 0o700).unwrap();
        replace(&folder.path().join("state/keys/a.json"), 0o600, b"new").unwrap();
        for path in ["state", "state/keys", "state/keys/a.json"] {
            let made = fs::metadata(folder.path().join(path)).unwrap();
            assert_eq!((made.uid(), made.gid()), (12_345, 12_346), "{path}");
        }
    }

    #[test]
    fn the_folder_of_a_bare_name_is_the_current_one() {
        assert_eq!(folder_of(Path::new("a.json")), Path::new("."));
        assert_eq!(folder_of(Path::new("state/a.json")), Path::new("state"));
    }
}
