//! Reads a client assertion from a token request (RFC 7521 §4.2).
//!
//! Takes the body's parameters; gives one [`PresentedAssertion`], which is parsed and not verified, or an error. It
//! says by what kind of assertion the client is to be authenticated.

use std::fmt;

use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::CredentialParameters;
use super::claim::ClientFault;
use crate::jose::token::Unverified;

/// The text of an assertion: any holder can use it, so it is never printed.
pub(crate) struct ClientAssertion(String);

/// An assertion, and the client that it is presented for.
pub(crate) struct PresentedAssertion {
    pub(crate) token: Unverified<'static>,
    pub(crate) kind: AssertionKind,
    /// The parameter `client_id`.
    pub(crate) client_id: Option<String>,
}

/// The party that has issued the assertion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AssertionKind {
    /// The client itself, by a key of its own (`private_key_jwt`, RFC 7523 §2.2).
    OfClient,
    /// An external issuer.
    Federated,
}

/// The values of `client_assertion_type`.
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// A JWT-SVID, which may lack `iss`.
const JWT_SPIFFE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe";

impl ClientAssertion {
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl PresentedAssertion {
    /// `None` if the request presents none. `is_external` tells whether an external issuer has this `iss`.
    pub(crate) fn read(
        headers: &HeaderMap,
        body: &mut CredentialParameters,
        is_external: impl Fn(&str) -> bool,
    ) -> Result<Option<Self>, ClientFault> {
        let (text, kind) = match (body.client_assertion.take(), body.client_assertion_type.take()) {
            (None, None) => return Ok(None),
            (None, Some(_)) => return Err(ClientFault::InvalidRequest("client_assertion is missing")),
            (Some(_), None) => return Err(ClientFault::InvalidRequest("client_assertion_type is missing")),
            (Some(text), Some(kind)) => (text, kind),
        };
        if headers.contains_key(AUTHORIZATION) || body.client_secret.is_some() || body.assertion.is_some() {
            return Err(ClientFault::InvalidRequest("more than one way to authenticate the client"));
        }
        if kind != JWT_BEARER && kind != JWT_SPIFFE {
            let description = "client_assertion_type is not supported";
            return Err(ClientFault::Malformed { description, basic: false });
        }
        let client_id = body.client_id.take();
        let token = match Unverified::parse(text.expose()) {
            Ok(token) => token.into_owned(),
            Err(fault) => return Err(ClientFault::Assertion { client: client_id, refused: fault.into() }),
        };
        let of_client = kind == JWT_BEARER
            && token.claims.issuer.as_deref().is_some_and(|iss| Some(iss) == token.claims.subject.as_deref())
            && !token.claims.issuer.as_deref().is_some_and(is_external);
        let kind = if of_client { AssertionKind::OfClient } else { AssertionKind::Federated };
        let presented = Self { token, kind, client_id };
        presented.check_client_id()?;
        Ok(Some(presented))
    }

    /// The assertion that is the grant of a request. It is the only credential of its client.
    pub(crate) fn of_grant(headers: &HeaderMap, body: CredentialParameters) -> Result<Self, ClientFault> {
        let CredentialParameters { client_id, client_secret, client_assertion, client_assertion_type, assertion } =
            body;
        let has_other = client_secret.is_some() || client_assertion.is_some() || client_assertion_type.is_some();
        if headers.contains_key(AUTHORIZATION) || has_other {
            return Err(ClientFault::InvalidRequest("the assertion is the only credential of this grant"));
        }
        let text = assertion.ok_or(ClientFault::InvalidRequest("assertion is missing"))?;
        match Unverified::parse(text.expose()) {
            Ok(token) => Ok(Self { token: token.into_owned(), kind: AssertionKind::Federated, client_id }),
            Err(fault) => Err(ClientFault::Assertion { client: client_id, refused: fault.into() }),
        }
    }

    /// The client that it is presented for, as received.
    pub(crate) fn id(&self) -> &str {
        let subject = self.token.claims.subject.as_deref();
        match self.kind {
            AssertionKind::OfClient => subject.unwrap_or_default(),
            AssertionKind::Federated => self.client_id.as_deref().or(subject).unwrap_or_default(),
        }
    }

    /// The parameter must name the same client as the assertion (RFC 7521 §4.2).
    fn check_client_id(&self) -> Result<(), ClientFault> {
        match (self.kind, &self.client_id) {
            (AssertionKind::OfClient, Some(other)) if other != self.id() => {
                Err(ClientFault::InvalidRequest("client_id differs from the client of client_assertion"))
            }
            (AssertionKind::OfClient | AssertionKind::Federated, _) => Ok(()),
        }
    }
}

impl fmt::Debug for ClientAssertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientAssertion(..)")
    }
}

