//! The files of the signing-key ring: accessible only to their owner, replaced as a whole, and changed under a lock.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::rotation::{KeyRecord, MAX_PUBLISHED, SigningEnd};
use crate::clock::UnixTime;
use crate::durable_file;
use crate::file_privacy::{self, TooOpen};
use crate::jose::algorithm::Algorithm;
use crate::jose::signing::{SigningKey, SigningKeyFault};
use crate::jose::x509::CertificateFault;

#[derive(Debug, thiserror::Error)]
pub(crate) enum RingError {
    #[error("cannot {action} `{path}`")]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`{path}` can be read by others (mode {:o}); {}", fault.mode, fault.remedy)]
    Mode { path: PathBuf, fault: TooOpen },
    #[error("`{path}` is not a signing key")]
    NotAKey {
        path: PathBuf,
        #[source]
        source: Option<SigningKeyFault>,
    },
    #[error(
        "the name of `{path}` is no key id: use letters, digits, `-`, `_` and inner `.`, {MAX_KEY_ID_BYTES} at most"
    )]
    Name { path: PathBuf },
    #[error("`{one}` and `{other}` would have one key id, `{key_id}`: rename or remove one of them")]
    SameName { key_id: String, one: PathBuf, other: PathBuf },
    #[error("`{path}` is not a valid journal of signing keys; move it away to let the newest key file sign")]
    Journal { path: PathBuf },
    #[error("another process has locked `{path}` for too long")]
    Locked { path: PathBuf },
    #[error("there is no signing key `{0}`")]
    Unknown(String),
    #[error("there is no signing key")]
    Empty,
    #[error(
        "{MAX_PUBLISHED} keys are published already, and verifiers read no more: retire some, or wait until old ones are removed"
    )]
    Full,
    #[error("cannot make a signing key")]
    Make(#[source] SigningKeyFault),
    #[error("cannot certify a signing key")]
    Certify(#[source] CertificateFault),
}

const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
pub(super) const JOURNAL: &str = "ring.json";
const JOURNAL_VERSION: u32 = 1;
const MAX_KEY_ID_BYTES: usize = 128;
const LOCK: &str = "ring.lock";
const LOCK_ATTEMPTS: usize = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// An entry of the journal. Times are in seconds since 1970.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Journal {
    version: u32,
    keys: Vec<JournalEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct JournalEntry {
    kid: String,
    /// Of a key that has the name of an operator's file as its id. Otherwise the key id is the thumbprint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    thumbprint: Option<String>,
    algorithm: String,
    made_at: u64,
    signs_from: u64,
    token_ttl: u64,
    max_age: u64,
}

pub(super) fn read_journal(directory: &Path) -> Result<Option<Vec<KeyRecord>>, RingError> {
    let path = directory.join(JOURNAL);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", &path)(error)),
    };
    // Write access to the journal is enough to choose the signing key.
    refuse_open_file(&path)?;
    let journal: Option<Journal> =
        serde_json::from_slice(&text).ok().filter(|j: &Journal| j.version == JOURNAL_VERSION);
    let records: Option<Vec<KeyRecord>> =
        journal.and_then(|journal| journal.keys.into_iter().map(JournalEntry::record).collect());
    let mut known = HashSet::new();
    let records = records.filter(|records| records.iter().all(|record| known.insert(record.key_id.clone())));
    records.map(Some).ok_or(RingError::Journal { path })
}

pub(super) fn write_journal(directory: &Path, records: &[KeyRecord]) -> Result<(), RingError> {
    let journal = Journal { version: JOURNAL_VERSION, keys: records.iter().map(JournalEntry::of).collect() };
    let text = serde_json::to_vec_pretty(&journal).unwrap_or_default();
    write(&directory.join(JOURNAL), &text)
}

impl JournalEntry {
    fn of(record: &KeyRecord) -> Self {
        Self {
            kid: record.key_id.clone(),
            thumbprint: record.thumbprint.clone(),
            algorithm: record.algorithm.as_str().to_owned(),
            made_at: record.made_at.seconds(),
            signs_from: record.signs_from.seconds(),
            token_ttl: record.token_ttl.as_secs(),
            max_age: record.max_age.as_secs(),
        }
    }

    /// `None` if the entry is invalid.
    fn record(self) -> Option<KeyRecord> {
        if !is_key_id(&self.kid) {
            return None;
        }
        Some(KeyRecord {
            algorithm: Algorithm::from_signing_name(&self.algorithm)?,
            key_id: self.kid,
            thumbprint: self.thumbprint,
            made_at: UnixTime::from_seconds(self.made_at),
            signs_from: UnixTime::from_seconds(self.signs_from),
            signs_until: SigningEnd::WithNext,
            token_ttl: Duration::from_secs(self.token_ttl),
            max_age: Duration::from_secs(self.max_age),
        })
    }
}

/// A key id becomes part of a file name.
pub(super) fn is_key_id(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=MAX_KEY_ID_BYTES).contains(&text.len()) && !text.starts_with('.') && text.bytes().all(is_plain)
}

pub(super) fn load_key(path: &Path, algorithm: Algorithm) -> Result<(SigningKey, Zeroizing<Vec<u8>>), RingError> {
    let pkcs8 = read_pkcs8(path)?;
    let key = SigningKey::from_pkcs8(algorithm, &pkcs8)
        .map_err(|fault| RingError::NotAKey { path: path.to_owned(), source: Some(fault) })?;
    Ok((key, pkcs8))
}

pub(super) fn read_pkcs8(path: &Path) -> Result<Zeroizing<Vec<u8>>, RingError> {
    refuse_open_file(path)?;
    let text = Zeroizing::new(fs::read(path).map_err(failed("read", path))?);
    let pem = pem::parse(&*text).map_err(|_| RingError::NotAKey { path: path.to_owned(), source: None })?;
    Ok(Zeroizing::new(pem.into_contents()))
}

/// Locks the ring until the result is dropped.
pub(super) fn lock(directory: &Path) -> Result<File, RingError> {
    let path = directory.join(LOCK);
    refuse_open_folder(directory)?;
    let opened = match durable_file::create_new(&path, FILE_MODE) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => durable_file::open_to_append(&path),
        made => made,
    };
    let file = opened.map_err(failed("open", &path))?;
    for _ in 0..LOCK_ATTEMPTS {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(fs::TryLockError::Error(error)) => return Err(failed("lock", &path)(error)),
        }
    }
    Err(RingError::Locked { path })
}

pub(super) fn make_directory(directory: &Path) -> Result<(), RingError> {
    durable_file::make_folder(directory, DIRECTORY_MODE).map_err(failed("create", directory))
}

pub(super) fn write(path: &Path, content: &[u8]) -> Result<(), RingError> {
    durable_file::replace(path, FILE_MODE, content).map_err(failed("write", path))
}

pub(super) fn refuse_open_file(path: &Path) -> Result<(), RingError> {
    let checked = file_privacy::check_file(path).map_err(failed("read", path))?;
    checked.map_err(|fault| RingError::Mode { path: path.to_owned(), fault })
}

/// Other users must not even list the keys.
pub(super) fn refuse_open_folder(path: &Path) -> Result<(), RingError> {
    let checked = file_privacy::check_folder(path, 0o077).map_err(failed("read", path))?;
    checked.map_err(|fault| RingError::Mode { path: path.to_owned(), fault })
}

pub(super) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RingError {
    let path = path.to_owned();
    move |source| RingError::Io { action, path, source }
}
