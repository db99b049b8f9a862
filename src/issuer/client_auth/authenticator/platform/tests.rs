//! Mutations of a platform token: none authenticates its client, and none causes a panic.
//!
//! `PORTCULLIS_MUTATIONS` is the number of mutations; the usual number keeps the test short.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Map, Value, json};
use tokio::runtime::Handle;

use super::*;
use crate::issuer::client::Client;
use crate::issuer::client_auth::KeptCredentials;
use crate::issuer::client_auth::assertion::AssertionKind;
use crate::issuer::client_auth::federation::FederatedIdentity;
use crate::issuer::clients::Clients;
use crate::issuer::offload::{Offload, PASSWORDS};
use crate::jose::BASE64URL;
use crate::jose::algorithm::Algorithm;
use crate::jose::key_set::KeySet;
use crate::jose::signing::SigningKey;
use crate::jose::token::Unverified;
use crate::oauth::bound::TokenBinding;
use crate::oauth::caller::IssuerName;
use crate::oauth::scope::ScopeSet;
use crate::oauth::subject_pattern::SubjectPattern;
use crate::trust::audiences::AcceptedAudiences;
use crate::trust::claim_rule::{ClaimRule, WantedValue};
use crate::trust::issuer::{IssuerSettings, Profile, TokenTypes, TrustedIssuer};
use crate::trust::key_cache::KeyCache;
use crate::trust::replay::Replay;
use crate::trust::scope_claim::ScopeClaim;
use crate::trust::token_origin::TokenOrigin;
use crate::trust::verify::Trust;

const NOW: u64 = 1_800_000_000;
const OWN: &str = "https://gateway.example.com";
const SUBJECT: &str = "repo:acme/api:ref:refs/heads/main";
const USUAL_MUTATIONS: usize = 2_000;

/// One client of one platform.
struct World {
    key: SigningKey,
    trust: Trust,
    authenticator: ClientAuthenticator,
    random: fastrand::Rng,
}

fn settings() -> IssuerSettings {
    IssuerSettings {
        name: IssuerName::new("ci"),
        issuer: Identity::parse("https://ci.example.com").unwrap(),
        origin: TokenOrigin::Issuer,
        token_field: None,
        subject_claims: vec!["sub".to_owned()],
        audiences: AcceptedAudiences::FederationOnly,
        algorithms: Algorithm::ALL.to_vec(),
        types: TokenTypes { named: vec!["at+jwt".to_owned(), "jwt".to_owned()], absent: true },
        clock_skew: Duration::from_secs(120),
        scope_claim: ScopeClaim::Auto,
        allow_scopes: None,
        profile: Profile::External,
    }
}

fn client() -> Client {
    let owner = ClaimRule { path: "owner".to_owned(), values: vec![WantedValue::Equal("65".into())] };
    let identity = FederatedIdentity {
        issuer: IssuerName::new("ci"),
        subject: SubjectPattern::parse(SUBJECT).unwrap(),
        tenant: None,
        claims: vec![owner],
        once: false,
    };
    Client {
        id: Identity::parse("deploy").unwrap(),
        credentials: KeptCredentials { federation: vec![identity], ..KeptCredentials::default() },
        scopes: ScopeSet::parse("a").unwrap(),
        audiences: vec!["x".to_owned()],
        token_ttl: Duration::from_secs(60),
        claims: Map::new(),
        allow_from: None,
        bound: TokenBinding::None,
    }
}

fn claims() -> Value {
    json!({"iss": "https://ci.example.com", "sub": SUBJECT, "aud": OWN, "exp": NOW + 600, "iat": NOW, "owner": "65"})
}

impl World {
    fn new() -> Self {
        let (key, _) = SigningKey::generate(Algorithm::Es256).unwrap();
        let keys = KeySet::from_keys(vec![Arc::new(key.verifying_key().unwrap())]);
        let issuer = TrustedIssuer { settings: settings(), keys: Arc::new(KeyCache::own(keys)), introspection: None };
        let trust = Trust::new(vec![Arc::new(issuer)], Arc::default());
        let clients = Arc::new(Clients::new(vec![client()]));
        let passwords = Offload::new(Handle::current(), PASSWORDS);
        let authenticator = ClientAuthenticator::new(clients, passwords, Replay::without_keeper());
        Self { key, trust, authenticator, random: fastrand::Rng::with_seed(16) }
    }

