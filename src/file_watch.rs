//! Notices that files have new content, through symbolic links.
//!
//! A file is looked at by device, inode, times and length; its content is read where one of these is new, or so recent
//! that a later change could have left them the same. New content counts when two readings in a row agree, and only if
//! it is still there after it was used: so a file that is being written is never taken for whole, and a certificate is
//! not paired with the key of another.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use rustix::fs::{Mode, OFlags};
use zeroize::Zeroizing;

/// Files that belong together.
#[derive(Clone, Debug, Default)]
pub(crate) struct FileWatch {
    files: Vec<WatchedFile>,
    /// The content that was used last.
    used: Vec<FileContent>,
    /// Other content, seen once so far.
    seen: Option<Vec<FileContent>>,
}

#[derive(Clone, Debug)]
struct WatchedFile {
    path: PathBuf,
    last: Option<(Stamp, FileContent)>,
}

/// The marks of a change that cost no reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum FileContent {
    /// The content that was used is not known.
    Unknown,
    Missing(io::ErrorKind),
    /// The permissions count as content: they decide whether a key is accepted.
    Readable {
        mode: u32,
        owner: (u32, u32),
        digest: [u8; 32],
    },
}

/// A change within this time of the last one may not change the stamp: file systems count coarsely.
const RECENT_SECONDS: i64 = 3;
/// The rest of a longer file is not looked at.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

impl FileWatch {
    /// Watches from the present content on. The caller must read the files after this call, not before.
    pub(crate) fn new(paths: Vec<PathBuf>) -> Self {
        let mut watch = Self {
            files: paths.into_iter().map(|path| WatchedFile { path, last: None }).collect(),
            used: Vec::new(),
            seen: None,
        };
        watch.used = watch.read(0);
        watch
    }

    /// Whether both were made of, or have used, the same content.
    pub(crate) fn has_same_content(&self, other: &Self) -> bool {
        self.used == other.used
    }

    /// The same files from their present content on. The caller must read the files after this call, not before.
    pub(crate) fn afresh(&self) -> Self {
        Self::new(self.files.iter().map(|file| file.path.clone()).collect())
    }

    /// The paths of the files.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.files.iter().map(|file| &file.path)
    }

    /// Watches these files in the place of the earlier ones. The content that was used of an added file was read at
    /// `since` or later, and is not known if the file may have changed after that.
    pub(crate) fn for_files(self, paths: impl IntoIterator<Item = PathBuf>, since: u64) -> Self {
        let before: HashMap<PathBuf, (WatchedFile, FileContent)> =
            self.files.into_iter().zip(self.used).map(|(file, used)| (file.path.clone(), (file, used))).collect();
        let added = |path| {
            let mut file = WatchedFile { path, last: None };
            let content = file.read(since);
            let may_be_newer = file.last.as_ref().is_some_and(|(stamp, _)| stamp.is_recent(since));
            (file, if may_be_newer { FileContent::Unknown } else { content })
        };
        let all = paths.into_iter().map(|path| before.get(&path).cloned().unwrap_or_else(|| added(path)));
        let (files, used) = all.unzip();
        Self { files, used, seen: None }
    }

    /// To be called at intervals. Uses the files by `load` if they have new content that has settled. `now` is in
    /// seconds since 1970.
    pub(crate) fn poll<T>(&mut self, now: u64, load: impl FnOnce() -> T) -> Option<T> {
        if self.has_settled(now) { self.use_settled(now, load) } else { None }
    }

    /// To be called at intervals. Whether the files have new content, which two readings in a row agree on.
    pub(crate) fn has_settled(&mut self, now: u64) -> bool {
        let found = self.read(now);
        let is_new = found != self.used;
        let has_settled = is_new && self.seen.as_ref() == Some(&found);
        self.seen = is_new.then_some(found);
        has_settled
    }

    /// Takes content that has settled as used.
    pub(crate) fn accept(&mut self) {
        if let Some(found) = self.seen.take() {
            self.used = found;
        }
    }

    /// Uses content that has settled by `load`. `None` if the files have changed meanwhile.
    pub(crate) fn use_settled<T>(&mut self, now: u64, load: impl FnOnce() -> T) -> Option<T> {
        let found = self.seen.take()?;
        let loaded = load();
        let after = self.read(now);
        if after != found {
            self.seen = Some(after);
            return None;
        }
        self.used = found;
        self.seen = None;
        Some(loaded)
    }

    fn read(&mut self, now: u64) -> Vec<FileContent> {
        self.files.iter_mut().map(|file| file.read(now)).collect()
    }
}

