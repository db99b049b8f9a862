//! Key files without a journal: those of an operator, and those of a folder whose journal was lost.
//!
//! Takes the files of the folder; gives a record for each key. The name of a file becomes the key id, so that verifiers
//! that are configured with a key id need no change. A file that the gateway has named has the thumbprint as its name, so
//! its key id stays the same. Reads only.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use tracing::warn;

use super::ring_files::{RingError, failed, is_key_id, load_key, read_pkcs8};
use super::rotation::{KeyRecord, RotationRules, SigningEnd};
use crate::clock::UnixTime;
use crate::jose::algorithm::Algorithm;
use crate::jose::signing::SigningKey;

/// A key and its path: a file that an operator has copied in has a name of its own.
pub(super) struct Stored {
    pub(super) record: KeyRecord,
    pub(super) path: PathBuf,
}

/// The keys of all files. Of several copies of a key, the one that the gateway has named counts, else the first by
/// name.
pub(super) fn import(files: Vec<PathBuf>, rules: &RotationRules) -> Result<Vec<Stored>, RingError> {
    let mut found = files.into_iter().map(|path| imported(path, rules)).collect::<Result<Vec<_>, _>>()?;
    found.sort_by(|one, other| {
        let key = |stored: &Stored| (stored.record.thumbprint.is_some(), stored.path.clone());
        key(one).cmp(&key(other))
    });
    let mut stored: Vec<Stored> = Vec::new();
    for key in found {
        let is_copy = |other: &Stored| other.record.thumbprint() == key.record.thumbprint();
        let shares_id = |other: &Stored| other.record.key_ids().any(|id| key.record.key_ids().any(|own| own == id));
        let clashes = |other: &&Stored| other.record.key_id == key.record.key_id || !is_copy(other) && shares_id(other);
        if let Some(other) = stored.iter().find(clashes) {
            let (one, other) = (other.path.clone(), key.path.clone());
            return Err(RingError::SameName { key_id: key.record.key_id.clone(), one, other });
        }
        if stored.iter().any(is_copy) {
            warn!(path = %key.path.display(), "ignored another copy of a signing key");
            continue;
        }
        stored.push(key);
    }
    Ok(stored)
}

/// Treated as if it has signed since its file was modified.
fn imported(path: PathBuf, rules: &RotationRules) -> Result<Stored, RingError> {
    let (named, key_id) = name(&path)?;
    let (key, algorithm) = match named {
        Some(algorithm) => (load_key(&path, algorithm)?.0, algorithm),
        None => load_key_of_any_algorithm(&path, rules.algorithm)?,
    };
    let modified = fs::metadata(&path).and_then(|metadata| metadata.modified()).map_err(failed("read", &path))?;
    let made_at = UnixTime::from_seconds(modified.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs());
    let record = KeyRecord {
        thumbprint: (key_id != key.thumbprint()).then(|| key.thumbprint().to_owned()),
        key_id,
        algorithm,
        made_at,
        signs_from: made_at,
        signs_until: SigningEnd::WithNext,
        token_ttl: rules.longest_ttl,
        max_age: rules.max_age(),
    };
    Ok(Stored { record, path })
}

/// The algorithm, if the name of the file begins with one, and the key id: `ES256.2026-11.pem` or `2026-11.pem`.
fn name(path: &Path) -> Result<(Option<Algorithm>, String), RingError> {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let first = stem.split('.').next().and_then(Algorithm::from_signing_name);
    let key_id = first.and_then(|_| stem.split_once('.')).map_or(stem, |(_, key_id)| key_id);
    if !is_key_id(key_id) {
        return Err(RingError::Name { path: path.to_owned() });
    }
    Ok((first, key_id.to_owned()))
}

/// The configured algorithm if the key is for it, else that of its type; RS256 for RSA.
fn load_key_of_any_algorithm(path: &Path, configured: Algorithm) -> Result<(SigningKey, Algorithm), RingError> {
    let pkcs8 = read_pkcs8(path)?;
    let mut fitting = [configured].into_iter().chain(Algorithm::SIGNING);
    let found = fitting.find_map(|algorithm| Some((SigningKey::from_pkcs8(algorithm, &pkcs8).ok()?, algorithm)));
    found.ok_or_else(|| RingError::NotAKey { path: path.to_owned(), source: None })
}
