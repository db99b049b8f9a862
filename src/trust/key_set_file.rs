//! The last known good JWK Set of each issuer, stored on disk. With it, a gateway that starts during an outage of the
//! issuer can still validate tokens.
//!
//! Each issuer has one file, in a folder that is closed to other users. A stored set gets the same checks as a fetched
//! one. The same parser reads it. Its issuer, its URL and the CA that verified it must match the configuration. Its age
//! counts from the original fetch. Any other file is ignored, with a log event. Errors here never prevent a start.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::Instant;
use url::Url;

use super::issuer::IssuerSettings;
use super::key_cache::{MAX_TTL, MIN_TTL, Times};
use super::key_source::{FetchedKeys, KeySetPlace};
use crate::clock::UnixTime;
use crate::durable_file::{Replacement, folder_of};
use crate::file_privacy::{self, TooOpen};
use crate::jose::key_set::{KeySet, KeySetFault};
use crate::oauth::caller::IssuerName;

/// The file that stores the last known good set of one issuer.
#[derive(Clone, Debug)]
pub(crate) struct KeySetFile {
    path: PathBuf,
}

/// A fetched set, with everything that it is bound to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoredKeySet {
    pub(crate) issuer: String,
    pub(crate) jwks_uri: Url,
    /// True if the URL came from the issuer's metadata, false if from the configuration.
    pub(crate) discovered: bool,
    /// The SHA-256 of the configured `ca` that verified the issuer. `None`: the system's roots did.
    #[serde(default)]
    pub(crate) ca: Option<String>,
    /// Unix time, taken before the request to the issuer.
    pub(crate) fetched_at: u64,
    pub(crate) ttl_s: u64,
    /// The document as received.
    pub(crate) document: String,
}

/// A stored set that may be used.
#[derive(Debug)]
pub(crate) struct RestoredKeySet {
    pub(crate) keys: KeySet,
    pub(crate) times: Times,
    pub(crate) jwks_uri: Url,
}

/// The file format: the stored set and its hash. The hash detects a torn or edited file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SealedKeySet {
    sha256: String,
    kept: Box<RawValue>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum KeptError {
    #[error("cannot {action} `{path}`")]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`{path}` is accessible to other users (mode {:o}); {}", fault.mode, fault.remedy)]
    Mode { path: PathBuf, fault: TooOpen },
    #[error("`{path}` is not a stored JWK Set, or it was changed")]
    Corrupt { path: PathBuf },
    #[error("`{path}` was fetched from another issuer or another URL, or verified by another `ca`")]
    Elsewhere { path: PathBuf },
    #[error("`{path}` was fetched in the future")]
    Future { path: PathBuf },
    #[error("`{path}` is older than `max_stale` allows")]
    Stale { path: PathBuf },
    #[error("the JWK Set in `{path}` is not usable")]
    Keys {
        path: PathBuf,
        #[source]
        source: KeySetFault,
    },
}

const FOLDER: &str = "jwks";
const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// The size of the largest fetched document with every byte escaped.
const MAX_BYTES: u64 = 2 * 1024 * 1024;

impl KeySetFile {
    pub(crate) fn of(state_directory: &Path, issuer: &IssuerName) -> Self {
        Self { path: state_directory.join(FOLDER).join(format!("{}.json", issuer.as_str())) }
    }

    /// The stored set, if it may still be used. `None` if there is none.
    pub(crate) fn load(
        &self,
        settings: &IssuerSettings,
        source: &FetchedKeys,
        now: UnixTime,
    ) -> Result<Option<RestoredKeySet>, KeptError> {
        let Some(bytes) = self.read()? else {
            return Ok(None);
        };
        let kept = unseal(&bytes).ok_or_else(|| KeptError::Corrupt { path: self.path.clone() })?;
        if !kept.is_from(settings, source) {
            return Err(KeptError::Elsewhere { path: self.path.clone() });
        }
        let times = self.times(&kept, source.max_stale, now)?;
        let keys = KeySet::parse(kept.document.as_bytes(), &settings.algorithms, &mut Vec::new());
        let keys = keys.map_err(|source| KeptError::Keys { path: self.path.clone(), source })?;
        Ok(Some(RestoredKeySet { keys, times, jwks_uri: kept.jwks_uri }))
    }

