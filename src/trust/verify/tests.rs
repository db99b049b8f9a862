use std::time::Duration;

use super::super::example::{NOW, claims, settings};
use super::super::issuer::IssuerSettings;
use super::super::key_cache::{KeyCache, Times};
use super::super::static_tokens::{StaticTokenSettings, TokenHash};
use super::*;
use crate::jose::algorithm::Algorithm;
use crate::jose::key_set::KeySet;
use crate::jose::signing::SigningKey;
use crate::oauth::identity::Identity;
use crate::oauth::observer::Unobserved;
use crate::oauth::scope::ScopeSet;
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
    let trust =
        Trust::new(vec![Arc::new(TrustedIssuer { settings: settings(), keys, introspection: None })], Arc::default());
    let token = key.sign("JWT", claims().to_string().as_bytes()).unwrap();
    let verified = trust.verify(&token, EXPECTED, UnixTime::from_seconds(NOW), &mut Unobserved).await.unwrap();
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
    let keys = &verified.token().unwrap().issuer.keys;
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
    assert!(trust.knows(&verified));
    let reconfigured = TrustedIssuer {
        settings: settings(),
        keys: Arc::clone(&verified.token().unwrap().issuer.keys),
        introspection: None,
    };
    assert!(!Trust::new(vec![Arc::new(reconfigured)], Arc::default()).knows(&verified));
}

/// The trust in one issuer, whose set of this key is old enough to be fetched again.
fn trust_in_an_old_set(key: &SigningKey) -> (Trust, Arc<KeyCache>) {
    let keys = Arc::new(KeyCache::remote());
    let requested_at = Instant::now() - Duration::from_secs(60);
    let set = KeySet::from_keys(vec![Arc::new(key.verifying_key().unwrap())]);
    keys.publish(set, Times::new(requested_at, DAY, Duration::ZERO));
    let issuer = TrustedIssuer { settings: settings(), keys: Arc::clone(&keys), introspection: None };
    (Trust::new(vec![Arc::new(issuer)], Arc::default()), keys)
}

/// A token of `signer` that names the key of another.
fn signed_as(named: &SigningKey, signer: &SigningKey) -> String {
    let header = serde_json::json!({"alg": "ES256", "kid": named.key_id()});
    signer.sign_under(&header.to_string(), claims().to_string().as_bytes()).unwrap()
}

async fn reason(trust: &Trust, token: &str) -> Option<TokenError> {
    trust
        .verify(token, EXPECTED, UnixTime::from_seconds(NOW), &mut Unobserved)
        .await
        .err()
        .map(|refused| refused.reason)
}

#[tokio::test(start_paused = true)]
async fn a_replaced_key_verifies_after_one_refetch() {
    let (old, new) = (key(), key());
    let (trust, keys) = trust_in_an_old_set(&old);
    let mut jwk = new.public_jwk().clone();
    jwk.insert("kid".to_owned(), old.key_id().into());
    let document = serde_json::json!({ "keys": [jwk] }).to_string();
    let refresher = async {
        keys.wanted().await;
        let set = KeySet::parse(document.as_bytes(), &Algorithm::DEFAULT, &mut Vec::new()).unwrap();
        keys.publish(set, Times::new(Instant::now(), DAY, Duration::ZERO));
    };
    let token = signed_as(&old, &new);
    let ((), refused) = tokio::join!(refresher, reason(&trust, &token));
    assert_eq!(refused, None);
    assert_eq!(reason(&trust, &signed_as(&old, &old)).await, Some(TokenError::BadSignature), "the old key");
}

#[tokio::test(start_paused = true)]
async fn a_forged_token_is_refused_whatever_the_refetch_brings() {
    let (known, evil) = (key(), key());
    let token = signed_as(&known, &evil);
    let (trust, keys) = trust_in_an_old_set(&known);
    let before = Instant::now();
    assert_eq!(reason(&trust, &token).await, Some(TokenError::BadSignature), "no answer");
    assert_eq!(before.elapsed(), Duration::from_secs(2));
    let fails = async {
        keys.wanted().await;
        keys.publish_failure(Instant::now());
    };
    let (refused, ()) = tokio::join!(reason(&trust, &token), fails);
    assert_eq!(refused, Some(TokenError::BadSignature), "a failure");
    for (what, other) in [("the same set", &known), ("a set without the key", &evil)] {
        tokio::time::advance(Duration::from_secs(6)).await;
        let brings = async {
            keys.wanted().await;
            publish(&keys, other, DAY);
        };
        let (refused, ()) = tokio::join!(reason(&trust, &token), brings);
        assert_eq!(refused, Some(TokenError::BadSignature), "{what}");
    }
}

#[test]
fn a_static_token_counts_until_its_end_without_demands() {
    let settings = StaticTokenSettings {
        name: Identity::parse("reports").unwrap(),
        hash: TokenHash::of(b"legacy-report-job-2019"),
        scopes: ScopeSet::default(),
        until: UnixTime::from_seconds(1000),
        field: None,
    };
    let tokens = StaticTokens::new(vec![settings], None);
    let verified = Verified::of_static(tokens.find(b"legacy-report-job-2019").unwrap().1);
    let named = |name: &str| [IssuerName::new(name)];
    let (corp, of_static) = (named("corp"), named("static"));
    let check = |issuers, audiences, seconds| {
        let checked =
            verified.revalidate(Expectations { issuers, audiences }, UnixTime::from_seconds(seconds), Instant::now());
        checked.map_err(|check| check.reason)
    };
    let (all, of_issuer) = (AllowedIssuers::All, AllowedAudiences::OfIssuer);
    assert_eq!(check(all, of_issuer, 999), Ok(()));
    assert_eq!(check(all, AllowedAudiences::Any, 999), Ok(()));
    assert_eq!(check(AllowedIssuers::Only(&of_static), of_issuer, 999), Ok(()));
    assert_eq!(check(all, of_issuer, 1000), Err(TokenError::StaticTokenEnded));
    assert_eq!(check(AllowedIssuers::Only(&corp), of_issuer, 999), Err(TokenError::IssuerNotAllowed));
    let api = ["api".to_owned()];
    assert_eq!(check(all, AllowedAudiences::Only(&api), 999), Err(TokenError::BadAudience));
}

impl Verified {
    /// An own token that was issued to this client.
    pub(crate) fn own(client: &str) -> Self {
        let id = Identity::parse(client).unwrap();
        let settings = IssuerSettings { name: IssuerName::own(), profile: Profile::Own, ..settings() };
        let key = SigningKey::generate(Algorithm::EdDsa).unwrap().0.verifying_key().unwrap();
        let caller = Caller::new(IssuerName::own(), &settings.issuer, Some(id), None, Default::default()).unwrap();
        let token = VerifiedToken {
            claims: Claims::parse(claims().to_string().as_bytes()).unwrap(),
            evidence: TokenEvidence::Signature(Arc::new(key)),
            issuer: Arc::new(TrustedIssuer { settings, keys: Arc::new(KeyCache::remote()), introspection: None }),
            revocations: Arc::default(),
            passed: Cell::new(0),
            client_entry: Cell::new(None),
            stored_client: Default::default(),
            known_proof: Default::default(),
        };
        Self::new(caller, Proof::Token(token))
    }
}
