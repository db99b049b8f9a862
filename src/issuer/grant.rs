//! Decides the grant of an authenticated client. Pure: no clock, no randomness, no keys.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::client::Client;
use super::client_auth::claim::ClientFault;
use crate::clock::UnixTime;
use crate::oauth::error::TokenErrorCode;
use crate::oauth::identity::Identity;
use crate::oauth::scope::ScopeSet;

/// The content of a token.
#[derive(Debug)]
pub(crate) struct Grant {
    pub(crate) scope: ScopeSet,
    pub(crate) audience: String,
    pub(crate) expires_in: Duration,
}

/// The requested values. `None` means all scopes, or the default audience.
#[derive(Debug)]
pub(crate) struct Wanted<'w> {
    pub(crate) scope: Option<&'w str>,
    pub(crate) audience: Option<&'w str>,
}

/// The reason for which a token request is refused. The texts are fixed and contain nothing of the request.
#[derive(Debug)]
pub(crate) enum GrantFault {
    InvalidRequest(&'static str),
    UnsupportedMediaType,
    UnsupportedGrant,
    /// The client is not authenticated.
    Client(ClientFault),
    InvalidScope {
        client: Identity,
    },
    InvalidTarget {
        client: Identity,
    },
    /// A client asks to revoke the token of another client.
    OthersToken {
        client: Identity,
    },
}

impl Grant {
    pub(crate) fn decide(client: &Client, wanted: &Wanted<'_>) -> Result<Self, GrantFault> {
        let refused = || GrantFault::InvalidScope { client: client.id.clone() };
        let scope = match wanted.scope {
            None => client.scopes.clone(),
            Some(text) => ScopeSet::parse(text).map_err(|_| refused())?,
        };
        if !client.scopes.contains_all(&scope) {
            return Err(refused());
        }
        let audience = match wanted.audience {
            None => client.audiences.first(),
            Some(wanted) => client.audiences.iter().find(|allowed| *allowed == wanted),
        };
        let audience = audience.ok_or_else(|| GrantFault::InvalidTarget { client: client.id.clone() })?;
        Ok(Self { scope, audience: audience.clone(), expires_in: client.token_ttl })
    }

    /// The claims of the access token (RFC 9068 §2.2).
    pub(crate) fn claims(&self, issuer: &str, client: &Client, now: UnixTime, token_id: &str) -> Map<String, Value> {
        let mut claims = client.claims.clone();
        let registered = [
            ("iss", json!(issuer)),
            ("sub", json!(client.id.as_str())),
            ("client_id", json!(client.id.as_str())),
            ("aud", json!(self.audience)),
            ("scope", json!(self.scope.to_string())),
            ("iat", json!(now.seconds())),
            ("nbf", json!(now.seconds())),
            ("exp", json!(now.plus(self.expires_in).seconds())),
            ("jti", json!(token_id)),
        ];
        claims.extend(registered.map(|(name, value)| (name.to_owned(), value)));
        claims
    }
}

/// Claims that the configuration cannot set, because verifiers rely on them.
pub(crate) const REGISTERED_CLAIMS: [&str; 11] =
    ["iss", "sub", "client_id", "aud", "scope", "iat", "nbf", "exp", "jti", "cnf", "azp"];

impl GrantFault {
    pub(crate) fn code(&self) -> TokenErrorCode {
        match self {
            Self::InvalidRequest(_) | Self::UnsupportedMediaType => TokenErrorCode::InvalidRequest,
            Self::UnsupportedGrant => TokenErrorCode::UnsupportedGrantType,
            Self::Client(fault) => fault.code(),
            Self::InvalidScope { .. } => TokenErrorCode::InvalidScope,
            Self::InvalidTarget { .. } => TokenErrorCode::InvalidTarget,
            Self::OthersToken { .. } => TokenErrorCode::InvalidGrant,
        }
    }

