//! Tokens of the callers that a rehearsed request can have.

use base64::Engine as _;
use http::HeaderName;
use http::header::AUTHORIZATION;
use serde_json::{Map, Value, json};

use super::Rehearsal;
use super::kept_facts::KeptFacts;
use super::proofs::confirmation_of;
use super::signer::{LIFETIME, rehearsed_value};
use crate::clock;
use crate::issuer::grant::{Grant, GrantFault, Wanted};
use crate::jose::BASE64URL;
use crate::jose::signing::SigningKeyFault;
use crate::jose::strict_json;
use crate::oauth::caller::IssuerName;
use crate::trust::audiences::AcceptedAudiences;
use crate::trust::claimed_caller::ClaimedIssuer;
use crate::trust::scope_claim::{AUTO, ClaimPath, ScopeClaim};
use crate::trust::token_origin::TokenOrigin;

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
    #[error("the client `{client}` would not get this token: {}", fault.description())]
    NotGranted { client: String, fault: Box<GrantFault> },
    #[error("cannot sign a token for the caller")]
    Signature(#[from] SigningKeyFault),
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
        let (issuer, confirmation) = (&own.server.endpoints().issuer, self.confirmation(client));
        let claims = grant.claims((issuer, client), &confirmation, clock::now(), "rehearsal");
        Ok(self.signer.key.sign("at+jwt", Value::Object(claims).to_string().as_bytes())?)
    }

    /// A token of an external issuer with these claims. `iss`, `aud`, `iat` and `exp` are added where they are missing,
    /// so that the token is good but for what the claims say. A claim of `null` is left out. A token with `cnf` is bound
    /// to what the rehearsal has, so that its caller can prove it.
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
        self.bind(&mut all);
        let mut header = json!({ "alg": self.signer.key.algorithm().as_str(), "kid": self.signer.key.key_id() });
        if let (Some(token_type), Some(header)) = (settings.types.named.first(), header.as_object_mut()) {
            header.insert("typ".to_owned(), json!(token_type));
        }
        Ok(self.signer.key.sign_under(&header.to_string(), Value::Object(all).to_string().as_bytes())?)
    }

    /// The header field in which a token comes.
    pub(crate) fn field_of(&self, token: &str) -> (String, String) {
        let trust = &self.snapshot.trust;
        let of_static = trust.static_tokens().find(token.as_bytes());
        let of_static = of_static.and_then(|(_, known)| known.settings.field.as_ref());
        let in_field = of_static.or_else(|| trust.field_of(token));
        in_field.map_or_else(|| self.authorization(token), |name| (name.to_string(), token.to_owned()))
    }

    /// `Authorization` with a token, by the scheme that its binding demands.
    pub(crate) fn authorization(&self, token: &str) -> (String, String) {
        let scheme = if confirmation_of(token).key.is_some() { "DPoP" } else { "Bearer" };
        (AUTHORIZATION.to_string(), format!("{scheme} {token}"))
    }

    /// A token of an external issuer for a caller that is known by these alone. `claims` has its subject and client.
    /// Its binding is not known: it has every one.
    pub(crate) fn token_with_scopes(
        &self,
        name: &str,
        mut claims: Map<String, Value>,
        scopes: &str,
    ) -> Result<String, NoCaller> {
        let issuers = self.snapshot.trust.issuers();
        let issuer = issuers.iter().find(|issuer| issuer.settings.name.as_str() == name);
        let settings = &issuer.ok_or_else(|| NoCaller::UnknownIssuer(name.to_owned()))?.settings;
        match &settings.scope_claim {
            ScopeClaim::Auto => claims.insert(AUTO[0].to_owned(), json!(scopes)),
            ScopeClaim::Named(paths) => match paths.first() {
                Some(ClaimPath::Text(path)) => claims.insert(path.clone(), json!(scopes)),
                Some(ClaimPath::Parts(parts)) => {
                    let (first, rest) = parts.split_first().map_or(("", &[][..]), |(first, rest)| (first, rest));
                    let value = rest.iter().rev().fold(json!(scopes), |value, part| json!({ part: value }));
                    claims.insert(first.to_owned(), value)
                }
                None => None,
            },
        };
        let bound = self.every_binding(settings.token_field.as_ref());
        claims.extend(bound.to_claim().map(|cnf| ("cnf".to_owned(), cnf)));
        self.token_of_issuer(name, &claims)
    }

    /// The name of the issuer of a real token whose keys are not at hand: its signature cannot be checked.
    pub(crate) fn issuer_without_keys(&self, token: &str, facts: &KeptFacts) -> Option<IssuerName> {
        match self.snapshot.trust.claimed_by(token)?.issuer? {
            ClaimedIssuer::Configured(name) => (!facts.keys.contains_key(&name)).then_some(name),
            ClaimedIssuer::Unknown(_) => None,
        }
    }

    /// The same token, signed with the key of the rehearsal, and bound to what the rehearsal has. `None` if it is not
    /// well-formed, or if its algorithm is not that of the key.
    pub(crate) fn signed_again(&self, token: &str) -> Option<String> {
        let mut parts = token.split('.');
        let mut part = || BASE64URL.decode(parts.next()?).ok();
        let (header, claims) = (part()?, part()?);
        let mut header = strict_json::object(&header).ok()?;
        let key = &self.signer.key;
        if header.get("alg")?.as_str()? != key.algorithm().as_str() {
            return None;
        }
        header.retain(|name, _| !name.starts_with("x5t"));
        header.insert("kid".to_owned(), json!(key.key_id()));
        let header = Value::Object(header).to_string();
        match strict_json::object(&claims) {
            Ok(mut bound) if bound.contains_key("cnf") => {
                self.bind(&mut bound);
                key.sign_under(&header, Value::Object(bound).to_string().as_bytes()).ok()
            }
            Ok(_) | Err(_) => key.sign_under(&header, &claims).ok(),
        }
    }
}
