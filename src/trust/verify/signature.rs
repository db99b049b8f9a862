//! The signature of a token: the key that its header names, and whether that key made it.

use std::sync::Arc;

use tokio::time::Instant;

use crate::jose::jwk::VerifyingKey;
use crate::jose::token::Unverified;
use crate::oauth::observer::Observer;
use crate::trust::failed_check::FailedCheck;
use crate::trust::issuer::TrustedIssuer;
use crate::trust::key_cache::KeyLookup;
use crate::trust::passed_check::{self, report};

/// The issuer's key that signed the token.
pub(super) async fn signing_key(
    issuer: &TrustedIssuer,
    token: &Unverified<'_>,
    observer: &mut impl Observer,
) -> Result<Arc<VerifyingKey>, FailedCheck> {
    let (named, algorithm) = (token.header.key(), token.header.algorithm);
    let found = match issuer.keys.find(named, algorithm).await {
        KeyLookup::Found(key) => Ok(key),
        KeyLookup::Unknown => Err(FailedCheck::unknown_key(issuer, &token.header)),
        KeyLookup::Unavailable => {
            let is_usable = issuer.keys.is_usable(Instant::now());
            Err(FailedCheck::keys_unavailable(issuer, is_usable))
        }
    };
    let mut key = report(observer, "key", found, |key| passed_check::key(key))?;
    let mut is_signed = token.is_signed_by(&key);
    if !is_signed {
        // The issuer may have replaced the key and kept its id.
        let replacement = issuer.keys.find_replacement(named, algorithm, &key).await;
        if let Some(replacement) = replacement.filter(|key| token.is_signed_by(key)) {
            (key, is_signed) = (replacement, true);
        }
    }
    let signed = if is_signed { Ok(()) } else { Err(FailedCheck::bad_signature(issuer, &key)) };
    report(observer, "signature", signed, |()| passed_check::key(&key))?;
    Ok(key)
}
