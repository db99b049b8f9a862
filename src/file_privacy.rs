//! Decides whether a file or folder that must be private is open to other users.
//!
//! Containers have two forms of their own. A secret comes with mode 0644 on a read-only tmpfs, which only the processes
//! of the container see. A volume belongs to root and to a group that Kubernetes gives to the container (`fsGroup`):
//! its folders have the set-group-id bit, and folders and files are open to that group. Both are accepted. Other users
//! never are.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{StatVfsMountFlags, fstatfs, fstatvfs};
use rustix::process::{getegid, geteuid, getgroups};

/// A mode that gives access to other users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooOpen {
    pub(crate) mode: u32,
    /// The remedy for this path.
    pub(crate) remedy: &'static str,
}

const GROUP: u32 = 0o070;
const OTHERS: u32 = 0o007;
const SET_GROUP_ID: u32 = 0o2000;
const PERMISSIONS: u32 = 0o777;
/// The types of file systems that are in memory (statfs(2)).
const TMPFS: u32 = 0x0102_1994;
const RAMFS: u32 = 0x8584_58f6;

const SET_KEY: &str = "set it to 600, or mount it as a secret of the container: read-only, on a tmpfs";
const SET_FILE: &str = "set it to 600";
const SET_FOLDER: &str = "set it to 700";
const BELOW: &str = "it belongs to another user: set a folder below it, which the gateway makes itself";

/// Checks an open private key. Its group may read it.
pub(crate) fn check_key(key: &File) -> io::Result<Result<(), TooOpen>> {
    let mode = key.metadata()?.mode() & PERMISSIONS;
    let is_open = mode & OTHERS != 0 && !is_container_secret(key)?;
    Ok(if is_open { Err(TooOpen { mode, remedy: SET_KEY }) } else { Ok(()) })
}

/// Checks a file that the gateway has made.
pub(crate) fn check_file(path: &Path) -> io::Result<Result<(), TooOpen>> {
    let file = fs::metadata(path)?;
    let folder = fs::metadata(path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")))?;
    let is_of_volume = folder.mode() & SET_GROUP_ID != 0 && folder.gid() == file.gid();
    let tolerated = if is_of_volume && is_own_group(file.gid()) { GROUP } else { 0 };
    Ok(exposed(&file, (GROUP | OTHERS) & !tolerated, SET_FILE))
}

/// Checks a folder. `refused` are the permissions that others must not have; the gateway's own group may have them.
pub(crate) fn check_folder(path: &Path, refused: u32) -> io::Result<Result<(), TooOpen>> {
    let folder = fs::metadata(path)?;
    let tolerated = if is_own_group(folder.gid()) { GROUP } else { 0 };
    let is_ours = folder.uid() == geteuid().as_raw() || geteuid().is_root();
    Ok(exposed(&folder, refused & !tolerated, if is_ours { SET_FOLDER } else { BELOW }))
}

fn exposed(metadata: &Metadata, refused: u32, remedy: &'static str) -> Result<(), TooOpen> {
    let mode = metadata.mode() & PERMISSIONS;
    if mode & refused == 0 { Ok(()) } else { Err(TooOpen { mode, remedy }) }
}

/// Whether it is on a read-only mount of a file system in memory.
fn is_container_secret(file: &File) -> io::Result<bool> {
    // The type's width depends on the platform; the numbers have 32 bits.
    let kind = fstatfs(file)?.f_type as u32;
    Ok(matches!(kind, TMPFS | RAMFS) && fstatvfs(file)?.f_flag.contains(StatVfsMountFlags::RDONLY))
}

fn is_own_group(group: u32) -> bool {
    getegid().as_raw() == group || getgroups().is_ok_and(|groups| groups.iter().any(|own| own.as_raw() == group))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, chown};
    use std::path::PathBuf;

    use tempfile::{TempDir, tempdir};

    use super::*;

    /// A group that no process of the tests is in.
    const FOREIGN: u32 = 54_321;

    fn path_of_mode(folder: &TempDir, name: &str, mode: u32) -> PathBuf {
        let path = folder.path().join(name);
        fs::write(&path, "secret").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn a_key_is_closed_to_others_on_a_usual_disk() {
        let folder = tempdir().unwrap();
        for (mode, is_private) in [(0o600, true), (0o640, true), (0o604, false), (0o644, false), (0o666, false)] {
            let key = File::open(path_of_mode(&folder, "key", mode)).unwrap();
            assert_eq!(check_key(&key).unwrap().is_ok(), is_private, "{mode:o}");
        }
    }

    #[test]
    fn files_are_open_to_the_own_group_only_in_its_volume() {
        let folder = tempdir().unwrap();
        let file = path_of_mode(&folder, "key", 0o660);
        fs::set_permissions(folder.path(), Permissions::from_mode(0o770)).unwrap();
        assert_eq!(check_file(&file).unwrap(), Err(TooOpen { mode: 0o660, remedy: SET_FILE }));
        fs::set_permissions(folder.path(), Permissions::from_mode(0o2770)).unwrap();
        assert_eq!(check_file(&file).unwrap(), Ok(()));
        fs::set_permissions(&file, Permissions::from_mode(0o664)).unwrap();
        assert!(check_file(&file).unwrap().is_err(), "open to all");
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(check_file(&file).unwrap(), Ok(()));
    }

    #[test]
    fn a_folder_may_be_writable_to_the_own_group_and_to_no_other() {
        let folder = tempdir().unwrap();
        let check = |mode| {
            fs::set_permissions(folder.path(), Permissions::from_mode(mode)).unwrap();
            check_folder(folder.path(), 0o022).unwrap().is_ok()
        };
        assert_eq!(
            [0o700, 0o755, 0o770, 0o2770, 0o775, 0o772, 0o777].map(check),
            [true, true, true, true, true, false, false]
        );
        if geteuid().is_root() {
            chown(folder.path(), None, Some(FOREIGN)).unwrap();
            assert_eq!([0o755, 0o770, 0o2770].map(check), [true, false, false]);
        }
    }
}
