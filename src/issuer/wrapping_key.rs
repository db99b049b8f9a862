//! Encrypts private keys for the database, with AES-256-GCM.
//!
//! All other columns of a key's row are the associated data of its ciphertext, so a row with changed columns cannot be
//! decrypted.

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

/// The other columns of a key's row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BoundFacts<'r> {
    /// Its times are whole seconds.
    pub(crate) record: &'r KeyRecord,
    pub(crate) certificate: Option<&'r [u8]>,
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
/// Of a key id, in characters. Those of the gateway have 43.
const MOST_SHOWN: usize = 64;

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

    fn open(&self, facts: BoundFacts<'_>, wrapped: &WrappedKey) -> Option<Zeroizing<Vec<u8>>> {
        let nonce = Nonce::try_assume_unique_for_key(&wrapped.nonce).ok()?;
        let mut text = Zeroizing::new(wrapped.ciphertext.clone());
        let length = self.cipher()?.open_in_place(nonce, Aad::from(facts.encoded()), &mut text).ok()?.len();
        text.truncate(length);
        Some(text)
    }
}

impl WrappingKeys {
    pub(crate) fn wrap(&self, facts: BoundFacts<'_>, pkcs8: &[u8]) -> Result<WrappedKey, WrappingFault> {
        // Random nonces of 96 bits are safe for 2^32 keys, which no gateway makes.
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).map_err(|_| WrappingFault::Wrap)?;
        let cipher = self.current.cipher().ok_or(WrappingFault::Wrap)?;
        let mut text = pkcs8.to_vec();
        let sealed =
            cipher.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(facts.encoded()), &mut text);
        if sealed.is_err() {
            drop(Zeroizing::new(text));
            return Err(WrappingFault::Wrap);
        }
        Ok(WrappedKey { nonce: nonce.to_vec(), ciphertext: text })
    }

    pub(crate) fn open(
        &self,
        facts: BoundFacts<'_>,
        wrapped: &WrappedKey,
    ) -> Result<Zeroizing<Vec<u8>>, WrappingFault> {
        let keys = [Some(&self.current), self.other.as_ref()];
        let opened = keys.into_iter().flatten().find_map(|key| key.open(facts, wrapped));
        opened.ok_or_else(|| WrappingFault::Open { key_id: shown(&facts.record.key_id) })
    }
}

impl BoundFacts<'_> {
    /// Each part has its length before it. A part that may be absent begins with 1 if it is there, and is 0 if not.
    fn encoded(self) -> Vec<u8> {
        let Self { record, certificate } = self;
        let until = match record.signs_until {
            SigningEnd::At(end) => end.seconds().to_string(),
            SigningEnd::Never => "never".to_owned(),
            SigningEnd::WithNext => "with next".to_owned(),
        };
        let certificate = certificate.map_or_else(|| vec![0], |certificate| [&[1], certificate].concat());
        let seconds = [
            record.made_at.seconds(),
            record.signs_from.seconds(),
            record.token_ttl.as_secs(),
            record.max_age.as_secs(),
        ];
        let seconds = seconds.map(u64::to_le_bytes);
        let texts = [PURPOSE, record.key_id.as_bytes(), record.algorithm.as_str().as_bytes(), until.as_bytes()];
        let mut all = Vec::new();
        for part in texts.into_iter().chain(seconds.iter().map(<[u8; 8]>::as_slice)).chain([&*certificate]) {
            all.extend_from_slice(&(part.len() as u64).to_le_bytes());
            all.extend_from_slice(part);
        }
        all
    }
}

/// A key id of a row, which may be any text.
pub(super) fn shown(key_id: &str) -> String {
    key_id.chars().take(MOST_SHOWN).flat_map(char::escape_debug).collect()
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

    fn facts(record: &KeyRecord) -> BoundFacts<'_> {
        BoundFacts { record, certificate: Some(b"certificate") }
    }

    #[test]
    fn a_wrapped_key_opens_with_its_own_facts_only() {
        let record = record();
        let wrapped = keys(1).wrap(facts(&record), b"private").unwrap();
        assert_eq!(keys(1).open(facts(&record), &wrapped).unwrap().as_slice(), b"private");
        let later = SigningEnd::At(UnixTime::from_seconds(31));
        let others = [
            KeyRecord { key_id: "b".to_owned(), ..record.clone() },
            KeyRecord { algorithm: Algorithm::Es384, ..record.clone() },
            KeyRecord { made_at: UnixTime::from_seconds(11), ..record.clone() },
            KeyRecord { signs_from: UnixTime::from_seconds(19), ..record.clone() },
            KeyRecord { signs_until: later, ..record.clone() },
            KeyRecord { signs_until: SigningEnd::Never, ..record.clone() },
            KeyRecord { token_ttl: Duration::from_secs(90), ..record.clone() },
            KeyRecord { max_age: Duration::from_secs(59), ..record.clone() },
        ];
        for other in others {
            assert!(keys(1).open(facts(&other), &wrapped).is_err(), "{other:?}");
        }
        for certificate in [None, Some(&b"certificat"[..]), Some(b"")] {
            assert!(keys(1).open(BoundFacts { record: &record, certificate }, &wrapped).is_err());
        }
        assert!(keys(2).open(facts(&record), &wrapped).is_err());
    }

    #[test]
    fn no_two_rows_have_the_same_encoding() {
        let record = record();
        let [absent, empty, zero] = [None, Some(&b""[..]), Some(&[0][..])]
            .map(|certificate| BoundFacts { record: &record, certificate }.encoded());
        assert!(absent != empty && absent != zero && empty != zero);
        let swapped = KeyRecord { token_ttl: record.max_age + Duration::from_secs(1), ..record.clone() };
        let other = KeyRecord { max_age: record.token_ttl + Duration::from_secs(1), ..record.clone() };
        assert_ne!(facts(&swapped).encoded(), facts(&other).encoded());
    }

    #[test]
    fn the_other_wrapping_key_opens_and_does_not_wrap() {
        let both = WrappingKeys { other: Some(keys(1).current), ..keys(2) };
        let record = record();
        assert!(both.open(facts(&record), &keys(1).wrap(facts(&record), b"x").unwrap()).is_ok());
        let wrapped = both.wrap(facts(&record), b"x").unwrap();
        assert!(keys(2).open(facts(&record), &wrapped).is_ok() && keys(1).open(facts(&record), &wrapped).is_err());
    }

    #[test]
    fn a_wrapping_key_has_32_bytes() {
        for text in ["", "AAAA", &BASE64URL.encode([0; 31]), &BASE64URL.encode([0; 33]), "not base64url, at all"] {
            assert!(WrappingKey::parse(text).is_none(), "{text}");
        }
        assert!(WrappingKey::parse(&format!("{}=", BASE64URL.encode([0; 32]))).is_some());
    }
}
