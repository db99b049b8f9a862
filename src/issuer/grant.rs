//! Decides the grant of an authenticated client. Pure: no clock, no randomness, no keys.

use std::borrow::Cow;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::client::Client;
use super::client_auth::claim::ClientFault;
use crate::clock::UnixTime;
use crate::oauth::confirmation::Confirmation;
use crate::oauth::error::TokenErrorCode;
use crate::oauth::identity::Identity;
use crate::oauth::scope::{Scope, ScopeSet};
use crate::trust::failed_proof::{FailedProof, ProofError};

/// The content of a token.
#[derive(Debug)]
pub(crate) struct Grant {
    pub(crate) scope: ScopeSet,
    /// Never empty.
    pub(crate) audiences: Vec<String>,
    pub(crate) expires_in: Duration,
}

/// The requested values.
#[derive(Debug)]
pub(crate) struct Wanted<'w> {
    /// `None` means all scopes.
    pub(crate) scope: Option<&'w str>,
    /// Empty means the default audience.
    pub(crate) audiences: &'w [String],
}

/// The reason for which a token request is refused. The texts are fixed and contain nothing of the request but, for an
/// authenticated client, a scope: its characters are legal in a description (RFC 6749 §5.2).
#[derive(Debug)]
pub(crate) enum GrantFault {
    InvalidRequest(&'static str),
    UnsupportedMediaType,
    UnsupportedGrant,
    /// The client is not authenticated.
    Client(ClientFault),
    /// The assertion that is the grant authenticates no client (RFC 7523 §3.1).
    Assertion(ClientFault),
    InvalidScope {
        client: Identity,
        /// The first scope that the client may not request. `None`: the parameter is malformed.
        asked: Option<Scope>,
        allowed: ScopeSet,
    },
    InvalidTarget {
        client: Identity,
        asked: String,
        allowed: Vec<String>,
    },
    /// The DPoP proof of the request is not good, or a proof of possession is missing.
    Proof {
        client: Identity,
        failed: FailedProof,
    },
    /// A client asks to revoke the token of another client.
    OthersToken {
        client: Identity,
    },
}

impl Grant {
    pub(crate) fn decide(client: &Client, wanted: &Wanted<'_>) -> Result<Self, GrantFault> {
        let (scope, audiences) = (scope(client, wanted.scope)?, audiences(client, wanted.audiences)?);
        Ok(Self { scope, audiences, expires_in: client.token_ttl })
    }

    /// The claims of the access token (RFC 9068 §2.2), which is bound to the keys of `confirmation`.
    pub(crate) fn claims(
        &self,
        (issuer, client): (&str, &Client),
        confirmation: &Confirmation,
        now: UnixTime,
        token_id: &str,
    ) -> Map<String, Value> {
        let mut claims = client.claims.clone();
        let registered = [
            ("iss", json!(issuer)),
            ("sub", json!(client.id.as_str())),
            ("client_id", json!(client.id.as_str())),
            ("aud", self.audience_claim()),
            ("scope", json!(self.scope.to_string())),
            ("iat", json!(now.seconds())),
            ("nbf", json!(now.seconds())),
            ("exp", json!(now.plus(self.expires_in).seconds())),
            ("jti", json!(token_id)),
        ];
        claims.extend(registered.map(|(name, value)| (name.to_owned(), value)));
        claims.extend(confirmation.to_claim().map(|value| ("cnf".to_owned(), value)));
        claims
    }