impl WatchedFile {
    fn read(&mut self, now: u64) -> FileContent {
        let metadata = match fs::metadata(&self.path) {
            Ok(metadata) => metadata,
            Err(error) => {
                self.last = None;
                return FileContent::Missing(error.kind());
            }
        };
        let stamp = Stamp::of(&metadata);
        match &self.last {
            Some((last, content)) if *last == stamp && !stamp.is_recent(now) => content.clone(),
            Some(_) | None => {
                let content = self.content().unwrap_or_else(|error| FileContent::Missing(error.kind()));
                self.last = Some((stamp, content.clone()));
                content
            }
        }
    }

    fn content(&self) -> io::Result<FileContent> {
        let (file, metadata) = open_regular(&self.path)?;
        let mut bytes = Zeroizing::new(Vec::new());
        file.take(MAX_BYTES).read_to_end(&mut bytes)?;
        let digest = digest(&SHA256, &bytes).as_ref().try_into().unwrap_or_default();
        Ok(FileContent::Readable { mode: metadata.mode(), owner: (metadata.uid(), metadata.gid()), digest })
    }
}

/// Opens a file to read it. Opening a pipe would wait for a writer, and a device may never end: both are refused.
pub(crate) fn open_regular(path: &Path) -> io::Result<(File, Metadata)> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if metadata.is_file() { Ok((file, metadata)) } else { Err(io::Error::other("not a regular file")) }
}

/// The content of such a file, if it is not too long for a file that is watched.
pub(crate) fn read_regular(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    read_whole(open_regular(path)?.0)
}

