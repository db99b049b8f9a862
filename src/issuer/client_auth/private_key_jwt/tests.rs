use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use serde_json::{Value, json};

use super::super::assertion::AssertionKind;
use super::super::client_keys::{ClientKeySource, FetchedClientKeys};
use super::super::single_use::UnrecordedUse;
use super::super::{CredentialParameters, PresentedCredentials};
use super::*;
use crate::jose::algorithm::Algorithm;
use crate::jose::key_set::KeySet;
use crate::jose::signing::SigningKey;
use crate::jose::token::Unverified;
use crate::trust::fetch::ClearText;
use crate::trust::fetch_access::FetchAccess;
use crate::trust::key_cache::{KeyCache, Times};
use crate::trust::key_source::{FetchedKeys, KeySetPlace};
use crate::trust::replay::{Replay, ReplayKeeper};

mod mutations;

const NOW: UnixTime = UnixTime::from_seconds(1_800_000_000);
const ISSUER: &str = "https://gateway.example.com";
const TOKEN_URL: &str = "https://gateway.example.com/oauth/token";

/// A verifier with a keeper in a folder of its own.
pub(super) struct World {
    verifier: AssertionVerifier,
    replay: Replay,
    _folder: tempfile::TempDir,
}

impl World {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (mut keeper, replay) = ReplayKeeper::open(folder.path()).unwrap();
        thread::spawn(move || keeper.run());
        Self { verifier: AssertionVerifier::new(), replay, _folder: folder }
    }

    pub(super) async fn verify(
        &self,
        keys: &ClientKeys,
        standing: Standing,
        assertion: &str,
    ) -> Result<Arc<VerifyingKey>, AssertionFault> {
        let Some(presented) = presented(assertion) else {
            let fault = Unverified::parse(assertion).unwrap_err();
            return Err(AssertionFault::Refused(fault.into()));
        };
        let id = presented.id().to_owned();
        let claim = Claim { id: &id, standing, kept: keys, from: IpAddr::V4(Ipv4Addr::LOCALHOST) };
        let audiences = [ISSUER, TOKEN_URL].map(str::to_owned);
        let signed = self.verifier.matching(claim, &presented, &audiences, NOW).await?;
        // As the authenticator and its callers do.
        match standing {
            Standing::Good => match signed.once.record(&self.replay, NOW).await {
                Ok(()) => Ok(signed.key),
                Err(UnrecordedUse::Repeated(refused)) => Err(refused.into()),
                Err(UnrecordedUse::Unavailable) => panic!("the keeper runs"),
            },
            Standing::Elsewhere | Standing::Unknown => Ok(signed.key),
        }
    }

    async fn cause(&self, keys: &ClientKeys, standing: Standing, assertion: &str) -> AssertionCause {
        match self.verify(keys, standing, assertion).await {
            Err(AssertionFault::Refused(refused)) => refused.cause,
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.replay.end();
    }
}

/// `None` if it cannot be parsed.
pub(super) fn presented(assertion: &str) -> Option<PresentedAssertion> {
    let mut body = CredentialParameters::default();
    body.set("client_assertion", assertion.to_owned());
    body.set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer".to_owned());
    match PresentedCredentials::read(&http::HeaderMap::new(), body, None, |_| false) {
        Ok(PresentedCredentials::Assertion(presented)) => Some(*presented),
        Ok(PresentedCredentials::Secret(_) | PresentedCredentials::Certificate(_)) => unreachable!(),
        Err(_) => None,
    }
}

pub(super) fn key(algorithm: Algorithm) -> SigningKey {
    SigningKey::generate(algorithm).unwrap().0
}

pub(super) fn keys(keys: &[&SigningKey]) -> ClientKeys {
    let keys = keys.iter().map(|key| Arc::new(key.verifying_key().unwrap())).collect();
    ClientKeys { sources: vec![ClientKeySource::Local(Arc::new(KeySet::from_keys(keys)))] }
}

