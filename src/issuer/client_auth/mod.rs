//! The ways to authenticate a client. This file lists them; each has a module of its own.
//!
//! A way consists of the credentials that a request presents, those that the configuration keeps of a client, and their
//! comparison. Whether a client exists, may call from an address or is in back-off is decided for all ways alike, by
//! [`authenticator`].

pub(crate) mod assertion;
pub(crate) mod authenticator;
pub(crate) mod back_off;
pub(crate) mod certificate;
pub(crate) mod claim;
pub(crate) mod client_keys;
pub(crate) mod federation;
mod private_key_jwt;
pub(crate) mod secret;
pub(crate) mod single_use;
mod stand_in_keys;

use std::rc::Rc;
use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;

use self::certificate::{CertificateName, PresentedCertificate};
use self::claim::{Claim, ClientFault, RefusedAssertion};
use self::client_keys::ClientKeys;
use self::federation::FederatedIdentity;
use self::secret::hash::ClientSecret;
use self::secret::kept_secret::KeptSecret;
use self::secret::passwords::Passwords;
use self::secret::presented::PresentedSecret;
use super::offload::{Busy, Offload};
use crate::clock::UnixTime;
use crate::jose::client_certificate::ClientCertificate;
use crate::jose::jwk::VerifyingKey;
use crate::oauth::caller::IssuerName;
use crate::oauth::discrepancy::{Discrepancy, one_of};
use crate::oauth::identity::Identity;
use crate::trust::failed_check::{FailedCheck, TokenError};
use crate::trust::verify::Trust;
use assertion::{AssertionKind, ClientAssertion, PresentedAssertion};
use private_key_jwt::{AssertionFault, AssertionVerifier};
use single_use::SingleUse;

/// A row is the variant, and its name in the registry "OAuth Token Endpoint Authentication Methods".
macro_rules! methods {
    ($($variant:ident => $name:literal;)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum ClientAuthMethod {
            $($variant,)*
        }

        impl ClientAuthMethod {
            /// In the order of the published metadata.
            pub(crate) const ALL: &[Self] = &[$(Self::$variant),*];

            pub(crate) const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

methods! {
    SecretBasic => "client_secret_basic";
    SecretPost => "client_secret_post";
    PrivateKeyJwt => "private_key_jwt";
    TlsClientAuth => "tls_client_auth";
}

/// The parameters of a body that belong to credentials.
#[derive(Debug, Default)]
pub(crate) struct CredentialParameters {
    pub(crate) client_id: Option<String>,
    pub(crate) client_secret: Option<ClientSecret>,
    pub(crate) client_assertion: Option<ClientAssertion>,
    pub(crate) client_assertion_type: Option<String>,
    /// The grant of RFC 7523 §2.1, which is a credential too.
    pub(crate) assertion: Option<ClientAssertion>,
}

/// The credentials of a request.
#[derive(Debug)]
pub(crate) enum PresentedCredentials {
    Secret(PresentedSecret),
    /// Boxed to keep the common case small.
    Assertion(Box<PresentedAssertion>),
    Certificate(PresentedCertificate),
}

/// A client's credentials as the configuration keeps them.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeptCredentials {
    /// Several may be valid at the same time, so that a secret can be replaced without downtime.
    pub(crate) secrets: Vec<KeptSecret>,
    /// Of its assertions.
    pub(crate) keys: ClientKeys,
    /// The names that its certificates have.
    pub(crate) certificates: Vec<CertificateName>,
    /// The platform tokens that are this client's credentials.
    pub(crate) federation: Vec<FederatedIdentity>,
}

/// The credential that authenticated a client.
#[derive(Clone, Debug)]
pub(crate) enum Credential {
    /// The position of the secret, from 1.
    Secret(usize),
    /// The key of its assertion.
    Key(Arc<VerifyingKey>),
    /// The certificate of its connection.
    Certificate,
    /// A platform token.
    Platform(Box<PlatformIdentity>),
}

/// An issuer of the configuration, and a subject of it.
#[derive(Clone, Debug)]
pub(crate) struct PlatformIdentity {
    pub(crate) issuer: IssuerName,
    /// Of an issuer with tenants.
    pub(crate) tenant: Option<String>,
    pub(crate) subject: Identity,
}

/// The credential of a client that a request presents.
#[derive(Debug)]
pub(crate) struct MatchedCredential {
    pub(crate) credential: Credential,
    /// Of an assertion.
    pub(crate) once: Option<SingleUse>,
}

/// Why presented credentials do not authenticate a client.
#[derive(Debug)]
pub(crate) enum Mismatch {
    /// They are wrong.
    Wrong,
    Assertion(RefusedAssertion),
    Certificate(Box<Discrepancy>),
    /// They could not be compared.
    Busy(Busy),
    KeysUnavailable(Box<Discrepancy>),
}

/// Compares presented credentials with kept ones.
#[derive(Debug)]
pub(crate) struct CredentialVerifier {
    passwords: Passwords,
    assertions: AssertionVerifier,
}

/// The surroundings in which presented credentials are compared.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ComparedBy<'s> {
    /// The audiences that the assertion of a client may have.
    pub(crate) audiences: &'s [String],
    pub(crate) now: UnixTime,
}

/// The surroundings in which a platform token is compared.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ComparedByPlatform<'s> {
    pub(crate) trust: &'s Trust,
    /// The only audience that it may have.
    pub(crate) audience: &'s str,
    pub(crate) now: UnixTime,
}