/// The content of an open file, if it is not too long for a file that is watched.
pub(crate) fn read_whole(file: File) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    let length = file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if length as u64 > MAX_BYTES { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            file: (metadata.dev(), metadata.ino()),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Times in the future count as recent: the clocks of a file server and of this machine may differ.
    fn is_recent(self, now: u64) -> bool {
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        [self.modified.0, self.changed.0].iter().any(|time| time.saturating_add(RECENT_SECONDS) >= now)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use tempfile::tempdir;

    use super::*;

    /// So late that no stamp is recent.
    const LATER: u64 = 1 << 40;

    fn watch(paths: &[&Path]) -> FileWatch {
        FileWatch::new(paths.iter().map(|path| path.to_path_buf()).collect())
    }

    #[track_caller]
    fn is_used_at_second_look(watch: &mut FileWatch, now: u64) {
        assert_eq!([(); 4].map(|()| watch.poll(now, || ()).is_some()), [false, true, false, false]);
    }

    #[test]
    fn new_content_is_used_when_two_readings_agree() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("a.crt");
        fs::write(&path, "one").unwrap();
        let mut watch = watch(&[&path]);
        assert_eq!(watch.poll(LATER, || ()), None);
        // In place, of the same length: what is recent is read whatever its stamp says.
        fs::write(&path, "two").unwrap();
        is_used_at_second_look(&mut watch, 0);
        let other = folder.path().join("new");
        fs::write(&other, "three").unwrap();
        fs::rename(&other, &path).unwrap();
        is_used_at_second_look(&mut watch, LATER);
        fs::remove_file(&path).unwrap();
        is_used_at_second_look(&mut watch, LATER);
    }

    #[test]
    fn files_without_an_end_are_refused_at_once() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("a");
        assert!(read_regular(folder.path()).is_err_and(|error| error.kind() == io::ErrorKind::IsADirectory));
        assert_eq!(read_regular(Path::new("/dev/zero")).unwrap_err().to_string(), "not a regular file");
        let file = File::create(&path).unwrap();
        file.set_len(MAX_BYTES).unwrap();
        assert!(read_regular(&path).is_ok());
        file.set_len(MAX_BYTES + 1).unwrap();
        assert!(read_regular(&path).is_err_and(|error| error.kind() == io::ErrorKind::FileTooLarge));
    }

    #[test]
    fn the_swap_of_a_link_above_the_file_is_seen() {
        let folder = tempdir().unwrap();
        // As Kubernetes does it: a.crt → ..data/a.crt, ..data → ..1.
        for (version, content) in [("..1", "one"), ("..2", "two")] {
            fs::create_dir(folder.path().join(version)).unwrap();
            fs::write(folder.path().join(version).join("a.crt"), content).unwrap();
        }
        symlink("..1", folder.path().join("..data")).unwrap();
        let path = folder.path().join("a.crt");
        symlink("..data/a.crt", &path).unwrap();
        let mut watch = watch(&[&path]);
        symlink("..2", folder.path().join("..data_tmp")).unwrap();
        fs::rename(folder.path().join("..data_tmp"), folder.path().join("..data")).unwrap();
        is_used_at_second_look(&mut watch, LATER);
    }

    #[test]
    fn the_same_content_in_another_file_is_no_change() {
        let folder = tempdir().unwrap();
        let [path, other] = ["a.crt", "new"].map(|name| folder.path().join(name));
        fs::write(&path, "one").unwrap();
        let mut watch = watch(&[&path]);
        fs::write(&other, "one").unwrap();
        fs::rename(&other, &path).unwrap();
        assert_eq!([(); 3].map(|()| watch.poll(LATER, || ())), [None; 3]);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        is_used_at_second_look(&mut watch, LATER);
    }

    #[test]
    fn an_added_file_counts_as_used_unless_it_may_be_newer() {
        let folder = tempdir().unwrap();
        let [old, new, missing] = ["old", "new", "missing"].map(|name| folder.path().join(name));
        fs::write(&old, "one").unwrap();
        fs::write(&new, "one").unwrap();
        let watch = watch(&[&old]);
        assert_eq!(watch.paths().collect::<Vec<_>>(), [&old]);
        let all = vec![old.clone(), new.clone(), missing.clone()];
        // Read at a time long after the files were written.
        let mut certain = watch.clone().for_files(all.clone(), LATER);
        assert_eq!([(); 3].map(|()| certain.has_settled(LATER)), [false; 3]);
        fs::write(&missing, "one").unwrap();
        assert_eq!([(); 3].map(|()| certain.has_settled(LATER)), [false, true, true]);
        certain.accept();
        assert_eq!([(); 3].map(|()| certain.has_settled(LATER)), [false; 3]);
        // Read at a time before: what was used is not known.
        let mut uncertain = watch.for_files(all, 0);
        assert_eq!([(); 3].map(|()| uncertain.has_settled(0)), [false, true, true]);
        assert_eq!(uncertain.use_settled(0, || ()), Some(()));
        assert!(!uncertain.has_settled(0) && uncertain.afresh().has_same_content(&uncertain));
    }

    #[test]
    fn files_that_change_while_they_are_used_are_used_again() {
        let folder = tempdir().unwrap();
        let [certificate, key] = ["a.crt", "a.key"].map(|name| folder.path().join(name));
        fs::write(&certificate, "one").unwrap();
        fs::write(&key, "one").unwrap();
        let mut watch = watch(&[&certificate, &key]);
        fs::write(&certificate, "two").unwrap();
        assert_eq!(watch.poll(0, || ()), None);
        assert_eq!(watch.poll(0, || fs::write(&key, "two").unwrap()), None, "the key came later");
        assert_eq!(watch.poll(0, || ()), Some(()));
        assert_eq!(watch.poll(0, || ()), None);
    }
}