/// Good claims with these instead; `null` removes one.
pub(super) fn claims(other: &Value) -> Value {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let token_id = NEXT.fetch_add(1, Ordering::Relaxed).to_string();
    let mut claims = json!({
        "iss": "app", "sub": "app", "aud": ISSUER, "jti": token_id,
        "iat": NOW.seconds(), "exp": NOW.seconds() + 60,
    });
    claims.as_object_mut().unwrap().extend(other.as_object().unwrap().clone());
    claims
}

fn assertion(key: &SigningKey, other: &Value) -> String {
    key.sign("JWT", claims(other).to_string().as_bytes()).unwrap()
}

#[tokio::test]
async fn a_good_assertion_is_accepted_once() {
    let (world, own) = (World::new(), key(Algorithm::Es256));
    let kept = keys(&[&own]);
    for audience in [json!(ISSUER), json!(TOKEN_URL), json!([ISSUER])] {
        let good = assertion(&own, &json!({ "aud": audience }));
        let signer = world.verify(&kept, Standing::Good, &good).await.unwrap();
        assert_eq!(&*signer.thumbprint, own.thumbprint());
        assert_eq!(world.cause(&kept, Standing::Good, &good).await, AssertionCause::Replayed);
    }
    let of_both = [assertion(&own, &json!({"jti": "same"})), assertion(&own, &json!({"jti": "same"}))];
    assert!(world.verify(&kept, Standing::Good, &of_both[0]).await.is_ok());
    assert_eq!(world.cause(&kept, Standing::Good, &of_both[1]).await, AssertionCause::Replayed, "another text");
}

#[tokio::test]
async fn every_algorithm_of_a_key_is_accepted() {
    let world = World::new();
    for algorithm in Algorithm::ALL {
        let own = key(algorithm);
        let good = assertion(&own, &json!({}));
        assert!(world.verify(&keys(&[&own]), Standing::Good, &good).await.is_ok(), "{algorithm}");
    }
}

#[tokio::test]
async fn a_claim_out_of_bounds_is_refused() {
    let (world, own) = (World::new(), key(Algorithm::Es256));
    let kept = keys(&[&own]);
    let now = NOW.seconds();
    let check = AssertionCause::Check;
    for (other, expected) in [
        (json!({"aud": "https://other.example"}), check(TokenError::BadAudience)),
        (json!({"aud": [ISSUER, "https://other.example"]}), check(TokenError::BadAudience)),
        (json!({"aud": [ISSUER, ISSUER]}), check(TokenError::BadAudience)),
        (json!({"aud": format!("{ISSUER}/")}), check(TokenError::BadAudience)),
        (json!({"aud": null}), check(TokenError::BadAudience)),
        (json!({"aud": []}), check(TokenError::BadAudience)),
        (json!({"exp": null}), check(TokenError::MissingClaim)),
        (json!({"exp": now - 30}), check(TokenError::Expired)),
        (json!({"exp": now + 331}), AssertionCause::LivesTooLong),
        (json!({"exp": now + 3600, "iat": now}), AssertionCause::LivesTooLong),
        (json!({"jti": null}), check(TokenError::MissingClaim)),
        (json!({"jti": ""}), check(TokenError::MissingClaim)),
        (json!({"iat": now + 31}), check(TokenError::NotYetValid)),
        (json!({"nbf": now + 31}), check(TokenError::NotYetValid)),
        (json!({"exp": "soon"}), check(TokenError::Malformed)),
        (json!({"jti": 7}), check(TokenError::Malformed)),
    ] {
        let refused = world.cause(&kept, Standing::Good, &assertion(&own, &other)).await;
        assert_eq!(refused, expected, "{other}");
    }
    for other in [json!({"exp": now - 29}), json!({"exp": now + 330}), json!({"nbf": now + 30}), json!({"iat": null})] {
        assert!(world.verify(&kept, Standing::Good, &assertion(&own, &other)).await.is_ok(), "{other}");
    }
}

