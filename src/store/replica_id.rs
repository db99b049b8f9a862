//! The id of this replica in the store, and the ids of former processes with the same state directory.
//!
//! A process that crashed has not removed itself from the store, so the others reserve its share of the limits for ten
//! minutes. The next process with this directory finds the lock free, and removes the former one. Two processes that
//! run with one directory are two replicas, and only the first one keeps the file.

use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use aws_lc_rs::rand;
use base64::Engine as _;
use tracing::{error, warn};

use crate::durable_file;
use crate::jose::BASE64URL;

/// Random at each start.
#[derive(Debug)]
pub(crate) struct ReplicaId {
    own: String,
    /// The ids of processes that have ended, and may still be in the store.
    former: Vec<String>,
    /// Locked as long as this process runs. `None`: another process has the lock, or the file cannot be used.
    file: Option<File>,
}

const FILE: &str = "replica";
const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;
const ID_BYTES: usize = 16;
/// Older ids are dropped, because the store removes them after ten minutes.
const MOST_FORMER: usize = 64;
const MOST_BYTES: u64 = 4096;

impl ReplicaId {
    pub(crate) fn open(directory: &Path) -> Self {
        let mut id = Self { own: random_id(), former: Vec::new(), file: None };
        if let Err(error) = id.take_over(directory) {
            warn!(
                %error,
                "cannot use the file `{FILE}` of the state directory: if this process crashes, the other replicas \
                 reserve its share of the limits for ten minutes"
            );
        }
        id
    }

    pub(super) fn own(&self) -> &str {
        &self.own
    }

    /// The processes that have ended and are to be removed from the store.
    pub(super) fn former(&self) -> &[String] {
        &self.former
    }

    /// Drops the former ids, which are removed from the store.
    pub(super) fn forget_former(&mut self) {
        if !self.former.is_empty() {
            self.former.clear();
            // If this fails, they are removed again, without effect.
            let _ = self.write();
        }
    }

    fn take_over(&mut self, directory: &Path) -> io::Result<()> {
        durable_file::make_folder(directory, FOLDER_MODE)?;
        let path = directory.join(FILE);
        let mut file = match durable_file::create_new(&path, FILE_MODE) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => durable_file::open_to_append(&path)?,
            made => made?,
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let mut text = String::new();
        (&mut file).take(MOST_BYTES).read_to_string(&mut text)?;
        self.former = text.lines().filter(|line| is_id(line)).take(MOST_FORMER).map(str::to_owned).collect();
        self.file = Some(file);
        self.write()
    }

    /// The newest first.
    fn write(&mut self) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let ids: Vec<&str> = std::iter::once(&self.own).chain(&self.former).map(String::as_str).collect();
        file.set_len(0)?;
        file.write_all((ids.join("\n") + "\n").as_bytes())
    }
}

pub(super) fn random_id() -> String {
    let mut bytes = [0; ID_BYTES];
    // Without random bytes all replicas would count as one. A process without them cannot make keys either.
    if rand::fill(&mut bytes).is_err() {
        error!("there are no random bytes for the id of this replica");
    }
    BASE64URL.encode(bytes)
}

fn is_id(text: &str) -> bool {
    text.len() == ID_BYTES.div_ceil(3) * 4 - 2 && BASE64URL.decode(text).is_ok()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("portcullis-replica-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        folder
    }

    #[test]
    fn a_replica_knows_the_former_processes_of_its_folder() {
        let folder = folder("former");
        let opened = || ReplicaId::open(&folder);
        let ids = |id: ReplicaId| (id.own().to_owned(), id.former().to_vec());
        let (first, former) = ids(opened());
        assert!(former.is_empty());
        let (second, former) = ids(opened());
        assert_eq!(former, std::slice::from_ref(&first));
        let mut id = opened();
        assert_eq!(id.former(), [second, first], "the store was unreachable all the time");
        id.forget_former();
        let (third, _) = ids(id);
        assert_eq!(ids(opened()).1, [third]);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn two_replicas_of_one_folder_at_once_are_two() {
        let folder = folder("two");
        let first = ReplicaId::open(&folder);
        let second = ReplicaId::open(&folder);
        assert!(second.former().is_empty() && first.own() != second.own());
        drop(first);
        assert_eq!(ReplicaId::open(&folder).former().len(), 1, "the second has left no trace");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_damaged_file_of_ids_is_replaced() {
        let folder = folder("damaged");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(FILE), "x\n\u{fffd}\n AAAA AAAA\n").unwrap();
        let id = ReplicaId::open(&folder);
        assert!(id.former().is_empty());
        assert_eq!(fs::read_to_string(folder.join(FILE)).unwrap(), format!("{}\n", id.own()));
        fs::remove_dir_all(folder).unwrap();
    }
}
