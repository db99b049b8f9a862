//! Tokens of the callers that a rehearsed request can have.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use http::HeaderName;
use http::header::AUTHORIZATION;
use serde_json::{Map, Value, json};

use super::{Rehearsal, RehearsalError};
use crate::clock;
use crate::issuer::grant::{Grant, GrantFault, Wanted};
use crate::issuer::ring::{Ring, RingKey};
use crate::issuer::rotation::KeyRecord;
use crate::jose::BASE64URL;
use crate::jose::algorithm::Algorithm;
use crate::jose::key_set::KeySet;
use crate::jose::signing::{SigningKey, SigningKeyFault};
use crate::trust::audiences::AcceptedAudiences;
use crate::trust::issuer::{IssuerSettings, TrustedIssuer};
use crate::trust::key_cache::KeyCache;
use crate::trust::static_tokens::{StaticTokenSettings, StaticTokens, TokenHash};
use crate::trust::token_origin::TokenOrigin;

/// Signs for every issuer of a rehearsal.
pub(super) struct Signer {
    key: Arc<SigningKey>,
}

/// The caller cannot be had under this configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoCaller {
    #[error("there is no client `{0}`")]
    UnknownClient(String),
    #[error("there is no issuer `{0}`")]
    UnknownIssuer(String),
    #[error("there is no static token `{0}`")]
    UnknownStaticToken(String),
    /// The token endpoint would refuse it this token.
    #[error("the client `{client}` would not get this token")]
    NotGranted { client: String, fault: Box<GrantFault> },
    #[error("cannot sign a token for the rehearsal")]
    Signature(#[from] SigningKeyFault),
}

/// Making it is fast.
const ALGORITHM: Algorithm = Algorithm::Es256;
const LIFETIME: Duration = Duration::from_secs(3600);

impl Signer {
    pub(super) fn new() -> Result<Self, SigningKeyFault> {
        let (key, _) = SigningKey::generate(ALGORITHM)?;
        Ok(Self { key: Arc::new(key) })
    }

    /// The issuer, with the signer's key in place of its own.
    pub(super) fn trusted(&self, mut settings: IssuerSettings) -> Result<Arc<TrustedIssuer>, RehearsalError> {
        if !settings.algorithms.contains(&ALGORITHM) {
            settings.algorithms.push(ALGORITHM);
        }
        let keys = KeySet::from_keys(vec![Arc::new(self.key.verifying_key()?)]);
        Ok(Arc::new(TrustedIssuer { settings, keys: Arc::new(KeyCache::own(keys)) }))
    }

    pub(super) fn ring(&self) -> Ring {
        let now = clock::now();
        let record = KeyRecord {
            key_id: self.key.key_id().to_owned(),
            thumbprint: None,
            algorithm: ALGORITHM,
            made_at: now,
            signs_from: now,
            token_ttl: LIFETIME,
            max_age: LIFETIME,
        };
        Ring::of_one(RingKey { key: Arc::clone(&self.key), certificate: None }, record)
    }
}

/// The static tokens of a configuration, with values of the rehearsal in place of their own, which nobody knows.
pub(super) fn static_tokens(settings: &[StaticTokenSettings]) -> StaticTokens {
    let known = |token: &StaticTokenSettings| {
        let hash = TokenHash::of(rehearsed_value(token.name.as_str()).as_bytes());
        StaticTokenSettings { hash, ..token.clone() }
    };
    StaticTokens::new(settings.iter().map(known).collect(), None)
}

fn rehearsed_value(name: &str) -> String {
    format!("rehearsed-static-token-{}", BASE64URL.encode(name))
}

impl Rehearsal {
    /// The name and value of the header field with this static token.
    pub(crate) fn static_token(&self, name: &str) -> Result<(HeaderName, String), NoCaller> {
        let token = self.snapshot.trust.static_tokens().with_name(name);
        let token = token.ok_or_else(|| NoCaller::UnknownStaticToken(name.to_owned()))?;
        let value = rehearsed_value(name);
        Ok(match &token.settings.field {
            Some(field) => (field.clone(), value),
            None => (AUTHORIZATION, format!("Bearer {value}")),
        })
    }

    /// A token as our own token endpoint would issue it to the client. Without `scopes`, it has all of the client.
    pub(crate) fn token_of_client(&self, id: &str, scopes: Option<&str>) -> Result<String, NoCaller> {
        let client = self.clients.as_ref().and_then(|clients| clients.get(id));
        let (Some(client), Some(own)) = (client, self.snapshot.oauth.as_ref()) else {
            return Err(NoCaller::UnknownClient(id.to_owned()));
        };
        let grant = Grant::decide(client, &Wanted { scope: scopes, audiences: &[] });
        let grant = grant.map_err(|fault| NoCaller::NotGranted { client: id.to_owned(), fault: Box::new(fault) })?;
        let claims = grant.claims(&own.server.endpoints().issuer, client, clock::now(), "rehearsal");
        Ok(self.signer.key.sign("at+jwt", Value::Object(claims).to_string().as_bytes())?)
    }

    /// A token of an external issuer with these claims. `iss`, `aud`, `iat` and `exp` are added where they are missing,
    /// so that the token is good but for what the claims say. A claim of `null` is left out.
    pub(crate) fn token_of_issuer(&self, name: &str, claims: &Map<String, Value>) -> Result<String, NoCaller> {
        let issuers = self.snapshot.trust.issuers();
        let issuer = issuers.iter().find(|issuer| issuer.settings.name.as_str() == name);
        let settings = &issuer.ok_or_else(|| NoCaller::UnknownIssuer(name.to_owned()))?.settings;
        let now = clock::now();
        let mut all = Map::new();
        if !matches!(&settings.origin, TokenOrigin::Spiffe(spiffe) if spiffe.issuer.is_none()) {
            all.insert("iss".to_owned(), json!(settings.metadata_issuer()));
        }
        if let AcceptedAudiences::Listed { accepted, .. } = &settings.audiences {
            all.extend(accepted.first().map(|audience| ("aud".to_owned(), json!(audience))));
        }
        all.insert("iat".to_owned(), json!(now.seconds()));
        all.insert("exp".to_owned(), json!(now.plus(LIFETIME).seconds()));
        all.extend(claims.clone());
        all.retain(|_, value| !value.is_null());
        let mut header = json!({ "alg": ALGORITHM.as_str(), "kid": self.signer.key.key_id() });
        if let (Some(token_type), Some(header)) = (settings.types.named.first(), header.as_object_mut()) {
            header.insert("typ".to_owned(), json!(token_type));
        }
        Ok(self.signer.key.sign_under(&header.to_string(), Value::Object(all).to_string().as_bytes())?)
    }
}