#[tokio::test]
async fn tokens_of_other_types_are_no_assertions() {
    let (world, own) = (World::new(), key(Algorithm::Es256));
    let kept = keys(&[&own]);
    let of_type = |kind: &str| own.sign(kind, claims(&json!({})).to_string().as_bytes()).unwrap();
    for kind in ["at+jwt", "dpop+jwt", "application/at+jwt", "secevent+jwt", ""] {
        let refused = world.cause(&kept, Standing::Good, &of_type(kind)).await;
        assert_eq!(refused, AssertionCause::Check(TokenError::TypeNotAllowed), "{kind}");
    }
    for kind in ["JWT", "jwt", "client-authentication+jwt"] {
        assert!(world.verify(&kept, Standing::Good, &of_type(kind)).await.is_ok(), "{kind}");
    }
}

#[tokio::test]
async fn only_the_keys_of_the_client_sign_for_it() {
    let (world, own, others) = (World::new(), key(Algorithm::Es256), key(Algorithm::Es256));
    let kept = keys(&[&own]);
    let unknown = AssertionCause::Check(TokenError::UnknownKid);
    let forged = AssertionCause::Check(TokenError::BadSignature);
    // The other key has another id; without its id it is compared, and has not signed.
    assert_eq!(world.cause(&kept, Standing::Good, &assertion(&others, &json!({}))).await, unknown);
    let renamed = others.named(own.key_id());
    assert_eq!(world.cause(&kept, Standing::Good, &assertion(&renamed, &json!({}))).await, forged);
    let rsa = key(Algorithm::Rs256);
    assert_eq!(world.cause(&kept, Standing::Good, &assertion(&rsa, &json!({}))).await, unknown);
    assert_eq!(
        world.cause(&ClientKeys::default(), Standing::Good, &assertion(&own, &json!({}))).await,
        AssertionCause::UnknownClient,
        "a client without keys"
    );
}