    /// One audience is a string, several are a list (RFC 7519 §4.1.3).
    fn audience_claim(&self) -> Value {
        match &self.audiences[..] {
            [only] => json!(only),
            several => json!(several),
        }
    }
}

fn scope(client: &Client, wanted: Option<&str>) -> Result<ScopeSet, GrantFault> {
    let refused = |asked| {
        let (client, allowed) = (client.id.clone(), client.scopes.clone());
        GrantFault::InvalidScope { client, asked, allowed }
    };
    let Some(text) = wanted else { return Ok(client.scopes.clone()) };
    let scope = ScopeSet::parse(text).map_err(|_| refused(None))?;
    let foreign = scope.iter().find(|scope| !client.scopes.contains(scope)).cloned();
    if foreign.is_some() { Err(refused(foreign)) } else { Ok(scope) }
}

/// Every audience that is asked for must be the client's (RFC 8707 §2). Their order is that of the request.
fn audiences(client: &Client, wanted: &[String]) -> Result<Vec<String>, GrantFault> {
    let refused = |asked: &str| {
        let (client, allowed) = (client.id.clone(), client.audiences.clone());
        GrantFault::InvalidTarget { client, asked: asked.to_owned(), allowed }
    };
    let mut audiences: Vec<String> = Vec::new();
    for audience in wanted {
        if !client.audiences.contains(audience) {
            return Err(refused(audience));
        }
        if !audiences.contains(audience) {
            audiences.push(audience.clone());
        }
    }
    if audiences.is_empty() {
        audiences.push(client.audiences.first().ok_or_else(|| refused(""))?.clone());
    }
    Ok(audiences)
}

/// Claims that the configuration cannot set, because verifiers rely on them.
pub(crate) const REGISTERED_CLAIMS: [&str; 11] =
    ["iss", "sub", "client_id", "aud", "scope", "iat", "nbf", "exp", "jti", "cnf", "azp"];

/// Bytes of a scope that a description names.
const MAX_NAMED_SCOPE: usize = 128;

impl GrantFault {
    pub(crate) fn code(&self) -> TokenErrorCode {
        match self {
            Self::InvalidRequest(_) | Self::UnsupportedMediaType => TokenErrorCode::InvalidRequest,
            Self::UnsupportedGrant => TokenErrorCode::UnsupportedGrantType,
            Self::Client(fault) => fault.code(),
            Self::Assertion(_) | Self::OthersToken { .. } => TokenErrorCode::InvalidGrant,
            Self::InvalidScope { .. } => TokenErrorCode::InvalidScope,
            Self::InvalidTarget { .. } => TokenErrorCode::InvalidTarget,
            Self::Proof { failed, .. } => match failed.reason {
                ProofError::Missing | ProofError::Invalid | ProofError::Replayed => TokenErrorCode::InvalidDpopProof,
                ProofError::Nonce => TokenErrorCode::UseDpopNonce,
                ProofError::NoRoom => TokenErrorCode::TemporarilyUnavailable,
            },
        }
    }

    /// The public text.
    pub(crate) fn description(&self) -> Cow<'static, str> {
        let text = match self {
            Self::InvalidRequest(text) => text,
            Self::UnsupportedMediaType => {
                "the body must be application/x-www-form-urlencoded or, where allowed, application/json"
            }
            Self::UnsupportedGrant => "the grant type is not supported",
            Self::Client(fault) => fault.description(),
            Self::Assertion(_) => "the assertion is not accepted",
            Self::InvalidScope { asked: Some(scope), .. } if scope.as_str().len() <= MAX_NAMED_SCOPE => {
                return format!("the scope {} is not allowed for this client", scope.as_str()).into();
            }
            Self::InvalidScope { asked: Some(_), .. } => "a scope is not allowed for this client",
            Self::InvalidScope { asked: None, .. } => "the scope parameter is malformed",
            Self::InvalidTarget { .. } => "an audience or resource is not allowed for this client",
            Self::Proof { failed, .. } => proof_description(failed.reason),
            Self::OthersToken { .. } => "the token was issued to another client",
        };
        text.into()
    }

    /// The client that the request names. Verified only if [`Self::is_authenticated`].
    pub(crate) fn client(&self) -> Option<Identity> {
        match self {
            Self::InvalidRequest(_) | Self::UnsupportedMediaType | Self::UnsupportedGrant => None,
            Self::Client(fault) | Self::Assertion(fault) => fault.client(),
            Self::InvalidScope { client, .. }
            | Self::InvalidTarget { client, .. }
            | Self::Proof { client, .. }
            | Self::OthersToken { client } => Some(client.clone()),
        }
    }

    /// True if the client was authenticated.
    pub(crate) fn is_authenticated(&self) -> bool {
        match self {
            Self::InvalidRequest(_) | Self::UnsupportedMediaType | Self::UnsupportedGrant => false,
            Self::Client(fault) | Self::Assertion(fault) => fault.is_authenticated(),
            Self::InvalidScope { .. } | Self::InvalidTarget { .. } | Self::Proof { .. } | Self::OthersToken { .. } => {
                true
            }
        }
    }

    /// True if the answer needs a Basic challenge (RFC 6749 §5.2).
    pub(crate) fn wants_challenge(&self) -> bool {
        matches!(self, Self::Client(fault) if fault.wants_challenge())
    }
}

