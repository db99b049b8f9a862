//! Client secrets: their hashes, and the comparison with a presented secret.
//!
//! Only hashes are stored: SHA-256 for secrets of 256 random bits, argon2id for others. No type here can be printed,
//! and comparisons take constant time.

use std::fmt;

use argon2::password_hash::PasswordVerifier as _;
use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, Params};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use zeroize::Zeroizing;

use crate::jose::BASE64URL;

/// A secret that a client presents. Wiped when dropped.
#[derive(Clone)]
pub(crate) struct ClientSecret(Zeroizing<String>);

/// The stored hash of a secret.
#[derive(Clone)]
pub(crate) enum SecretHash {
    Sha256([u8; 32]),
    Argon2id(Box<PasswordHash>),
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidHash {
    #[error(
        "expected `sha256:` and 43 characters of unpadded base64url, or an argon2id PHC string: `portcullis client hash` makes one"
    )]
    Form,
    #[error("only argon2id in version 19 is taken, of at most {MAX_MEMORY_KIB} KiB and {MAX_PASSES} passes")]
    Parameters,
}

/// The maximum cost of one verification.
const MAX_MEMORY_KIB: u32 = 256 * 1024;
const MAX_PASSES: u32 = 10;
const MAX_LANES: u32 = 16;
/// 8 MiB in one pass, or the same work in more passes over less memory: a quarter of the OWASP recommendation (19 MiB
/// in two passes, 12 in three, 9 in four, 7 in five).
pub(crate) const MIN_WORK_KIB: u64 = 8 * 1024;
const ARGON2_VERSION: u32 = 19;

impl ClientSecret {
    pub(crate) fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientSecret(..)")
    }
}

impl SecretHash {
    /// Parses a `hash` of the configuration.
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidHash> {
        if let Some(encoded) = text.strip_prefix("sha256:") {
            let bytes = BASE64URL.decode(encoded).map_err(|_| InvalidHash::Form)?;
            return bytes.try_into().map(Self::Sha256).map_err(|_| InvalidHash::Form);
        }
        let hash = PasswordHash::new(text).map_err(|_| InvalidHash::Form)?;
        let params = Params::try_from(&hash).map_err(|_| InvalidHash::Parameters)?;
        let bounded =
            params.m_cost() <= MAX_MEMORY_KIB && params.t_cost() <= MAX_PASSES && params.p_cost() <= MAX_LANES;
        let known = hash.algorithm.as_str() == "argon2id" && hash.version == Some(ARGON2_VERSION);
        let whole = hash.salt.is_some() && hash.hash.is_some();
        if bounded && known && whole { Ok(Self::Argon2id(Box::new(hash))) } else { Err(InvalidHash::Parameters) }
    }

    /// The hash for a generated secret, or for a secret in the configuration.
    pub(crate) fn of(secret: &ClientSecret) -> Self {
        Self::Sha256(sha256(secret))
    }

    /// Whether both are the same hash of a secret, with the same parameters and salt.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Sha256(own), Self::Sha256(other)) => own == other,
            (Self::Argon2id(own), Self::Argon2id(other)) => own.to_string() == other.to_string(),
            (Self::Sha256(_), Self::Argon2id(_)) | (Self::Argon2id(_), Self::Sha256(_)) => false,
        }
    }

    /// The `hash` value to write into the configuration.
    pub(crate) fn to_config(&self) -> String {
        match self {
            Self::Sha256(hash) => format!("sha256:{}", BASE64URL.encode(hash)),
            Self::Argon2id(hash) => hash.to_string(),
        }
    }

    /// Whether the hash is too fast to protect a password. Checked with the configuration; comparisons ignore it.
    pub(crate) fn is_cheap(&self) -> bool {
        match self {
            // 256 random bits cannot be guessed.
            Self::Sha256(_) => false,
            Self::Argon2id(hash) => Params::try_from(&**hash)
                .map_or(true, |params| u64::from(params.m_cost()) * u64::from(params.t_cost()) < MIN_WORK_KIB),
        }
    }

    pub(crate) fn is_slow(&self) -> bool {
        match self {
            Self::Sha256(_) => false,
            Self::Argon2id(_) => true,
        }
    }

    /// True if the secret has this hash. Takes tens of milliseconds and megabytes if [`Self::is_slow`].
    pub(crate) fn matches(&self, secret: &ClientSecret) -> bool {
        match self {
            Self::Sha256(hash) => verify_slices_are_equal(hash, &sha256(secret)).is_ok(),
            Self::Argon2id(hash) => Argon2::default().verify_password(secret.expose().as_bytes(), &**hash).is_ok(),
        }
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(..)")
    }
}