#[tokio::test]
async fn without_a_key_id_all_keys_of_the_algorithm_are_tried() {
    let world = World::new();
    let all: Vec<SigningKey> = (0..4).map(|_| key(Algorithm::Es256)).collect();
    let kept = keys(&all.iter().collect::<Vec<_>>());
    for own in &all {
        // As the SDKs of MCP sign.
        let good = own.sign_under(r#"{"alg":"ES256","typ":"JWT"}"#, claims(&json!({})).to_string().as_bytes()).unwrap();
        assert_eq!(&*world.verify(&kept, Standing::Good, &good).await.unwrap().thumbprint, own.thumbprint());
    }
}

#[tokio::test]
async fn an_unknown_client_leaves_no_trace() {
    let (world, own) = (World::new(), key(Algorithm::Es256));
    let good = assertion(&own, &json!({}));
    // Its keys are those of another client, and the result does not count.
    assert_eq!(world.cause(&keys(&[&own]), Standing::Unknown, &good).await, AssertionCause::UnknownClient);
    assert_eq!(world.cause(&ClientKeys::default(), Standing::Unknown, &good).await, AssertionCause::UnknownClient);
    assert!(world.verify(&keys(&[&own]), Standing::Elsewhere, &good).await.is_ok(), "reported as elsewhere");
    assert!(world.verify(&keys(&[&own]), Standing::Good, &good).await.is_ok(), "it was not used before");
}

fn fetched_keys() -> (ClientKeys, Arc<KeyCache>) {
    let fetched = FetchedClientKeys::new(FetchedKeys {
        place: KeySetPlace::Uri("https://client.example/jwks".parse().unwrap()),
        ca: None,
        max_stale: Duration::from_secs(60),
        clear_text: ClearText::Loopback,
        access: FetchAccess::default(),
    });
    let cache = Arc::clone(&fetched.cache);
    (ClientKeys { sources: vec![ClientKeySource::Fetched(Box::new(fetched))] }, cache)
}

#[tokio::test]
async fn a_key_that_replaces_another_under_its_id_is_fetched() {
    let (world, now) = (World::new(), tokio::time::Instant::now());
    let (kept, cache) = fetched_keys();
    let [old, new, foreign] = [(); 3].map(|()| key(Algorithm::Es256));
    let publish = |key: &SigningKey, age: u64| {
        let mut jwk = key.public_jwk().clone();
        jwk.insert("kid".to_owned(), "one".into());
        let key = VerifyingKey::from_jwk(&jwk.into(), &Algorithm::ALL).unwrap();
        let requested_at = now.checked_sub(Duration::from_secs(age)).unwrap();
        let times = Times::new(requested_at, Duration::from_secs(60), Duration::ZERO);
        cache.publish(KeySet::from_keys(vec![Arc::new(key)]), times);
    };
    let header = json!({"alg": "ES256", "kid": "one"}).to_string();
    let sign = |key: &SigningKey| key.sign_under(&header, claims(&json!({})).to_string().as_bytes()).unwrap();
    publish(&old, 60 - 1);
    let refresher = async {
        cache.wanted().await;
        publish(&new, 0);
    };
    let assertion = sign(&new);
    let ((), answer) = tokio::join!(refresher, world.verify(&kept, Standing::Good, &assertion));
    assert!(answer.unwrap().is_same(&new.verifying_key().unwrap()));
    let bad = AssertionCause::Check(TokenError::BadSignature);
    assert_eq!(world.cause(&kept, Standing::Good, &sign(&old)).await, bad, "the old key is gone");
    assert_eq!(world.cause(&kept, Standing::Good, &sign(&foreign)).await, bad, "a young set is believed");
    publish(&new, 60 - 1);
    assert_eq!(world.cause(&kept, Standing::Unknown, &sign(&old)).await, AssertionCause::UnknownClient);
    let wanted = tokio::time::timeout(Duration::ZERO, cache.wanted()).await;
    assert!(wanted.is_err(), "nothing is fetched for an unknown client");
}

#[tokio::test]
async fn nothing_is_fetched_for_an_unknown_client() {
    let (world, own) = (World::new(), key(Algorithm::Es256));
    let (kept, cache) = fetched_keys();
    let good = assertion(&own, &json!({}));
    assert_eq!(world.cause(&kept, Standing::Unknown, &good).await, AssertionCause::UnknownClient);
    let wanted = || tokio::time::timeout(Duration::ZERO, cache.wanted());
    assert!(wanted().await.is_err(), "no request asks for the set");
    cache.publish_failure(tokio::time::Instant::now());
    let answer = world.verify(&kept, Standing::Good, &good).await;
    assert!(matches!(answer, Err(AssertionFault::KeysUnavailable(_))), "{answer:?}");
    assert!(wanted().await.is_ok(), "a known client asks for it");
}

#[tokio::test]
async fn an_unknown_key_is_refused_while_a_set_is_known() {
    let (world, own, others) = (World::new(), key(Algorithm::Es256), key(Algorithm::Es256));
    let (kept, cache) = fetched_keys();
    let now = tokio::time::Instant::now();
    let hour = Duration::from_secs(3600);
    let set = KeySet::from_keys(vec![Arc::new(own.verifying_key().unwrap())]);
    cache.publish(set, Times::new(now.checked_sub(Duration::from_secs(60)).unwrap(), hour, hour));
    cache.publish_failure(now);
    let unknown = world.cause(&kept, Standing::Good, &assertion(&others, &json!({}))).await;
    assert_eq!(unknown, AssertionCause::Check(TokenError::UnknownKid));
    assert!(world.verify(&kept, Standing::Good, &assertion(&own, &json!({}))).await.is_ok());
}

#[tokio::test]
async fn without_a_record_of_its_use_no_assertion_counts() {
    let once = SingleUse::by_client("app", "1", NOW.seconds() + 60);
    let unrecorded = once.record(&Replay::without_keeper(), NOW).await;
    assert!(matches!(unrecorded, Err(UnrecordedUse::Unavailable)), "{unrecorded:?}");
}

#[test]
fn an_assertion_of_another_subject_is_not_of_the_client() {
    let own = key(Algorithm::Es256);
    assert_eq!(presented(&assertion(&own, &json!({"sub": "other"}))).unwrap().kind, AssertionKind::Federated);
    assert_eq!(presented(&assertion(&own, &json!({"iss": null}))).unwrap().kind, AssertionKind::Federated);
}
