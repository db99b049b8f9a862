//! The signing-key ring on disk: the private keys, and a journal of the times at which they sign.
//!
//! Each key is a file `ALGORITHM.KID.pem` of mode 0600 in a folder of mode 0700. The key id is the thumbprint, or the
//! name of the file that an operator has put there. Wider modes are refused, because a key that other users can read is
//! not secret; the gateway's own group may use the folder. The journal `ring.json` lists
//! the keys that are in use. Every file is replaced as a whole. Keys are written before the journal, and the journal
//! before a key is deleted: after a crash, the ring has its old or its new state. Changes are made under a lock, so
//! that several gateways and the command line can share a folder.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::warn;
use zeroize::Zeroizing;

use super::new_key::{self, NewKey};
use super::ring::{Ring, RingKey};
use super::ring_files::{
    JOURNAL, RingError, failed, load_key, lock, make_directory, read_journal, refuse_open_folder, write, write_journal,
};
use super::ring_import::{Stored, import};
use super::rotation::{self, KeyRecord, MAX_PUBLISHED, RotationRules};
use super::wrapping_key::WrappingKeys;
use crate::clock::UnixTime;

/// The folder of the keys and the rules for their rotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RingSettings {
    pub(crate) directory: PathBuf,
    pub(crate) rules: RotationRules,
    /// Publish a certificate for each key.
    pub(crate) x5c: bool,
    /// The wrapping keys, if the keys are in the database of `shared.postgres`. `None` if they are in the folder.
    pub(crate) wrapping_keys: Option<WrappingKeys>,
}

/// Identifies a version of the journal, to detect changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JournalVersion(u64, u64, i64, i64);

/// A change that the command line may make.
#[derive(Debug)]
pub(crate) enum RingChange<'c> {
    Rotate { at_once: bool },
    Retire { key_id: &'c str },
}

const PEM_LABEL: &str = "PRIVATE KEY";
const CERTIFICATE_LABEL: &str = "CERTIFICATE";

/// Loads the ring and takes the steps that are due. Makes the folder and the first key if they are missing.
pub(crate) fn open(settings: &RingSettings, now: UnixTime) -> Result<(Ring, JournalVersion), RingError> {
    make_directory(&settings.directory)?;
    let _lock = lock(&settings.directory)?;
    let mut records = adopt_files(settings)?;
    let journal = settings.directory.join(JOURNAL);
    let before = journal.exists().then(|| records.clone());
    let make = |signs_from| make_key(settings, now, signs_from);
    let removed = rotation::take_due_steps(&mut records, &settings.rules, now, make)?;
    if before.as_ref() != Some(&records) {
        write_journal(&settings.directory, &records)?;
    }
    removed.iter().for_each(|record| delete(&settings.directory, record));
    if settings.x5c {
        records.iter().try_for_each(|record| certify(&settings.directory, record))?;
    }
    let stored = records.into_iter().map(|record| Stored { path: key_path(&settings.directory, &record), record });
    Ok((load(settings, stored.collect())?, version(&settings.directory)?))
}

/// Makes a change, then does the same as [`open`].
pub(crate) fn change(settings: &RingSettings, change: &RingChange<'_>, now: UnixTime) -> Result<Ring, RingError> {
    make_directory(&settings.directory)?;
    {
        let _lock = lock(&settings.directory)?;
        let mut records = adopt_files(settings)?;
        match change {
            RingChange::Rotate { .. } if rotation::published(&records) >= MAX_PUBLISHED => return Err(RingError::Full),
            RingChange::Rotate { at_once } => {
                let signs_from = rotation::signs_from(&records, &settings.rules, now, *at_once);
                records.push(make_key(settings, now, signs_from)?);
                write_journal(&settings.directory, &records)?;
            }
            RingChange::Retire { key_id } => {
                let at = records.iter().position(|record| record.key_id == *key_id);
                let at = at.ok_or_else(|| RingError::Unknown((*key_id).to_owned()))?;
                // The previous key must not sign again: it may be compromised.
                let signs = rotation::signer(&records, now).is_some_and(|signer| signer.key_id == *key_id);
                let record = records.remove(at);
                if signs {
                    records.push(make_key(settings, now, now)?);
                }
                write_journal(&settings.directory, &records)?;
                delete(&settings.directory, &record);
            }
        }
    }
    open(settings, now).map(|(ring, _)| ring)
}

/// Whether a gateway has made keys here before.
pub(crate) fn has_been_used(settings: &RingSettings) -> bool {
    settings.wrapping_keys.is_none() && settings.directory.join(JOURNAL).exists()
}

/// Whether a folder holds keys, with a journal or without.
pub(crate) fn holds_keys(directory: &Path) -> bool {
    directory.join(JOURNAL).exists() || key_files(directory).is_ok_and(|files| !files.is_empty())
}