impl CredentialParameters {
    pub(crate) fn is_known(name: &str) -> bool {
        matches!(name, "client_id" | "client_secret" | "client_assertion" | "client_assertion_type" | "assertion")
    }

    pub(crate) fn set(&mut self, name: &str, value: String) {
        match name {
            "client_id" => self.client_id = Some(value),
            "client_secret" => self.client_secret = Some(ClientSecret::new(value)),
            "client_assertion" => self.client_assertion = Some(ClientAssertion::new(value)),
            "client_assertion_type" => self.client_assertion_type = Some(value),
            "assertion" => self.assertion = Some(ClientAssertion::new(value)),
            _ => {}
        }
    }
}

impl PresentedCredentials {
    /// `certificate` is that of the connection. It authenticates a client that presents nothing else. `is_external` tells
    /// whether an external issuer has this `iss`.
    pub(crate) fn read(
        headers: &HeaderMap,
        mut body: CredentialParameters,
        certificate: Option<&Rc<ClientCertificate>>,
        is_external: impl Fn(&str) -> bool,
    ) -> Result<Self, ClientFault> {
        if let Some(assertion) = PresentedAssertion::read(headers, &mut body, is_external)? {
            return Ok(Self::Assertion(Box::new(assertion)));
        }
        if !headers.contains_key(AUTHORIZATION)
            && body.client_secret.is_none()
            && let (Some(id), Some(certificate)) = (&body.client_id, certificate)
        {
            let (id, certificate) = (id.clone(), Rc::clone(certificate));
            return Ok(Self::Certificate(PresentedCertificate { id, certificate }));
        }
        PresentedSecret::read(headers, body.client_id, body.client_secret).map(Self::Secret)
    }

    pub(crate) fn method(&self) -> ClientAuthMethod {
        match self {
            Self::Secret(PresentedSecret::Basic { .. }) => ClientAuthMethod::SecretBasic,
            Self::Secret(PresentedSecret::Post { .. }) => ClientAuthMethod::SecretPost,
            Self::Assertion(_) => ClientAuthMethod::PrivateKeyJwt,
            Self::Certificate(_) => ClientAuthMethod::TlsClientAuth,
        }
    }

    /// The name by which failures of this client are counted. A signature cannot be guessed, so that wrong secrets do
    /// not delay assertions.
    pub(crate) fn counted(&self, id: &str) -> String {
        match self {
            Self::Secret(_) | Self::Certificate(_) => id.to_owned(),
            // No client has such an id.
            Self::Assertion(_) => format!("\nassertion\n{id}"),
        }
    }

    /// The id as received, for the audit log, and another reading of it.
    pub(crate) fn ids(&self) -> (&str, Option<&str>) {
        match self {
            Self::Secret(secret) => secret.ids(),
            Self::Assertion(assertion) => (assertion.id(), None),
            Self::Certificate(presented) => (&presented.id, None),
        }
    }
}

impl KeptCredentials {
    /// Notes what is known of the same credentials in an earlier configuration.
    pub(crate) fn take_over(&self, before: &Self) {
        for secret in &self.secrets {
            let same = before.secrets.iter().find(|other| other.hash.is_same(&secret.hash));
            same.into_iter().for_each(|same| secret.take_over(same));
        }
    }

