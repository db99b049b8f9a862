//! The signing-key ring: our private keys on disk, and which of them signs.
//!
//! Each key is a file `ALGORITHM.KID.pem` of mode 0600 in a folder of mode 0700; looser modes are refused, because a key that others can
//! read is not a secret any more. The newest key of the configured algorithm signs; all are published and believed.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use zeroize::Zeroizing;

use crate::jose::algorithm::Algorithm;
use crate::jose::key_set::KeySet;
use crate::jose::signing::{SigningKey, SigningKeyFault};

/// Where keys are kept, and which algorithm signs.
#[derive(Clone, Debug)]
pub(crate) struct RingSettings {
    pub(crate) algorithm: Algorithm,
    pub(crate) directory: PathBuf,
}

/// The keys in memory.
#[derive(Debug)]
pub(crate) struct Ring {
    current: Arc<SigningKey>,
    all: Vec<Arc<SigningKey>>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum RingError {
    #[error("cannot {action} `{path}`")]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`{path}` can be read by others (mode {mode:o}); set it to {wanted:o}")]
    Mode { path: PathBuf, mode: u32, wanted: u32 },
    #[error("`{path}` is not a signing key")]
    NotAKey {
        path: PathBuf,
        #[source]
        source: Option<SigningKeyFault>,
    },
    #[error("cannot make a signing key")]
    Make(#[source] SigningKeyFault),
}

const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
const PEM_LABEL: &str = "PRIVATE KEY";

impl Ring {
    /// Loads the ring; makes folder and first key where there are none.
    pub(crate) fn open(settings: &RingSettings) -> Result<Self, RingError> {
        make_directory(&settings.directory)?;
        let mut stored = load(&settings.directory)?;
        if !stored.iter().any(|(_, key)| key.algorithm() == settings.algorithm) {
            stored.push(make_key(settings)?);
        }
        Self::from_stored(stored, settings.algorithm).map_err(RingError::Make)
    }

    /// Loads the ring if there is one that can sign; makes nothing.
    pub(crate) fn load(settings: &RingSettings) -> Result<Option<Self>, RingError> {
        if !settings.directory.exists() {
            return Ok(None);
        }
        Ok(Self::from_stored(load(&settings.directory)?, settings.algorithm).ok())
    }

    /// Says what [`Self::open`] would, without writing anything.
    pub(crate) fn check(settings: &RingSettings) -> Result<(), RingError> {
        if settings.directory.exists() {
            return load(&settings.directory).map(drop);
        }
        match settings.directory.ancestors().find(|folder| folder.exists()) {
            Some(file) if !file.is_dir() => {
                Err(failed("use", &settings.directory)(io::ErrorKind::NotADirectory.into()))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The key that signs now.
    pub(crate) fn current(&self) -> &Arc<SigningKey> {
        &self.current
    }

    pub(crate) fn public_jwks(&self) -> serde_json::Value {
        let keys: Vec<_> = self.all.iter().map(|key| key.public_jwk()).collect();
        serde_json::json!({ "keys": keys })
    }

    pub(crate) fn verifying_keys(&self) -> Result<KeySet, SigningKeyFault> {
        let keys = self.all.iter().map(|key| key.verifying_key().map(Arc::new)).collect::<Result<_, _>>()?;
        Ok(KeySet::from_keys(keys))
    }

    fn from_stored(
        mut stored: Vec<(SystemTime, Arc<SigningKey>)>,
        algorithm: Algorithm,
    ) -> Result<Self, SigningKeyFault> {
        stored.sort_by_key(|(made, key)| (*made, key.key_id().to_owned()));
        let current = stored.iter().rev().find(|(_, key)| key.algorithm() == algorithm);
        let current = Arc::clone(&current.ok_or(SigningKeyFault::Generate(algorithm))?.1);
        Ok(Self { current, all: stored.into_iter().map(|(_, key)| key).collect() })
    }
}

fn make_directory(directory: &Path) -> Result<(), RingError> {
    let made = DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory);
    made.map_err(failed("create", directory))
}

fn load(directory: &Path) -> Result<Vec<(SystemTime, Arc<SigningKey>)>, RingError> {
    if !directory.is_dir() {
        return Err(failed("use", directory)(io::ErrorKind::NotADirectory.into()));
    }
    refuse_looser(directory, DIRECTORY_MODE)?;
    let mut stored = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed("read", directory))? {
        let path = entry.map_err(failed("read", directory))?.path();
        if path.extension().is_some_and(|extension| extension == "pem") {
            stored.push(load_key(&path)?);
        }
    }
    Ok(stored)
}

fn load_key(path: &Path) -> Result<(SystemTime, Arc<SigningKey>), RingError> {
    refuse_looser(path, FILE_MODE)?;
    let not_a_key = |source| RingError::NotAKey { path: path.to_owned(), source };
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let algorithm = name.split('.').next().and_then(Algorithm::from_name).ok_or_else(|| not_a_key(None))?;
    let text = Zeroizing::new(fs::read(path).map_err(failed("read", path))?);
    let pem = pem::parse(&*text).map_err(|_| not_a_key(None))?;
    let pkcs8 = Zeroizing::new(pem.into_contents());
    let key = SigningKey::from_pkcs8(algorithm, &pkcs8).map_err(|fault| not_a_key(Some(fault)))?;
    let made = fs::metadata(path).and_then(|metadata| metadata.modified()).map_err(failed("read", path))?;
    Ok((made, Arc::new(key)))
}

/// Written beside, flushed, then renamed: a crash leaves the whole key or none.
fn make_key(settings: &RingSettings) -> Result<(SystemTime, Arc<SigningKey>), RingError> {
    let (key, pkcs8) = SigningKey::generate(settings.algorithm).map_err(RingError::Make)?;
    let path = settings.directory.join(format!("{}.{}.pem", settings.algorithm, key.key_id()));
    let beside = path.with_extension("new");
    let text = Zeroizing::new(pem::encode(&pem::Pem::new(PEM_LABEL, pkcs8.to_vec())));
    write(&beside, text.as_bytes()).map_err(failed("write", &beside))?;
    fs::rename(&beside, &path).map_err(failed("write", &path))?;
    let directory = File::open(&settings.directory).and_then(|directory| directory.sync_all());
    directory.map_err(failed("flush", &settings.directory))?;
    load_key(&path)
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(path)?;
    // An old file of that name would keep its own mode.
    file.set_permissions(Permissions::from_mode(FILE_MODE))?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn refuse_looser(path: &Path, wanted: u32) -> Result<(), RingError> {
    let metadata = fs::metadata(path).map_err(failed("read", path))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(RingError::Mode { path: path.to_owned(), mode, wanted }) }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RingError {
    let path = path.to_owned();
    move |source| RingError::Io { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(name: &str, algorithm: Algorithm) -> RingSettings {
        let directory =
            std::env::temp_dir().join(format!("portcullis-ring-{}-{name}", std::process::id())).join("keys");
        RingSettings { algorithm, directory }
    }

    fn forget(settings: &RingSettings) {
        fs::remove_dir_all(settings.directory.parent().unwrap()).unwrap();
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn the_first_key_is_made_once_and_kept_with_tight_modes() {
        let settings = settings("once", Algorithm::Es256);
        let first = Ring::open(&settings).unwrap();
        let second = Ring::open(&settings).unwrap();
        assert_eq!(first.current().key_id(), second.current().key_id());
        assert_eq!(mode(&settings.directory), 0o700);
        let file = fs::read_dir(&settings.directory).unwrap().next().unwrap().unwrap().path();
        assert_eq!(mode(&file), 0o600);
        forget(&settings);
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let settings = settings("loose", Algorithm::Es256);
        Ring::open(&settings).unwrap();
        let file = fs::read_dir(&settings.directory).unwrap().next().unwrap().unwrap().path();
        fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Ring::open(&settings), Err(RingError::Mode { mode: 0o640, .. })));
        assert!(matches!(Ring::check(&settings), Err(RingError::Mode { .. })));
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(&settings.directory, Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(Ring::open(&settings), Err(RingError::Mode { mode: 0o755, .. })));
        forget(&settings);
    }

    #[test]
    fn a_change_of_algorithm_keeps_the_old_key_published() {
        let before = settings("change", Algorithm::Es256);
        let old = Ring::open(&before).unwrap();
        let after = RingSettings { algorithm: Algorithm::EdDsa, ..before.clone() };
        let ring = Ring::open(&after).unwrap();
        assert_eq!(ring.current().algorithm(), Algorithm::EdDsa);
        let published = ring.public_jwks().to_string();
        assert!(published.contains(old.current().key_id()) && published.contains(ring.current().key_id()));
        assert!(!published.contains("\"d\""));
        forget(&before);
    }

    #[test]
    fn a_file_that_is_no_key_is_named() {
        let settings = settings("broken", Algorithm::Es256);
        Ring::open(&settings).unwrap();
        write(
            &settings.directory.join("ES256.x.pem"),
            b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        )
        .unwrap();
        assert!(matches!(Ring::open(&settings), Err(RingError::NotAKey { .. })));
        forget(&settings);
    }
}