    /// The public text.
    pub(crate) fn description(&self) -> &'static str {
        match self {
            Self::InvalidRequest(text) => text,
            Self::UnsupportedMediaType => {
                "the body must be application/x-www-form-urlencoded or, where allowed, application/json"
            }
            Self::UnsupportedGrant => "the only grant type is client_credentials",
            Self::Client(fault) => fault.description(),
            Self::InvalidScope { .. } => "a scope is malformed or not allowed for this client",
            Self::InvalidTarget { .. } => "the audience is not allowed for this client",
            Self::OthersToken { .. } => "the token was issued to another client",
        }
    }

    /// The client that the request names. Verified only if [`Self::is_authenticated`].
    pub(crate) fn client(&self) -> Option<Identity> {
        match self {
            Self::InvalidRequest(_) | Self::UnsupportedMediaType | Self::UnsupportedGrant => None,
            Self::Client(fault) => fault.client(),
            Self::InvalidScope { client } | Self::InvalidTarget { client } | Self::OthersToken { client } => {
                Some(client.clone())
            }
        }
    }

    /// True if the client was authenticated.
    pub(crate) fn is_authenticated(&self) -> bool {
        match self {
            Self::InvalidRequest(_) | Self::UnsupportedMediaType | Self::UnsupportedGrant => false,
            Self::Client(fault) => fault.is_authenticated(),
            Self::InvalidScope { .. } | Self::InvalidTarget { .. } | Self::OthersToken { .. } => true,
        }
    }

    /// True if the answer needs a Basic challenge (RFC 6749 §5.2).
    pub(crate) fn wants_challenge(&self) -> bool {
        matches!(self, Self::Client(fault) if fault.wants_challenge())
    }
}

#[cfg(test)]
mod tests {
    use super::super::client_auth::KeptCredentials;
    use super::*;

    fn client() -> Client {
        Client {
            id: Identity::parse("app").unwrap(),
            credentials: KeptCredentials::default(),
            scopes: ScopeSet::parse("read write").unwrap(),
            audiences: vec!["https://a.example".to_owned(), "https://b.example".to_owned()],
            token_ttl: Duration::from_secs(600),
            allow_from: None,
            claims: json!({"department": "research"}).as_object().unwrap().clone(),
        }
    }

    fn decide(scope: Option<&str>, audience: Option<&str>) -> Result<Grant, GrantFault> {
        Grant::decide(&client(), &Wanted { scope, audience })
    }

    #[test]
    fn without_scope_all_are_granted_and_the_first_audience() {
        let grant = decide(None, None).unwrap();
        assert_eq!((grant.scope.to_string().as_str(), grant.audience.as_str()), ("read write", "https://a.example"));
    }

    #[test]
    fn a_scope_outside_is_refused_never_narrowed() {
        for scope in ["admin", "read admin", "READ", "rea", "read  write", " read", "read\"", ""] {
            assert!(matches!(decide(Some(scope), None), Err(GrantFault::InvalidScope { .. })), "{scope:?}");
        }
        assert_eq!(decide(Some("write"), None).unwrap().scope.to_string(), "write");
    }

    #[test]
    fn an_audience_outside_is_refused() {
        assert_eq!(decide(None, Some("https://b.example")).unwrap().audience, "https://b.example");
        for audience in ["https://c.example", "https://a.example/", "HTTPS://A.EXAMPLE"] {
            assert!(matches!(decide(None, Some(audience)), Err(GrantFault::InvalidTarget { .. })), "{audience}");
        }
    }

    #[test]
    fn a_token_has_the_claims_of_rfc_9068_and_of_the_client() {
        let now = UnixTime::from_seconds(1_800_000_000);
        let claims = decide(None, None).unwrap().claims("https://i.example", &client(), now, "id-1");
        let expected = json!({
            "iss": "https://i.example", "sub": "app", "client_id": "app", "aud": "https://a.example", "scope": "read write",
            "iat": 1_800_000_000, "nbf": 1_800_000_000, "exp": 1_800_000_600, "jti": "id-1", "department": "research",
        });
        assert_eq!(Value::Object(claims), expected);
    }
}