/// The public text about a proof, at the token endpoint and on routes.
pub(crate) fn proof_description(reason: ProofError) -> &'static str {
    match reason {
        ProofError::Missing => "a DPoP proof is required",
        ProofError::Invalid => "the DPoP proof is not valid for this request",
        ProofError::Replayed => "the DPoP proof was used before",
        ProofError::Nonce => "the DPoP proof needs the nonce of the field DPoP-Nonce",
        ProofError::NoRoom => "no more DPoP proofs can be accepted just now",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
            bound: crate::oauth::bound::TokenBinding::None,
            claims: json!({"department": "research"}).as_object().unwrap().clone(),
        }
    }

    fn decide(scope: Option<&str>, audiences: &[&str]) -> Result<Grant, GrantFault> {
        let audiences: Vec<String> = audiences.iter().map(|audience| (*audience).to_owned()).collect();
        Grant::decide(&client(), &Wanted { scope, audiences: &audiences })
    }

    #[test]
    fn without_scope_all_are_granted_and_the_first_audience() {
        let grant = decide(None, &[]).unwrap();
        assert_eq!(grant.scope.to_string(), "read write");
        assert_eq!(grant.audiences, ["https://a.example"]);
    }

    #[test]
    fn a_scope_outside_is_refused_never_narrowed() {
        for scope in ["admin", "read admin", "READ", "rea", "read  write", " read", "read\"", ""] {
            assert!(matches!(decide(Some(scope), &[]), Err(GrantFault::InvalidScope { .. })), "{scope:?}");
        }
        assert_eq!(decide(Some("write"), &[]).unwrap().scope.to_string(), "write");
    }

    #[test]
    fn a_refused_scope_is_named_unless_it_is_malformed_or_long() {
        let description = |scope: &str| decide(Some(scope), &[]).unwrap_err().description();
        assert_eq!(description("read admin:all"), "the scope admin:all is not allowed for this client");
        assert_eq!(description(&"x".repeat(129)), "a scope is not allowed for this client");
        for malformed in ["read\"", "a\\b", "\u{fc}", "read  write"] {
            assert_eq!(description(malformed), "the scope parameter is malformed");
        }
        let longest = "!".repeat(MAX_NAMED_SCOPE);
        assert!(description(&longest).contains(&longest));
    }

    proptest! {
        #[test]
        fn descriptions_have_only_the_characters_of_rfc_6749(scope in "[ -~]{1,20}|\\PC{1,200}|[!#-~]{1,300}") {
            if let Err(fault) = decide(Some(&scope), &[]) {
                let legal = |byte: u8| matches!(byte, 0x20..=0x21 | 0x23..=0x5B | 0x5D..=0x7E);
                prop_assert!(fault.description().bytes().all(legal), "{}", fault.description());
                prop_assert!(fault.description().len() < 256);
            }
        }
    }

    #[test]
    fn an_audience_outside_is_refused() {
        assert_eq!(decide(None, &["https://b.example"]).unwrap().audiences, ["https://b.example"]);
        for audience in ["https://c.example", "https://a.example/", "HTTPS://A.EXAMPLE"] {
            for asked in [&[audience][..], &["https://a.example", audience], &[audience, "https://a.example"]] {
                assert!(matches!(decide(None, asked), Err(GrantFault::InvalidTarget { .. })), "{asked:?}");
            }
        }
    }

    #[test]
    fn several_audiences_are_a_list_in_their_order() {
        let (a, b) = ("https://a.example", "https://b.example");
        let claim = |asked: &[&str]| decide(None, asked).unwrap().audience_claim();
        assert_eq!(claim(&[b, a]), json!([b, a]));
        assert_eq!(claim(&[a, b, a]), json!([a, b]));
        assert_eq!(claim(&[b, b]), json!(b));
    }

    #[test]
    fn a_token_has_the_claims_of_rfc_9068_and_of_the_client() {
        let now = UnixTime::from_seconds(1_800_000_000);
        let claims =
            decide(None, &[]).unwrap().claims(("https://i.example", &client()), &Confirmation::default(), now, "id-1");
        let expected = json!({
            "iss": "https://i.example", "sub": "app", "client_id": "app", "aud": "https://a.example", "scope": "read write",
            "iat": 1_800_000_000, "nbf": 1_800_000_000, "exp": 1_800_000_600, "jti": "id-1", "department": "research",
        });
        assert_eq!(Value::Object(claims), expected);
    }
}
