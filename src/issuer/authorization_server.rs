//! The authorization server: has a client authenticated, decides its grant, signs its token.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Value, json};
use tracing::error;

use super::client::Client;
use super::client_auth::authenticator::{Authenticated, ClientAuthenticator, ClientRefusal};
use super::client_auth::claim::ClientFault;
use super::client_auth::{ClientAuthMethod, Credential};
use super::clients::Clients;
use super::endpoints::Endpoints;
use super::grant::{Grant, GrantFault, Wanted};
use super::issuer_keys::{IssuerKeys, PublishedKeys};
use super::metadata::{self, CachedDocument};
use super::offload::{Busy, Offload};
use super::request::{CLIENT_CREDENTIALS, JWT_BEARER};
use super::stored_clients::StoredClients;
use super::token_id::token_id;
use crate::clock::UnixTime;
use crate::jose::client_certificate::ClientCertificate;
use crate::network::SourceAddress;
use crate::oauth::bound::TokenBinding;
use crate::oauth::confirmation::{Confirmation, Thumbprint};
use crate::oauth::discrepancy::Discrepancy;
use crate::oauth::identity::Identity;
use crate::oauth::scope::ScopeSet;
use crate::trust::replay::Replay;
use crate::trust::revoker::NotRevoked;
use crate::trust::verify::Trust;

/// The configured settings.
#[derive(Clone, Debug)]
pub(crate) struct ServerSettings {
    pub(crate) endpoints: Endpoints,
    pub(crate) json_requests: bool,
    /// The clients that may ask about tokens. Empty if there is no introspection endpoint.
    pub(crate) introspecting: Vec<Identity>,
}

/// The queues for slow cryptography.
#[derive(Clone, Debug)]
pub(crate) struct Offloads {
    pub(crate) signatures: Offload,
    pub(crate) passwords: Offload,
}

#[derive(Debug)]
pub(crate) struct AuthorizationServer {
    pub(super) settings: ServerSettings,
    pub(super) authenticator: ClientAuthenticator,
    signatures: Offload,
    keys: Arc<IssuerKeys>,
    /// All scopes of the clients; `None` if they are too many for one document.
    scopes: Option<ScopeSet>,
    /// The methods that some client can use; never empty.
    methods: Vec<ClientAuthMethod>,
    /// The audiences that the assertion of a client may have.
    pub(super) audiences: Vec<String>,
    metadata: ArcSwap<PublishedMetadata>,
}

/// The metadata document, with the keys whose algorithms it names.
#[derive(Debug)]
struct PublishedMetadata {
    keys: Arc<PublishedKeys>,
    document: CachedDocument,
}

/// A request to an endpoint at which clients authenticate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EndpointRequest<'r> {
    pub(crate) headers: &'r HeaderMap,
    pub(crate) query: Option<&'r str>,
    pub(crate) body: &'r [u8],
    pub(crate) from: SourceAddress,
    /// The client certificate of the connection, or the one that a proxy states.
    pub(crate) certificate: Option<&'r Rc<ClientCertificate>>,
    /// The time after the body has arrived.
    pub(crate) now: UnixTime,
    pub(crate) trust: &'r Trust,
}

/// An issued token and the values for its audit record.
#[derive(Debug)]
pub(crate) struct Issued {
    /// The answer's body (RFC 6749 §5.1).
    pub(crate) body: Bytes,
    pub(crate) client: Identity,
    pub(crate) method: ClientAuthMethod,
    pub(crate) credential: Credential,
    pub(crate) scope: String,
    pub(crate) token_id: String,
    pub(crate) key_id: String,
}

/// A grant to an authenticated client, before its token is made.
#[derive(Debug)]
pub(crate) struct DecidedGrant<'c> {
    pub(super) authenticated: Authenticated<'c>,
    grant: Grant,
    /// Whether the assertion of a platform is the grant.
    pub(super) by_assertion: bool,
}

/// A decided grant, whose assertion is used up.
#[derive(Debug)]
pub(crate) struct RedeemedGrant<'c>(pub(super) DecidedGrant<'c>);

impl RedeemedGrant<'_> {
    pub(crate) fn client(&self) -> &Identity {
        self.0.client()
    }
}

