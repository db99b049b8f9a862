use super::super::example::{NOW, claims, settings};
use super::super::key_cache::{KeyCache, Times};
use super::*;
use crate::jose::algorithm::Algorithm;
use crate::jose::key_set::KeySet;
use crate::jose::signing::SigningKey;
use crate::trust::failed_check::TokenError;

const EXPECTED: Expectations<'_> = Expectations { issuers: AllowedIssuers::All, audiences: AllowedAudiences::OfIssuer };
const DAY: Duration = Duration::from_secs(24 * 3600);

fn key() -> SigningKey {
    SigningKey::generate(Algorithm::Es256).unwrap().0
}

fn publish(keys: &KeyCache, key: &SigningKey, usable_for: Duration) {
    let now = Instant::now();
    let times = Times::new(now, usable_for, Duration::ZERO);
    keys.publish(KeySet::from_keys(vec![Arc::new(key.verifying_key().unwrap())]), times);
}

/// A token that was found valid, with the keys of its issuer.
async fn verified(key: &SigningKey) -> (Trust, Verified) {
    let keys = Arc::new(KeyCache::remote());
    publish(&keys, key, DAY);
    let trust = Trust::new(vec![Arc::new(TrustedIssuer { settings: settings(), keys })], Arc::default());
    let token = key.sign("JWT", claims().to_string().as_bytes()).unwrap();
    let verified = trust.verify(&token, EXPECTED, UnixTime::from_seconds(NOW)).await.unwrap();
    (trust, verified)
}

#[tokio::test(start_paused = true)]
async fn a_token_that_was_good_dies_with_its_time() {
    let (_trust, verified) = verified(&key()).await;
    let at = |seconds| {
        verified.revalidate(EXPECTED, UnixTime::from_seconds(seconds), Instant::now()).map_err(|check| check.reason)
    };
    // It expires at 600, and the issuer's leeway is 120.
    for (seconds, verdict) in
        [(0, Ok(())), (719, Ok(())), (720, Err(TokenError::Expired)), (1 << 40, Err(TokenError::Expired))]
    {
        assert_eq!(at(NOW + seconds), verdict, "{seconds}");
    }
    assert_eq!(at(NOW - 121), Err(TokenError::NotYetValid), "the clock went back");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_was_good_dies_with_its_key() {
    let key = key();
    let (_trust, verified) = verified(&key).await;
    let again =
        || verified.revalidate(EXPECTED, UnixTime::from_seconds(NOW), Instant::now()).map_err(|check| check.reason);
    let keys = &verified.issuer.keys;
    publish(keys, &key, DAY);
    assert_eq!(again(), Ok(()), "a set that still has the key");
    publish(keys, &self::key(), DAY);
    assert_eq!(again(), Err(TokenError::UnknownKid));
    publish(keys, &key, Duration::ZERO);
    assert_eq!(again(), Err(TokenError::KeysUnavailable), "the keys are too old to decide");
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_is_configured_anew_is_another() {
    let (trust, verified) = verified(&key()).await;
    assert!(trust.holds(&verified.issuer));
    let reconfigured = TrustedIssuer { settings: settings(), keys: Arc::clone(&verified.issuer.keys) };
    assert!(!Trust::new(vec![Arc::new(reconfigured)], Arc::default()).holds(&verified.issuer));
}
