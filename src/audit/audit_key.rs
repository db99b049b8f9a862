//! The key that signs checkpoints, and its public half, which verifies them.
//!
//! Generated at the first start, readable by its owner only; one that others can read is refused. It signs checkpoints
//! only, and never a token.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use pem::{EncodeConfig, LineEnding, Pem};
use zeroize::Zeroizing;

use crate::durable_file::{folder_of, make_folder, sync_folder};
use crate::file_privacy::{self, TooOpen};
use crate::jose::BASE64URL;
use crate::telemetry::error_chain::reason;

pub(crate) struct AuditKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

/// 32 bytes of Ed25519 (RFC 8032).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct PublicKey([u8; 32]);

#[derive(Debug, thiserror::Error)]
pub(crate) enum AuditKeyError {
    #[error("cannot {action} `{path}`: {}", reason(error))]
    Io { action: &'static str, path: PathBuf, error: io::Error },
    #[error("`{path}` can be read by others (mode {:o}); {}", fault.mode, fault.remedy)]
    Mode { path: PathBuf, fault: TooOpen },
    #[error("`{path}` is not an Ed25519 key in PEM")]
    NotAKey { path: PathBuf },
    #[error("cannot make a key for checkpoints")]
    Make,
}

/// Both in the state directory.
const PRIVATE: &str = "audit-key.pem";
const PUBLIC: &str = "audit-key.pub";
/// The bytes before the key in a SubjectPublicKeyInfo (RFC 8410 §4).
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

impl AuditKey {
    /// The key in this folder, generated if there is none. Its public half is written beside it.
    pub(crate) fn open(folder: &Path) -> Result<Self, AuditKeyError> {
        make_folder(folder, 0o700).map_err(failed("create", folder))?;
        let path = folder.join(PRIVATE);
        if !path.exists() {
            make(&path)?;
        }
        let key = Self::read(path)?;
        let path = folder.join(PUBLIC);
        if PublicKey::read(&path).ok() != Some(key.public) {
            fs::write(&path, key.public.to_pem()).map_err(failed("write", &path))?;
        }
        Ok(key)
    }

    /// Whether this folder has a key.
    pub(crate) fn is_in(folder: &Path) -> bool {
        folder.join(PRIVATE).exists()
    }

    /// Returns the error of [`Self::open`] for an existing key.
    pub(crate) fn check(folder: &Path) -> Result<(), AuditKeyError> {
        let path = folder.join(PRIVATE);
        if path.exists() { Self::read(path).map(drop) } else { Ok(()) }
    }

    fn read(path: PathBuf) -> Result<Self, AuditKeyError> {
        if let Err(fault) = file_privacy::check_file(&path).map_err(failed("read", &path))? {
            return Err(AuditKeyError::Mode { path, fault });
        }
        let text = Zeroizing::new(fs::read(&path).map_err(failed("read", &path))?);
        let pkcs8 = pem::parse(&*text).ok().map(|pem| Zeroizing::new(pem.into_contents()));
        let pair = pkcs8.and_then(|pkcs8| Ed25519KeyPair::from_pkcs8(&pkcs8).ok());
        let pair = pair.ok_or(AuditKeyError::NotAKey { path })?;
        let public = PublicKey(pair.public_key().as_ref().try_into().map_err(|_| AuditKeyError::Make)?);
        Ok(Self { pair, public })
    }

    pub(crate) fn public(&self) -> PublicKey {
        self.public
    }

    pub(super) fn sign(&self, message: &[u8]) -> String {
        BASE64URL.encode(self.pair.sign(message))
    }
}

impl PublicKey {
    /// The public half in this folder.
    pub(crate) fn in_folder(folder: &Path) -> PathBuf {
        folder.join(PUBLIC)
    }

    pub(crate) fn read(path: &Path) -> Result<Self, AuditKeyError> {
        let text = fs::read(path).map_err(failed("read", path))?;
        let der = pem::parse(&text).ok().map(Pem::into_contents);
        let key = der.as_deref().and_then(|der| der.strip_prefix(&SPKI)?.try_into().ok());
        key.map(Self).ok_or_else(|| AuditKeyError::NotAKey { path: path.to_owned() })
    }

    /// From the form in which it is printed.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        BASE64URL.decode(text).ok()?.try_into().ok().map(Self)
    }

    pub(super) fn verifies(&self, message: &[u8], signature: &str) -> bool {
        let Ok(signature) = BASE64URL.decode(signature) else { return false };
        UnparsedPublicKey::new(&ED25519, self.0).verify(message, &signature).is_ok()
    }

    fn to_pem(self) -> String {
        let pem = Pem::new("PUBLIC KEY", [&SPKI[..], &self.0].concat());
        pem::encode_config(&pem, EncodeConfig::new().set_line_ending(LineEnding::LF))
    }
}

/// Written beside and then linked, so that no one ever reads half a key and a second gateway takes the first one's.
fn make(path: &Path) -> Result<(), AuditKeyError> {
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| AuditKeyError::Make)?;
    let pem = Zeroizing::new(pem::encode_config(
        &Pem::new("PRIVATE KEY", pkcs8.as_ref()),
        EncodeConfig::new().set_line_ending(LineEnding::LF),
    ));
    let beside = path.with_extension(format!("{}.new", std::process::id()));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(pem.as_bytes())?;
        file.sync_all()?;
        match fs::hard_link(&beside, path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            Ok(()) | Err(_) => sync_folder(folder_of(path)),
        }
    })();
    // If it can't be removed, it is a copy of the key with the same mode.
    let _ = fs::remove_file(&beside);
    written.map_err(failed("write", path))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> AuditKeyError {
    let path = path.to_owned();
    move |error| AuditKeyError::Io { action, path, error }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64URL.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl fmt::Debug for AuditKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditKey").field("public", &self.public).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_created_once_private_and_verifies() {
        let folder = std::env::temp_dir().join(format!("portcullis-audit-key-{}", std::process::id()));
        let key = AuditKey::open(&folder).unwrap();
        let again = AuditKey::open(&folder).unwrap();
        assert_eq!(key.public(), again.public());
        let public = PublicKey::read(&folder.join(PUBLIC)).unwrap();
        assert_eq!((PublicKey::parse(&public.to_string()), public), (Some(key.public()), key.public()));
        let signature = key.sign(b"message");
        assert!(public.verifies(b"message", &signature) && !public.verifies(b"other", &signature));
        let path = folder.join(PRIVATE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(AuditKey::open(&folder), Err(AuditKeyError::Mode { fault: TooOpen { mode: 0o640, .. }, .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "garbage").unwrap();
        assert!(matches!(AuditKey::open(&folder), Err(AuditKeyError::NotAKey { .. })));
        fs::remove_dir_all(folder).unwrap();
    }
}
