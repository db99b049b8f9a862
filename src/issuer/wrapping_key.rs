//! Encrypts private keys for the database, with AES-256-GCM.
//!
//! The id, the algorithm and the interval of a key are the associated data of its ciphertext, so a row with changed
//! parts cannot be decrypted.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::rand;
use base64::Engine as _;
use zeroize::Zeroizing;

use super::rotation::{KeyRecord, SigningEnd};
use crate::jose::BASE64URL;

/// 32 bytes that only the gateways know.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct WrappingKey(Zeroizing<[u8; WRAPPING_KEY_BYTES]>);

/// The wrapping key, and during its replacement a second key that only decrypts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WrappingKeys {
    pub(crate) current: WrappingKey,
    pub(crate) other: Option<WrappingKey>,
}

/// An encrypted private key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WrappedKey {
    pub(crate) nonce: Vec<u8>,
    pub(crate) ciphertext: Vec<u8>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum WrappingFault {
    #[error("cannot encrypt a signing key")]
    Wrap,
    #[error(
        "signing key `{key_id}` of the database does not open: `oauth.signing_keys.wrapping_key` is another one than that by which it was stored, or its row was changed"
    )]
    Open { key_id: String },
}

const WRAPPING_KEY_BYTES: usize = 32;
/// Separates domains: no other ciphertext under the same key can be used as a signing key.
const PURPOSE: &[u8] = b"portcullis signing key 1";

impl WrappingKey {
    /// `None` unless the text is 32 bytes in base64url.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(BASE64URL.decode(text.trim_end_matches('=')).ok()?);
        let bytes = <[u8; WRAPPING_KEY_BYTES]>::try_from(bytes.as_slice()).ok()?;
        Some(Self(Zeroizing::new(bytes)))
    }

    /// A random key, for commands that do not need the real one.
    pub(crate) fn unknown() -> Self {
        let mut bytes = Zeroizing::new([0; WRAPPING_KEY_BYTES]);
        // Without random bytes the key is zero, and decrypts nothing either.
        let _ = rand::fill(&mut *bytes);
        Self(bytes)
    }

    fn cipher(&self) -> Option<LessSafeKey> {
        UnboundKey::new(&AES_256_GCM, &*self.0).ok().map(LessSafeKey::new)
    }

    fn open(&self, record: &KeyRecord, wrapped: &WrappedKey) -> Option<Zeroizing<Vec<u8>>> {
        let nonce = Nonce::try_assume_unique_for_key(&wrapped.nonce).ok()?;
        let mut text = Zeroizing::new(wrapped.ciphertext.clone());
        let length = self.cipher()?.open_in_place(nonce, Aad::from(bound(record)), &mut text).ok()?.len();
        text.truncate(length);
        Some(text)
    }
}

impl WrappingKeys {
    pub(crate) fn wrap(&self, record: &KeyRecord, pkcs8: &[u8]) -> Result<WrappedKey, WrappingFault> {
        // Random nonces of 96 bits are safe for 2^32 keys, which no gateway makes.
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).map_err(|_| WrappingFault::Wrap)?;
        let cipher = self.current.cipher().ok_or(WrappingFault::Wrap)?;
        let mut text = pkcs8.to_vec();
        let sealed =
            cipher.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(bound(record)), &mut text);
        if sealed.is_err() {
            drop(Zeroizing::new(text));
            return Err(WrappingFault::Wrap);
        }
        Ok(WrappedKey { nonce: nonce.to_vec(), ciphertext: text })
    }

    pub(crate) fn open(&self, record: &KeyRecord, wrapped: &WrappedKey) -> Result<Zeroizing<Vec<u8>>, WrappingFault> {
        let keys = [Some(&self.current), self.other.as_ref()];
        let opened = keys.into_iter().flatten().find_map(|key| key.open(record, wrapped));
        opened.ok_or_else(|| WrappingFault::Open { key_id: record.key_id.clone() })
    }
}

/// The facts that are fixed when a key is created, each with its length before it.
fn bound(record: &KeyRecord) -> Vec<u8> {
    let until = match record.signs_until {
        SigningEnd::At(end) => end.seconds().to_string(),
        SigningEnd::Never => "never".to_owned(),
        SigningEnd::WithNext => "with next".to_owned(),
    };
    let (made_at, from) = (record.made_at.seconds().to_string(), record.signs_from.seconds().to_string());
    let mut all = Vec::new();
    for part in [PURPOSE, record.key_id.as_bytes(), record.algorithm.as_str().as_bytes()].into_iter().chain([
        made_at.as_bytes(),
        from.as_bytes(),
        until.as_bytes(),
    ]) {
        all.extend_from_slice(&(part.len() as u64).to_le_bytes());
        all.extend_from_slice(part);
    }
    all
}

impl fmt::Debug for WrappingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WrappingKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::UnixTime;
    use crate::jose::algorithm::Algorithm;

    fn record() -> KeyRecord {
        KeyRecord {
            key_id: "a".to_owned(),
            thumbprint: None,
            algorithm: Algorithm::Es256,
            made_at: UnixTime::from_seconds(10),
            signs_from: UnixTime::from_seconds(20),
            signs_until: SigningEnd::At(UnixTime::from_seconds(30)),
            token_ttl: Duration::from_secs(60),
            max_age: Duration::from_secs(60),
        }
    }

    fn keys(byte: u8) -> WrappingKeys {
        let current = WrappingKey::parse(&BASE64URL.encode([byte; 32])).unwrap();
        WrappingKeys { current, other: None }
    }

    #[test]
    fn a_wrapped_key_opens_with_its_own_facts_only() {
        let wrapped = keys(1).wrap(&record(), b"private").unwrap();
        assert_eq!(keys(1).open(&record(), &wrapped).unwrap().as_slice(), b"private");
        let later = SigningEnd::At(UnixTime::from_seconds(31));
        let others = [
            KeyRecord { key_id: "b".to_owned(), ..record() },
            KeyRecord { algorithm: Algorithm::Es384, ..record() },
            KeyRecord { made_at: UnixTime::from_seconds(11), ..record() },
            KeyRecord { signs_from: UnixTime::from_seconds(19), ..record() },
            KeyRecord { signs_until: later, ..record() },
            KeyRecord { signs_until: SigningEnd::Never, ..record() },
        ];
        for other in others {
            assert!(keys(1).open(&other, &wrapped).is_err(), "{other:?}");
        }
        assert!(keys(2).open(&record(), &wrapped).is_err());
        let longer = KeyRecord { token_ttl: Duration::from_secs(90), ..record() };
        assert!(keys(1).open(&longer, &wrapped).is_ok(), "a longer lifetime of tokens changes no interval");
    }

    #[test]
    fn the_other_wrapping_key_opens_and_does_not_wrap() {
        let both = WrappingKeys { other: Some(keys(1).current), ..keys(2) };
        assert!(both.open(&record(), &keys(1).wrap(&record(), b"x").unwrap()).is_ok());
        let wrapped = both.wrap(&record(), b"x").unwrap();
        assert!(keys(2).open(&record(), &wrapped).is_ok() && keys(1).open(&record(), &wrapped).is_err());
    }

    #[test]
    fn a_wrapping_key_has_32_bytes() {
        for text in ["", "AAAA", &BASE64URL.encode([0; 31]), &BASE64URL.encode([0; 33]), "not base64url, at all"] {
            assert!(WrappingKey::parse(text).is_none(), "{text}");
        }
        assert!(WrappingKey::parse(&format!("{}=", BASE64URL.encode([0; 32]))).is_some());
    }
}
