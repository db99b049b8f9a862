//! The authorization server whole: authenticates a client, decides its grant, signs its token.

use std::net::IpAddr;
use std::sync::Arc;

use aws_lc_rs::rand;
use base64::Engine as _;
use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Value, json};
use tracing::error;

use super::client::{Client, Clients};
use super::credentials::Credentials;
use super::grant::{Grant, GrantFault, Wanted};
use super::metadata;
use super::offload::{Busy, Offload};
use super::passwords::{Claim, Passwords};
use super::request::Parameters;
use super::ring::Ring;
use crate::clock::UnixTime;
use crate::jose::BASE64URL;
use crate::oauth::identity::Identity;

/// What the configuration says of it.
#[derive(Debug)]
pub(crate) struct ServerSettings {
    /// An origin; `iss`.
    pub(crate) issuer: String,
    pub(crate) token_path: String,
    pub(crate) json_requests: bool,
}

/// Where slow cryptography runs.
#[derive(Debug)]
pub(crate) struct Offloads {
    pub(crate) signatures: Offload,
    pub(crate) passwords: Offload,
}

#[derive(Debug)]
pub(crate) struct AuthorizationServer {
    settings: ServerSettings,
    clients: Arc<Clients>,
    ring: Ring,
    signatures: Offload,
    passwords: Passwords,
    jwks: Bytes,
    metadata: Bytes,
}

/// An issued token and what the audit log says of it.
#[derive(Debug)]
pub(crate) struct Issued {
    /// The answer's body (RFC 6749 §5.1).
    pub(crate) body: Bytes,
    pub(crate) client: Identity,
    /// Which of the client's secrets it came by, counted from 1.
    pub(crate) secret: usize,
    pub(crate) scope: String,
    pub(crate) token_id: String,
    pub(crate) key_id: String,
}

/// A client that has proved who it is.
#[derive(Clone, Copy, Debug)]
struct Authenticated<'c> {
    client: &'c Client,
    /// Counted from 1.
    secret: usize,
}

#[derive(Debug)]
pub(crate) enum TokenRefusal {
    Fault(GrantFault),
    /// We can't sign or compare just now.
    Busy(Busy),
    /// We can't sign at all.
    Broken,
    /// The clock is certainly wrong.
    Clock,
}

impl AuthorizationServer {
    pub(crate) fn new(settings: ServerSettings, clients: Arc<Clients>, ring: Ring, offloads: Offloads) -> Self {
        let jwks = ring.public_jwks().to_string().into();
        let metadata = metadata::metadata(&settings.issuer, &settings.token_path).to_string().into();
        let Offloads { signatures, passwords } = offloads;
        Self { settings, clients, ring, signatures, passwords: Passwords::new(passwords), jwks, metadata }
    }

    pub(crate) fn token_path(&self) -> &str {
        &self.settings.token_path
    }

    /// The JWK Set document (RFC 7517 §5).
    pub(crate) fn jwks(&self) -> Bytes {
        self.jwks.clone()
    }

    /// The metadata document (RFC 8414 §3.2).
    pub(crate) fn metadata(&self) -> Bytes {
        self.metadata.clone()
    }

    /// Answers a token request whose body has been read whole.
    pub(crate) async fn token(
        &self,
        headers: &HeaderMap,
        query: Option<&str>,
        body: &[u8],
        from: IpAddr,
        now: UnixTime,
    ) -> Result<Issued, TokenRefusal> {
        if !now.is_plausible() {
            return Err(TokenRefusal::Clock);
        }
        let mut parameters = Parameters::read(headers, query, body, self.settings.json_requests)?;
        let credentials = Credentials::read(headers, &mut parameters)?;
        let authenticated = self.authenticate(credentials, from, now).await?;
        parameters.check_grant_type()?;
        let wanted = Wanted { scope: parameters.scope.as_deref(), audience: parameters.audience.as_deref() };
        let grant = Grant::decide(authenticated.client, &wanted)?;
        self.issue(authenticated, grant, now).await
    }

    async fn authenticate(
        &self,
        credentials: Credentials,
        from: IpAddr,
        now: UnixTime,
    ) -> Result<Authenticated<'_>, TokenRefusal> {
        let wrong = GrantFault::WrongCredentials { client: credentials.id().to_owned(), basic: credentials.is_basic() };
        let (id, plain_id, presented) = match credentials {
            Credentials::Post { id, secret } => (id, None, vec![secret]),
            Credentials::Basic { id, secret } => {
                (id.decoded, id.plain, std::iter::once(secret.decoded).chain(secret.plain).collect())
            }
        };
        let known = self.clients.get(&id).or_else(|| self.clients.get(plain_id.as_deref()?));
        // Looked up for known clients too: they must not be the faster ones.
        let stand_in = self.clients.stand_in(&id);
        let kept = known.map_or(stand_in, |client| &client.secrets);
        let claim = Claim { id: known.map_or(&id, |client| client.id.as_str()), is_known: known.is_some(), kept, from };
        match (known, self.passwords.matching(claim, presented, now).await?) {
            (Some(client), Some(position)) => Ok(Authenticated { client, secret: position + 1 }),
            (Some(_) | None, _) => Err(TokenRefusal::Fault(wrong)),
        }
    }

    async fn issue(
        &self,
        authenticated: Authenticated<'_>,
        grant: Grant,
        now: UnixTime,
    ) -> Result<Issued, TokenRefusal> {
        let Authenticated { client, secret } = authenticated;
        let token_id = token_id()?;
        let claims = Value::Object(grant.claims(&self.settings.issuer, client, now, &token_id)).to_string();
        let key = Arc::clone(self.ring.current());
        let key_id = key.key_id().to_owned();
        let signed = self.signatures.run(move || key.sign("at+jwt", claims.as_bytes())).await?;
        let token = signed.map_err(|fault| {
            error!(error = %fault, "cannot sign tokens");
            TokenRefusal::Broken
        })?;
        let scope = grant.scope.to_string();
        let body = json!({
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": grant.expires_in.as_secs(),
            "scope": scope,
        });
        Ok(Issued { body: body.to_string().into(), client: client.id.clone(), secret, scope, token_id, key_id })
    }
}

/// 128 random bits.
fn token_id() -> Result<String, TokenRefusal> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| TokenRefusal::Busy(Busy))?;
    Ok(BASE64URL.encode(bytes))
}

impl From<GrantFault> for TokenRefusal {
    fn from(fault: GrantFault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Busy> for TokenRefusal {
    fn from(busy: Busy) -> Self {
        Self::Busy(busy)
    }
}