impl DecidedGrant<'_> {
    /// The binding that the client's tokens must have.
    pub(crate) fn bound(&self) -> TokenBinding {
        self.authenticated.client.bound
    }

    /// The certificate that the token is bound to, of the one that the request has: always that of a client that it
    /// authenticates, else where the client's tokens must be bound. `has_key` tells whether the token is bound to a key.
    pub(crate) fn certificate(&self, presented: Option<Thumbprint>, has_key: bool) -> Option<Thumbprint> {
        let is_wanted = match (&self.authenticated.credential, self.bound()) {
            (Credential::Certificate, _) | (_, TokenBinding::Mtls) => true,
            (_, TokenBinding::Either) => !has_key,
            (_, TokenBinding::None | TokenBinding::Dpop) => false,
        };
        presented.filter(|_| is_wanted)
    }

    pub(crate) fn client(&self) -> &Identity {
        &self.authenticated.client.id
    }
}

#[derive(Debug)]
pub(crate) enum TokenRefusal {
    Fault(GrantFault),
    /// Too many signatures or comparisons are waiting.
    Busy(Busy),
    /// The client is in back-off at this address, and another attempt was already compared within this second.
    TooManyFailures {
        /// As the request names it; not verified.
        client: Option<Identity>,
        wait: Duration,
    },
    /// It cannot be recorded that an assertion was used.
    ReplayUnavailable,
    /// The database is unreachable, and the client is not held or no known key may sign.
    StoreUnavailable {
        /// As the request names it; not verified.
        client: Option<Identity>,
    },
    /// The keys of a client, or of the issuer of its platform token, cannot be fetched now.
    KeysUnavailable {
        /// As the request names it; not verified.
        client: Option<Identity>,
        values: Box<Discrepancy>,
    },
    /// Signing failed.
    Broken,
    /// The clock is certainly wrong.
    Clock,
    /// The token was not revoked.
    NotRevoked(NotRevoked),
}

impl AuthorizationServer {
    pub(crate) fn new(
        settings: ServerSettings,
        clients: Arc<Clients>,
        keys: Arc<IssuerKeys>,
        offloads: Offloads,
        replay: Replay,
    ) -> Self {
        let Offloads { signatures, passwords } = offloads;
        Self::with(settings, ClientAuthenticator::new(clients, passwords, replay), keys, signatures)
    }

    /// A server with other settings and clients, and with the keys, queues and counted failures of this one.
    pub(crate) fn following(
        &self,
        settings: ServerSettings,
        clients: Vec<Client>,
        stored: Option<Arc<StoredClients>>,
    ) -> Self {
        Self::with(
            settings,
            self.authenticator.following(clients, stored),
            Arc::clone(&self.keys),
            self.signatures.clone(),
        )
    }

    fn with(
        settings: ServerSettings,
        authenticator: ClientAuthenticator,
        keys: Arc<IssuerKeys>,
        signatures: Offload,
    ) -> Self {
        let scopes = authenticator.clients().scopes();
        let methods = authenticator.clients().methods();
        let audiences = settings.endpoints.assertion_audiences();
        let metadata = PublishedMetadata::new(
            keys.published(),
            &settings.endpoints,
            scopes.as_ref(),
            (&methods, &grants(&authenticator)),
        );
        let metadata = ArcSwap::from_pointee(metadata);
        Self { settings, authenticator, signatures, keys, scopes, methods, audiences, metadata }
    }

    /// Rows of signing keys in the database that are not used.
    pub(crate) fn signing_keys_left_aside(&self) -> usize {
        self.keys.left_aside()
    }

    pub(crate) fn stored_clients(&self) -> Option<&Arc<StoredClients>> {
        self.authenticator.clients().stored()
    }

    /// Of the clients in the database, only those that are held.
    pub(crate) fn has_client(&self, id: &Identity) -> bool {
        let clients = self.authenticator.clients();
        clients.get(id.as_str()).is_some() || clients.stored().is_some_and(|stored| stored.held(id.as_str()).is_some())
    }

    pub(crate) fn clients(&self) -> impl Iterator<Item = &Client> {
        self.authenticator.clients().all()
    }

    /// The only audience that a platform token may have: our issuer.
    pub(crate) fn credential_audience(&self) -> &str {
        &self.settings.endpoints.issuer
    }

    /// Whether the client may ask about tokens.
    pub(super) fn may_introspect(&self, client: &Identity) -> bool {
        self.settings.introspecting.contains(client)
    }

    pub(crate) fn endpoints(&self) -> &Endpoints {
        &self.settings.endpoints
    }

    /// The JWK Set document (RFC 7517 §5).
    pub(crate) fn jwks(&self) -> CachedDocument {
        self.keys.jwks()
    }

