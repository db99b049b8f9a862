use serde_json::{Value, json};

use super::super::audiences::AcceptedAudiences;
use super::super::example::{NOW, claims, settings};
use super::super::issuer::IssuerSettings;
use super::super::key_cache::KeyCache;
use super::super::verify::{AllowedAudiences, AllowedIssuers, Expectations};
use super::*;
use crate::jose::algorithm::Algorithm;
use crate::jose::key_set::KeySet;
use crate::jose::signing::SigningKey;

const OWN: [&str; 2] = ["https://gateway.example.com", "https://gateway.example.com/oauth/token"];

struct World {
    key: SigningKey,
    trust: Trust,
}

impl World {
    fn new(audiences: AcceptedAudiences) -> Self {
        let (key, _) = SigningKey::generate(Algorithm::Es256).unwrap();
        let keys = KeySet::from_keys(vec![Arc::new(key.verifying_key().unwrap())]);
        let settings = IssuerSettings { audiences, ..settings() };
        let issuer = TrustedIssuer { settings, keys: Arc::new(KeyCache::own(keys)), introspection: None };
        Self { key, trust: Trust::new(vec![Arc::new(issuer)], Arc::default()) }
    }

    fn federation_only() -> Self {
        Self::new(AcceptedAudiences::FederationOnly)
    }

    async fn verify(&self, token: &str, federated: &str) -> Result<PlatformCredential, TokenError> {
        let is_federated = |name: &IssuerName| name.as_str() == federated;
        let expected = CredentialExpectations { is_federated: &is_federated, audience: OWN[0] };
        let token = Unverified::parse(token).map_err(|fault| FailedCheck::from(fault).reason)?;
        let verified = self.trust.verify_credential(token, expected, UnixTime::from_seconds(NOW)).await;
        verified.map_err(|refused| refused.reason)
    }

    fn token(&self, header: &str, changes: &Value) -> String {
        self.key.sign(header, good(changes).to_string().as_bytes()).unwrap()
    }

    async fn reason(&self, typ: &str, changes: Value) -> Option<TokenError> {
        self.verify(&self.token(typ, &changes), "corp").await.err()
    }
}

fn good(changes: &Value) -> Value {
    let mut all = claims();
    all["aud"] = json!(OWN[0]);
    all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    all
}

#[tokio::test]
async fn a_token_for_our_issuer_alone_is_a_credential() {
    let world = World::federation_only();
    for aud in [json!(OWN[0]), json!([OWN[0]])] {
        let credential = world.verify(&world.token("JWT", &json!({"aud": aud})), "corp").await.unwrap();
        let parts = (credential.issuer.as_str(), credential.subject.as_str(), credential.refused_from);
        assert_eq!(parts, ("corp", "someone", NOW + 600 + 120), "{aud}");
    }
}

#[tokio::test]
async fn a_token_with_another_audience_is_no_credential() {
    let other = "https://api.example.com";
    // The issuer's own audiences do not count.
    let listed = World::new(AcceptedAudiences::Listed {
        accepted: vec![other.to_owned()],
        instead_of_aud: Some("azp".to_owned()),
    });
    for world in [World::federation_only(), listed, World::new(AcceptedAudiences::Unlimited)] {
        for aud in [json!(other), json!([OWN[0], other]), json!([OWN[0], OWN[1]]), json!([OWN[0], OWN[0]])] {
            assert_eq!(world.reason("JWT", json!({"aud": aud})).await, Some(TokenError::BadAudience), "{aud}");
        }
        for slip in ["https://gateway.example.com/", "HTTPS://gateway.example.com", "https://gateway.example.com "] {
            assert_eq!(world.reason("JWT", json!({"aud": slip})).await, Some(TokenError::BadAudience), "{slip}");
        }
        for aud in [json!(null), json!(""), json!([])] {
            let changes = json!({"aud": aud, "azp": OWN[0]});
            assert_eq!(world.reason("JWT", changes).await, Some(TokenError::MissingClaim), "{aud}");
        }
    }
}

#[tokio::test]
async fn a_token_with_another_use_is_no_credential() {
    let mut world = World::federation_only();
    let types = OTHER_USES.iter().map(|name| (*name).to_owned()).chain(["jwt".to_owned()]).collect();
    let types = super::super::issuer::TokenTypes { named: types, absent: true };
    let (settings, keys) = (world.trust.issuers()[0].settings.clone(), Arc::clone(&world.trust.issuers()[0].keys));
    let issuer = TrustedIssuer { settings: IssuerSettings { types, ..settings }, keys, introspection: None };
    world.trust = Trust::new(vec![Arc::new(issuer)], Arc::default());
    for typ in ["at+jwt", "AT+JWT", "application/at+jwt", "dpop+jwt", "logout+jwt", "secevent+jwt", "other+jwt"] {
        assert_eq!(world.reason(typ, json!({})).await, Some(TokenError::TypeNotAllowed), "{typ}");
    }
    assert_eq!(world.reason("JWT", json!({})).await, None);
}

#[tokio::test]
async fn a_token_that_fails_a_usual_check_is_no_credential() {
    let world = World::federation_only();
    for (changes, reason) in [
        (json!({"exp": null}), TokenError::MissingClaim),
        (json!({"exp": NOW - 120}), TokenError::Expired),
        (json!({"nbf": NOW + 121}), TokenError::NotYetValid),
        (json!({"iat": NOW + 121}), TokenError::NotYetValid),
        (json!({"iss": null}), TokenError::MissingClaim),
        (json!({"iss": "https://other.example.com"}), TokenError::UnknownIssuer),
        (json!({"sub": null}), TokenError::MissingClaim),
        (json!({"sub": 7}), TokenError::Malformed),
        (json!({"cnf": {"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}}), TokenError::NotProven),
    ] {
        assert_eq!(world.reason("JWT", changes.clone()).await, Some(reason), "{changes}");
    }
    let other = World::federation_only();
    let forged = other.key.sign_under(
        &json!({"alg": "ES256", "kid": world.key.key_id()}).to_string(),
        good(&json!({})).to_string().as_bytes(),
    );
    assert_eq!(world.verify(&forged.unwrap(), "corp").await.unwrap_err(), TokenError::BadSignature);
}

#[tokio::test]
async fn a_token_of_an_issuer_that_no_client_names_is_no_credential() {
    let world = World::federation_only();
    let token = world.token("JWT", &json!({}));
    assert_eq!(world.verify(&token, "other").await.unwrap_err(), TokenError::UnknownIssuer);
}

#[tokio::test]
async fn an_issuer_for_federation_never_authenticates_a_request() {
    let world = World::federation_only();
    let own = [OWN[0].to_owned()];
    let names = [IssuerName::new("corp")];
    for aud in [json!(OWN[0]), json!("https://api.example.com"), json!(null)] {
        let token = world.token("JWT", &json!({"aud": aud}));
        for audiences in [AllowedAudiences::Any, AllowedAudiences::OfIssuer, AllowedAudiences::Only(&own)] {
            for issuers in [AllowedIssuers::All, AllowedIssuers::Only(&names)] {
                let expected = Expectations { issuers, audiences };
                let at = UnixTime::from_seconds(NOW);
                let refused = world.trust.verify(&token, expected, at, &mut Unobserved).await.unwrap_err();
                assert_eq!(refused.reason, TokenError::IssuerNotAllowed, "{expected:?}");
            }
        }
    }
}
