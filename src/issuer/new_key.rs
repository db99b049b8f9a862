//! Makes signing keys.

use zeroize::Zeroizing;

use super::ring_files::RingError;
use super::rotation::{KeyRecord, RotationRules};
use crate::clock::UnixTime;
use crate::jose::algorithm::Algorithm;
use crate::jose::signing::SigningKey;
use crate::jose::x509;

/// A key that is not stored yet.
pub(super) struct NewKey {
    pub(super) record: KeyRecord,
    pub(super) pkcs8: Zeroizing<Vec<u8>>,
}

const CERTIFICATE_NAME: &str = "Portcullis token signing key";

impl NewKey {
    /// Its times are whole seconds, like those that are kept. Rounded up, so that no key signs too early.
    pub(super) fn make(rules: &RotationRules, made_at: UnixTime, signs_from: UnixTime) -> Result<Self, RingError> {
        let (key, pkcs8) = SigningKey::generate(rules.algorithm).map_err(RingError::Make)?;
        let is_later = u64::from(signs_from > made_at);
        let signs_from = UnixTime::from_seconds(signs_from.seconds() + is_later);
        let record = KeyRecord {
            key_id: key.key_id().to_owned(),
            thumbprint: None,
            algorithm: rules.algorithm,
            made_at: UnixTime::from_seconds(made_at.seconds()),
            signs_from,
            signs_until: rules.signing_end(signs_from),
            token_ttl: rules.longest_ttl,
            max_age: rules.max_age(),
        };
        Ok(Self { record, pkcs8 })
    }
}

/// A self-signed certificate, for verifiers that want one.
pub(super) fn certificate(pkcs8: &[u8], algorithm: Algorithm) -> Result<Vec<u8>, RingError> {
    x509::certify(pkcs8, algorithm, CERTIFICATE_NAME).map_err(RingError::Certify)
}