    /// After a crash, the old set or the new one is there. Blocks.
    pub(crate) fn save(&self, kept: &StoredKeySet) -> Result<(), KeptError> {
        let sealed = seal(kept).map_err(self.failed("write"))?;
        let folder = folder_of(&self.path);
        let made = DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder);
        // An existing folder keeps its mode, so the mode is set explicitly.
        made.and_then(|()| fs::set_permissions(folder, Permissions::from_mode(FOLDER_MODE)))
            .map_err(self.failed("create the folder of"))?;
        // Several gateways may share the folder.
        let suffix = format!("new{}", std::process::id());
        let written = Replacement::create(&self.path, &suffix, FILE_MODE).and_then(|file| file.publish(&sealed));
        written.map_err(self.failed("write"))
    }

    fn read(&self) -> Result<Option<Vec<u8>>, KeptError> {
        // Symbolic links are not followed, and the type is checked before opening: opening a pipe would block the start
        // forever.
        let metadata = match fs::symlink_metadata(&self.path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failed("read")(error)),
        };
        if !metadata.is_file() || metadata.len() > MAX_BYTES {
            return Err(KeptError::Corrupt { path: self.path.clone() });
        }
        let folder = folder_of(&self.path);
        let file = file_privacy::check_file(&self.path).map_err(self.failed("read"))?;
        file.map_err(|fault| KeptError::Mode { path: self.path.clone(), fault })?;
        let checked = file_privacy::check_folder(folder, 0o077).map_err(self.failed("read"))?;
        checked.map_err(|fault| KeptError::Mode { path: folder.to_owned(), fault })?;
        let mut bytes = Vec::new();
        let read = File::open(&self.path).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut bytes));
        read.map_err(self.failed("read"))?;
        Ok(Some(bytes))
    }

    /// The times of the original fetch, converted to this process's clock.
    fn times(&self, kept: &StoredKeySet, max_stale: Duration, now: UnixTime) -> Result<Times, KeptError> {
        let age = now.seconds().checked_sub(kept.fetched_at);
        let age = Duration::from_secs(age.ok_or_else(|| KeptError::Future { path: self.path.clone() })?);
        let ttl = Duration::from_secs(kept.ttl_s);
        if !(MIN_TTL..=MAX_TTL).contains(&ttl) {
            return Err(KeptError::Corrupt { path: self.path.clone() });
        }
        let requested_at = Instant::now().checked_sub(age).filter(|_| age < ttl + max_stale);
        let requested_at = requested_at.ok_or_else(|| KeptError::Stale { path: self.path.clone() })?;
        Ok(Times::new(requested_at, ttl, max_stale))
    }

    fn failed(&self, action: &'static str) -> impl FnOnce(io::Error) -> KeptError {
        let path = self.path.clone();
        move |source| KeptError::Io { action, path, source }
    }
}

impl StoredKeySet {
    fn is_from(&self, settings: &IssuerSettings, source: &FetchedKeys) -> bool {
        let same_place = match &source.place {
            KeySetPlace::Uri(configured) => !self.discovered && *configured == self.jwks_uri,
            KeySetPlace::Discovered => self.discovered && source.clear_text.permits(&self.jwks_uri),
        };
        let ca = source.ca.as_ref().map(|ca| fingerprint(&ca.pem()));
        self.issuer == settings.metadata_issuer() && same_place && self.ca == ca
    }
}

fn seal(kept: &StoredKeySet) -> io::Result<Vec<u8>> {
    let kept = serde_json::value::to_raw_value(kept)?;
    let mut bytes = serde_json::to_vec(&SealedKeySet { sha256: hash(kept.get()), kept })?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn unseal(bytes: &[u8]) -> Option<StoredKeySet> {
    let sealed: SealedKeySet = serde_json::from_slice(bytes).ok()?;
    if sealed.sha256 != hash(sealed.kept.get()) {
        return None;
    }
    serde_json::from_str(sealed.kept.get()).ok()
}

fn hash(text: &str) -> String {
    fingerprint(text.as_bytes())
}

/// The SHA-256 in hexadecimal.
pub(super) fn fingerprint(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