    /// The metadata document (RFC 8414 §3.2). It is made anew after a rotation of the keys.
    pub(crate) fn metadata(&self) -> CachedDocument {
        let keys = self.keys.published();
        let known = self.metadata.load();
        if Arc::ptr_eq(&known.keys, &keys) {
            return known.document.clone();
        }
        let (scopes, offered) = (self.scopes.as_ref(), (&*self.methods, &*grants(&self.authenticator)));
        let metadata = PublishedMetadata::new(keys, &self.settings.endpoints, scopes, offered);
        let document = metadata.document.clone();
        self.metadata.store(Arc::new(metadata));
        document
    }

    /// Decides a token request. [`Self::redeem`] and [`Self::issue`] follow.
    pub(crate) async fn decide(&self, request: EndpointRequest<'_>) -> Result<DecidedGrant<'_>, TokenRefusal> {
        if !request.now.is_plausible() {
            return Err(TokenRefusal::Clock);
        }
        let (authenticated, parameters) = self.client_of_grant(request).await?;
        let by_assertion = parameters.is_assertion_grant();
        let wanted = Wanted { scope: parameters.scope.as_deref(), audiences: &parameters.audiences };
        let grant = Grant::decide(&authenticated.client, &wanted)?;
        Ok(DecidedGrant { authenticated, grant, by_assertion })
    }

    /// Makes the token, bound to the keys of `confirmation`.
    pub(crate) async fn issue(
        &self,
        redeemed: RedeemedGrant<'_>,
        confirmation: Confirmation,
        now: UnixTime,
    ) -> Result<Issued, TokenRefusal> {
        let DecidedGrant { authenticated, grant, by_assertion: _ } = redeemed.0;
        let Authenticated { client, method, credential, once: _ } = authenticated;
        let token_id = token_id().map_err(|_| Busy)?;
        let issuer = &self.settings.endpoints.issuer;
        let claims = Value::Object(grant.claims((issuer, &client), &confirmation, now, &token_id)).to_string();
        let none = || TokenRefusal::StoreUnavailable { client: Some(client.id.clone()) };
        let key = self.keys.signer(now).ok_or_else(none)?;
        let key_id = key.key_id().to_owned();
        let signed = self.signatures.run(move || key.sign("at+jwt", claims.as_bytes())).await?;
        let token = signed.map_err(|fault| {
            error!(error = %fault, "cannot sign a token: the token request is answered with 500");
            TokenRefusal::Broken
        })?;
        let scope = grant.scope.to_string();
        let body = json!({
            "access_token": token,
            "token_type": if confirmation.key.is_some() { "DPoP" } else { "Bearer" },
            "expires_in": grant.expires_in.as_secs(),
            "scope": scope,
        });
        Ok(Issued {
            body: body.to_string().into(),
            client: client.id.clone(),
            method,
            credential,
            scope,
            token_id,
            key_id,
        })
    }
}

impl PublishedMetadata {
    fn new(
        keys: Arc<PublishedKeys>,
        endpoints: &Endpoints,
        scopes: Option<&ScopeSet>,
        (methods, grants): (&[ClientAuthMethod], &[&str]),
    ) -> Self {
        let document = metadata::metadata(endpoints, &keys.algorithms(), scopes, methods, grants);
        Self { document: CachedDocument::new(&document, keys.max_age), keys }
    }
}

/// The grant types of the metadata: `jwt-bearer` only if a client has `federation`.
fn grants(authenticator: &ClientAuthenticator) -> Vec<&'static str> {
    [CLIENT_CREDENTIALS].into_iter().chain(authenticator.has_federation().then_some(JWT_BEARER)).collect()
}

impl From<GrantFault> for TokenRefusal {
    fn from(fault: GrantFault) -> Self {
        Self::Fault(fault)
    }
}

impl From<ClientFault> for TokenRefusal {
    fn from(fault: ClientFault) -> Self {
        Self::Fault(GrantFault::Client(fault))
    }
}

impl From<ClientRefusal> for TokenRefusal {
    fn from(refusal: ClientRefusal) -> Self {
        match refusal {
            ClientRefusal::Fault(fault) => fault.into(),
            ClientRefusal::Busy(busy) => busy.into(),
            ClientRefusal::ReplayUnavailable => Self::ReplayUnavailable,
            ClientRefusal::StoreUnavailable { client } => Self::StoreUnavailable { client },
            ClientRefusal::KeysUnavailable { client, values } => Self::KeysUnavailable { client, values },
            ClientRefusal::TooManyFailures { client, wait } => Self::TooManyFailures { client, wait },
        }
    }
}

impl From<Busy> for TokenRefusal {
    fn from(busy: Busy) -> Self {
        Self::Busy(busy)
    }
}