    /// The methods that these credentials allow.
    pub(crate) fn methods(&self) -> impl Iterator<Item = ClientAuthMethod> {
        let of_secrets = [ClientAuthMethod::SecretBasic, ClientAuthMethod::SecretPost];
        let secrets = of_secrets.into_iter().filter(|_| !self.secrets.is_empty());
        let has_assertions = !self.keys.is_empty() || !self.federation.is_empty();
        let keys = has_assertions.then_some(ClientAuthMethod::PrivateKeyJwt);
        let certificates = (!self.certificates.is_empty()).then_some(ClientAuthMethod::TlsClientAuth);
        secrets.chain(keys).chain(certificates)
    }

    /// The certificate that is missing where a request has no credentials. `None` if another one would do.
    fn missing_certificate(&self) -> Option<Box<Discrepancy>> {
        let is_only_way = self.methods().eq([ClientAuthMethod::TlsClientAuth]);
        is_only_way.then(|| certificate::missing(&self.certificates))
    }

    /// The end of each secret, by its place.
    pub(crate) fn expiries(&self) -> impl Iterator<Item = Option<UnixTime>> {
        self.secrets.iter().map(|secret| secret.validity.expires_at)
    }
}

impl Credential {
    /// The position of a secret, from 1, for the metrics.
    pub(crate) fn secret(&self) -> Option<usize> {
        match self {
            Self::Secret(position) => Some(*position),
            Self::Key(_) | Self::Certificate | Self::Platform(_) => None,
        }
    }

    /// The identity at the platform whose token it is.
    pub(crate) fn platform(&self) -> Option<&PlatformIdentity> {
        match self {
            Self::Secret(_) | Self::Key(_) | Self::Certificate => None,
            Self::Platform(identity) => Some(identity),
        }
    }

    /// The id of the key, or its thumbprint if it has none.
    pub(crate) fn key_id(&self) -> Option<&str> {
        match self {
            Self::Secret(_) | Self::Certificate | Self::Platform(_) => None,
            Self::Key(key) => Some(key.key_id.as_deref().unwrap_or(&key.thumbprint)),
        }
    }
}

impl CredentialVerifier {
    pub(crate) fn new(passwords: Offload) -> Self {
        Self { passwords: Passwords::new(passwords), assertions: AssertionVerifier::new() }
    }

    /// The currently valid credential of the client that matches.
    pub(crate) async fn matching(
        &self,
        claim: Claim<'_, &KeptCredentials>,
        presented: PresentedCredentials,
        by: ComparedBy<'_>,
    ) -> Result<MatchedCredential, Mismatch> {
        match presented {
            PresentedCredentials::Secret(secret) => {
                let claim = claim.with(&claim.kept.secrets[..]);
                let found = self.passwords.matching(claim, secret.into_secrets(), by.now).await;
                let found = found.map_err(Mismatch::Busy)?.ok_or(Mismatch::Wrong)?;
                Ok(Credential::Secret(found + 1).into())
            }
            PresentedCredentials::Certificate(presented) => {
                let claim = claim.with(&claim.kept.certificates[..]);
                presented.check(claim, by.now).map(|()| Credential::Certificate.into()).map_err(Mismatch::Certificate)
            }
            PresentedCredentials::Assertion(assertion) => match assertion.kind {
                AssertionKind::OfClient => {
                    let claim = claim.with(&claim.kept.keys);
                    let signed = self.assertions.matching(claim, &assertion, by.audiences, by.now).await?;
                    Ok(MatchedCredential { credential: Credential::Key(signed.key), once: Some(signed.once) })
                }
                AssertionKind::Federated => Err(Mismatch::Assertion(not_federated(&assertion))),
            },
        }
    }
}

/// The refusal of a platform token where no client has `federation`.
fn not_federated(assertion: &PresentedAssertion) -> RefusedAssertion {
    let claims = &assertion.token.claims;
    let text = |name: &str, value: &Option<String>| one_of(name, value.as_deref());
    let found = format!("{}, {}", text("iss", &claims.issuer), text("sub", &claims.subject));
    FailedCheck::new(TokenError::UnknownIssuer, found, "iss and sub that both are the id of the client").into()
}

impl From<Credential> for MatchedCredential {
    fn from(credential: Credential) -> Self {
        Self { credential, once: None }
    }
}

impl From<AssertionFault> for Mismatch {
    fn from(fault: AssertionFault) -> Self {
        match fault {
            AssertionFault::Refused(refused) => Self::Assertion(refused),
            AssertionFault::KeysUnavailable(values) => Self::KeysUnavailable(values),
        }
    }
}