/// Loads the existing ring, if there is one in the folder. Writes nothing.
pub(crate) fn peek(settings: &RingSettings) -> Result<Option<Ring>, RingError> {
    if settings.wrapping_keys.is_some() || !settings.directory.exists() {
        return Ok(None);
    }
    match load(settings, read(settings)?) {
        Ok(ring) => Ok(Some(ring)),
        Err(RingError::Empty) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the error that [`open`] would return. Writes nothing.
pub(crate) fn check(settings: &RingSettings) -> Result<(), RingError> {
    if settings.wrapping_keys.is_some() || settings.directory.exists() {
        return peek(settings).map(drop);
    }
    match settings.directory.ancestors().find(|folder| folder.exists()) {
        Some(file) if !file.is_dir() => Err(failed("use", &settings.directory)(io::ErrorKind::NotADirectory.into())),
        Some(_) | None => Ok(()),
    }
}

/// The current version of the journal.
pub(crate) fn version(directory: &Path) -> Result<JournalVersion, RingError> {
    let path = directory.join(JOURNAL);
    let metadata = fs::metadata(&path).map_err(failed("read", &path))?;
    Ok(JournalVersion(metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec()))
}

fn load(settings: &RingSettings, stored: Vec<Stored>) -> Result<Ring, RingError> {
    let keys = stored.iter().map(|stored| {
        let (key, _) = load_key(&stored.path, stored.record.algorithm)?;
        if key.thumbprint() != stored.record.thumbprint() {
            return Err(RingError::NotAKey { path: stored.path.clone(), source: None });
        }
        let key = key.named(&stored.record.key_id);
        let certificate = if settings.x5c { load_certificate(&settings.directory, &stored.record)? } else { None };
        Ok(RingKey { key: Arc::new(key), certificate })
    });
    let keys = keys.collect::<Result<_, RingError>>()?;
    Ring::new(keys, stored.into_iter().map(|stored| stored.record).collect()).ok_or(RingError::Empty)
}

/// Like [`read`], and renames files to their standard names.
fn adopt_files(settings: &RingSettings) -> Result<Vec<KeyRecord>, RingError> {
    let mut records = Vec::new();
    for Stored { record, path } in read(settings)? {
        let wanted = key_path(&settings.directory, &record);
        if path != wanted {
            fs::rename(&path, &wanted).map_err(failed("rename", &path))?;
        }
        records.push(record);
    }
    Ok(records)
}

/// The keys of the journal that have a file. Without a journal, all keys that have a file.
fn read(settings: &RingSettings) -> Result<Vec<Stored>, RingError> {
    let directory = settings.directory.as_path();
    if !directory.is_dir() {
        return Err(failed("use", directory)(io::ErrorKind::NotADirectory.into()));
    }
    refuse_open_folder(directory)?;
    let files = key_files(directory)?;
    let Some(records) = read_journal(directory)? else {
        return import(files, &settings.rules);
    };
    let mut stored = Vec::new();
    for record in records {
        let path = key_path(directory, &record);
        if files.contains(&path) {
            stored.push(Stored { record, path });
        } else {
            warn!(key.id = record.key_id, "the file of a signing key is missing: the key is removed from the ring");
        }
    }
    for stray in files.iter().filter(|file| !stored.iter().any(|stored| stored.path == **file)) {
        warn!(path = %stray.display(), "ignored a key file that is not in the journal of the ring");
    }
    Ok(stored)
}

fn key_files(directory: &Path) -> Result<Vec<PathBuf>, RingError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed("read", directory))? {
        let path = entry.map_err(failed("read", directory))?.path();
        if path.extension().is_some_and(|extension| extension == "pem") {
            files.push(path);
        }
    }
    Ok(files)
}

/// Writes a new key. It takes effect when the journal contains it.
fn make_key(settings: &RingSettings, made_at: UnixTime, signs_from: UnixTime) -> Result<KeyRecord, RingError> {
    let NewKey { record, pkcs8 } = NewKey::make(&settings.rules, made_at, signs_from)?;
    let text = Zeroizing::new(pem::encode(&pem::Pem::new(PEM_LABEL, pkcs8.to_vec())));
    write(&key_path(&settings.directory, &record), text.as_bytes())?;
    Ok(record)
}

fn certify(directory: &Path, record: &KeyRecord) -> Result<(), RingError> {
    let path = certificate_path(directory, record);
    if path.exists() {
        return Ok(());
    }
    let (_, pkcs8) = load_key(&key_path(directory, record), record.algorithm)?;
    let certificate = new_key::certificate(&pkcs8, record.algorithm)?;
    write(&path, pem::encode(&pem::Pem::new(CERTIFICATE_LABEL, certificate)).as_bytes())
}

fn load_certificate(directory: &Path, record: &KeyRecord) -> Result<Option<Vec<u8>>, RingError> {
    let path = certificate_path(directory, record);
    match fs::read(&path) {
        Ok(text) => Ok(pem::parse(text).ok().map(pem::Pem::into_contents)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", &path)(error)),
    }
}

/// Deletes a key that is no longer in the journal. If that fails, the file remains without effect.
fn delete(directory: &Path, record: &KeyRecord) {
    let certificate = certificate_path(directory, record);
    if certificate.exists() {
        let _ = fs::remove_file(certificate);
    }
    let path = key_path(directory, record);
    if let Err(error) = fs::remove_file(&path) {
        warn!(%error, path = %path.display(), "cannot delete the file of a retired signing key: delete it by hand");
    }
}

fn key_path(directory: &Path, record: &KeyRecord) -> PathBuf {
    directory.join(format!("{}.{}.pem", record.algorithm, record.key_id))
}

fn certificate_path(directory: &Path, record: &KeyRecord) -> PathBuf {
    directory.join(format!("{}.{}.crt", record.algorithm, record.key_id))
}

#[cfg(test)]
mod tests;