impl fmt::Debug for PresentedAssertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PresentedAssertion").field("kind", &self.kind).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::PresentedCredentials;
    use super::*;
    use crate::jose::algorithm::Algorithm;
    use crate::jose::signing::SigningKey;
    use crate::oauth::error::TokenErrorCode;
    use serde_json::json;

    fn assertion(iss: &str, sub: &str) -> String {
        let claims = json!({"iss": iss, "sub": sub, "aud": "a", "exp": 2_000_000_000});
        let (key, _) = SigningKey::generate(Algorithm::Es256).unwrap();
        key.sign("JWT", claims.to_string().as_bytes()).unwrap()
    }

    fn read(authorization: Option<&'static str>, body: &[(&str, &str)]) -> Result<PresentedCredentials, ClientFault> {
        let mut parameters = CredentialParameters::default();
        body.iter().for_each(|(name, value)| parameters.set(name, (*value).to_owned()));
        let mut headers = HeaderMap::new();
        if let Some(value) = authorization {
            headers.insert(AUTHORIZATION, value.parse().unwrap());
        }
        PresentedCredentials::read(&headers, parameters, None, |iss| iss == "https://i.example")
    }

    fn kind(kind: &str, assertion: &str) -> AssertionKind {
        let presented = read(None, &[("client_assertion", assertion), ("client_assertion_type", kind)]).unwrap();
        let PresentedCredentials::Assertion(presented) = presented else { panic!("{presented:?}") };
        presented.kind
    }

    #[test]
    fn an_assertion_of_the_client_about_itself_is_its_own() {
        assert_eq!(kind(JWT_BEARER, &assertion("app", "app")), AssertionKind::OfClient);
        for (iss, sub) in [("app", "other"), ("https://i.example", "https://i.example"), ("https://i.example", "app")] {
            assert_eq!(kind(JWT_BEARER, &assertion(iss, sub)), AssertionKind::Federated, "{iss} {sub}");
        }
        assert_eq!(kind(JWT_SPIFFE, &assertion("app", "app")), AssertionKind::Federated);
    }

    #[test]
    fn one_way_to_authenticate_per_request() {
        let text = assertion("app", "app");
        let both = [("client_assertion", &*text), ("client_assertion_type", JWT_BEARER)];
        let with = |more: &[(&'static str, &'static str)]| [&both[..], more].concat();
        for (authorization, body) in [
            (Some("Basic YTpi"), with(&[])),
            (Some("Bearer a"), with(&[])),
            (None, with(&[("client_secret", "s")])),
            (None, with(&[("client_id", "other")])),
            (None, vec![both[0]]),
            (None, vec![both[1]]),
        ] {
            let refused = read(authorization, &body);
            assert!(matches!(refused, Err(ClientFault::InvalidRequest(_))), "{authorization:?} {body:?}");
        }
        assert!(read(None, &with(&[("client_id", "app")])).is_ok());
    }

    #[test]
    fn other_types_and_malformed_assertions_are_refused() {
        let text = assertion("app", "app");
        for (kind, text) in [
            ("urn:ietf:params:oauth:client-assertion-type:saml2-bearer", &*text),
            (JWT_BEARER, "a.b.c"),
            (JWT_BEARER, "eyJhbGciOiJub25lIn0.eyJleHAiOjJ9."),
        ] {
            let refused = read(None, &[("client_assertion", text), ("client_assertion_type", kind)]).unwrap_err();
            assert_eq!(refused.code(), TokenErrorCode::InvalidClient, "{kind} {text}");
        }
    }

    #[test]
    fn the_text_of_an_assertion_is_never_printed() {
        let text = assertion("app", "app");
        let presented = read(None, &[("client_assertion", &text), ("client_assertion_type", JWT_BEARER)]).unwrap();
        let printed = format!("{presented:?}");
        assert!(text.split('.').all(|part| !printed.contains(part)), "{printed}");
    }
}