    /// Without the back-off, which would hide the checks.
    async fn accepts(&self, text: &str) -> bool {
        let Ok(token) = Unverified::parse(text) else { return false };
        let assertion =
            PresentedAssertion { token: token.into_owned(), kind: AssertionKind::Federated, client_id: None };
        let from = SourceAddress { address: IpAddr::from([192, 0, 2, 1]), is_certain: true };
        let by = ComparedByPlatform { trust: &self.trust, audience: OWN, now: UnixTime::from_seconds(NOW) };
        self.authenticator.by_platform(assertion, from, by).await.is_ok()
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        self.key.sign_under(&header.to_string(), claims.to_string().as_bytes()).unwrap()
    }

    fn header(&self) -> Value {
        json!({"alg": "ES256", "kid": self.key.key_id(), "typ": "JWT"})
    }

    /// A text that differs in one character.
    fn changed(&mut self, text: &str) -> String {
        let mut letters: Vec<char> = text.chars().collect();
        let at = self.random.usize(..letters.len());
        match self.random.u8(..4) {
            0 => drop(letters.remove(at)),
            1 => letters.insert(at, *self.random.choice(&['*', ':', '/', 'a', '.', '=', '\u{0}', 'ä']).unwrap()),
            2 => letters.truncate(at),
            _ => letters[at] = if letters[at] == 'x' { 'y' } else { 'x' },
        }
        letters.into_iter().collect()
    }

    /// A token that no platform has signed.
    fn unsigned(&mut self, good: &str) -> String {
        let parts: Vec<&str> = good.split('.').collect();
        let place = self.random.usize(..3);
        let mut parts: Vec<String> = parts.into_iter().map(str::to_owned).collect();
        if self.random.bool() && place < 2 {
            let bytes = BASE64URL.decode(&parts[place]).unwrap();
            let text = self.changed(std::str::from_utf8(&bytes).unwrap());
            parts[place] = BASE64URL.encode(text);
        } else {
            parts[place] = self.changed(&parts[place]);
        }
        parts.join(".")
    }

    /// A token that the platform has signed for something else.
    fn signed(&mut self) -> String {
        let (mut header, mut all) = (self.header(), claims());
        let name = *self.random.choice(&["sub", "aud", "owner", "iss"]).unwrap();
        let text = all[name].as_str().unwrap().to_owned();
        let others = [Value::Null, json!(""), json!([]), json!({}), json!(7), json!([OWN, "https://api.example.com"])];
        match self.random.u8(..4) {
            0 | 1 => all[name] = self.changed(&text).into(),
            2 => all[name] = self.random.choice(&others).unwrap().clone(),
            _ => match self.random.u8(..5) {
                0 => header["typ"] = "at+jwt".into(),
                1 => all["exp"] = (NOW - 120 - self.random.u64(..1000)).into(),
                2 => all["iat"] = (NOW + 121 + self.random.u64(..1000)).into(),
                3 => all["exp"] = Value::Null,
                _ => all["cnf"] = json!({"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}),
            },
        }
        self.sign(&header, &all)
    }
}

#[tokio::test]
async fn a_mutated_platform_token_is_never_accepted() {
    let count = std::env::var("PORTCULLIS_MUTATIONS").map_or(USUAL_MUTATIONS, |count| count.parse().unwrap());
    let mut world = World::new();
    let good = world.sign(&world.header(), &claims());
    assert!(world.accepts(&good).await);
    let mut tried = 0;
    while tried < count {
        let token = if tried % 2 == 0 { world.unsigned(&good) } else { world.signed() };
        if token == good {
            continue;
        }
        assert!(!world.accepts(&token).await, "{token}");
        tried += 1;
    }
}