fn sha256(secret: &ClientSecret) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, secret.expose().as_bytes()).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> ClientSecret {
        ClientSecret::new(text.to_owned())
    }

    /// Of `hunter42`.
    const ARGON2ID: &str = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$";

    #[test]
    fn a_sha256_hash_matches_its_secret_only() {
        let hash = SecretHash::parse(&SecretHash::of(&secret("correct horse")).to_config()).unwrap();
        assert!(hash.matches(&secret("correct horse")));
        assert!(!hash.matches(&secret("correct horsf")));
        assert!(!hash.matches(&secret("")));
    }

    #[test]
    fn an_argon2id_hash_matches_its_secret_only() {
        use argon2::password_hash::PasswordHasher as _;
        let made = Argon2::from(Params::new(64, 1, 1, None).unwrap())
            .hash_password_with_salt(b"hunter42", b"somesaltsomesalt")
            .unwrap();
        let hash = SecretHash::parse(&made.to_string()).unwrap();
        assert!(hash.is_slow());
        assert!(hash.matches(&secret("hunter42")));
        assert!(!hash.matches(&secret("hunter43")));
    }

    #[test]
    fn hashes_that_are_none_are_refused() {
        for bad in [
            "",
            "sha256:",
            "sha256:AAAA",
            "sha256:f8yx58a2BsWFJYUcwb_hve7SJRoH_vwOJp4TgtPJdAY=",
            "md5:AAAA",
            "plain",
            ARGON2ID,
        ] {
            assert!(SecretHash::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn weaker_kinds_and_excessive_costs_of_argon2_are_refused() {
        let phc = |head: &str| format!("${head}$c29tZXNhbHRzb21lc2FsdA$WJFsLoqoN0XzXBSWVT2kE3xKs8tqpqbe3KBKuyDpXKE");
        assert!(SecretHash::parse(&phc("argon2id$v=19$m=19456,t=2,p=1")).is_ok());
        for bad in [
            "argon2i$v=19$m=19456,t=2,p=1",
            "argon2id$v=16$m=19456,t=2,p=1",
            "argon2id$v=19$m=4194304,t=2,p=1",
            "argon2id$v=19$m=19456,t=99,p=1",
        ] {
            assert_eq!(SecretHash::parse(&phc(bad)).err(), Some(InvalidHash::Parameters), "{bad}");
        }
    }

    #[test]
    fn argon2_hashes_that_are_quick_to_guess_are_cheap() {
        let is_cheap = |m: u32, t: u32| {
            let head = format!("$argon2id$v=19$m={m},t={t},p=1$c29tZXNhbHRzb21lc2FsdA");
            SecretHash::parse(&format!("{head}$WJFsLoqoN0XzXBSWVT2kE3xKs8tqpqbe3KBKuyDpXKE")).unwrap().is_cheap()
        };
        // The last five are the equivalents that OWASP lists.
        let good = [(8192, 1), (4096, 2), (1024, 8), (47104, 1), (19456, 2), (12288, 3), (9216, 4), (7168, 5)];
        for (m, t) in good {
            assert!(!is_cheap(m, t), "m={m},t={t}");
        }
        for (m, t) in [(8, 1), (64, 10), (8191, 1), (4095, 2), (819, 10)] {
            assert!(is_cheap(m, t), "m={m},t={t}");
        }
        assert!(!SecretHash::of(&secret("a")).is_cheap());
    }

    #[test]
    fn nothing_of_a_secret_can_be_printed() {
        let secret = secret("hunter42");
        let printed = format!("{secret:?} {:?}", SecretHash::of(&secret));
        assert_eq!(printed, "ClientSecret(..) SecretHash(..)");
    }
}
