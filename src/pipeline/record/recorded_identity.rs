//! The identity that a record names: none, a claimed one, or an authenticated one.

use std::cell::OnceCell;
use std::rc::Rc;

use http::HeaderValue;

use crate::audit::record::{Described, DescribedCredential, RecordIdentity as Written};
use crate::issuer::authorization_server::Issued;
use crate::oauth::caller::IssuerName;
use crate::oauth::identity::Identity;
use crate::pipeline::routing::snapshot::Snapshot;
use crate::trust::claimed_caller::{ClaimedCaller, ClaimedIssuer};
use crate::trust::verify::{Verified, VerifiedToken};

/// The identity that a record names.
#[derive(Debug)]
pub(crate) enum RecordedIdentity {
    Nobody,
    Caller(Rc<Verified>),
    /// Claimed, not verified.
    Claimed(Box<ClaimedCaller>),
    /// Credentials of a request that was refused before they were verified.
    Presented(Box<UnreadCredentials>),
    /// One of our own clients, authenticated at the token or the revocation endpoint.
    Client(Identity),
    /// One of our own clients at the introspection endpoint, with the id of the token that it asked about.
    AskedAbout(Identity, Option<Box<str>>),
    Granted(Box<Issued>),
}

/// The value of `Authorization`, or of the field of an issuer. It is read only if the request has a line of its own, so
/// that the requests of a flood, which have none, cost little.
#[derive(Debug)]
pub(crate) struct UnreadCredentials {
    value: HeaderValue,
    claimed: OnceCell<ClaimedCaller>,
}

impl RecordedIdentity {
    /// A client that did not authenticate itself.
    pub(crate) fn claimed_client(client: Option<Identity>) -> Self {
        Self::Claimed(Box::new(ClaimedCaller { issuer: None, client }))
    }

    /// Credentials that are not read yet.
    pub(super) fn presented(value: &HeaderValue) -> Self {
        Self::Presented(Box::new(UnreadCredentials { value: value.clone(), claimed: OnceCell::new() }))
    }

    /// The caller, where the route needs one.
    pub(super) fn verified_caller(&self) -> Option<Rc<Verified>> {
        match self {
            Self::Caller(verified) => Some(Rc::clone(verified)),
            Self::Nobody
            | Self::Claimed(_)
            | Self::Presented(_)
            | Self::Client(_)
            | Self::AskedAbout(..)
            | Self::Granted(_) => None,
        }
    }

    /// Whether it was authenticated.
    pub(super) fn is_known(&self) -> bool {
        match self {
            Self::Nobody | Self::Claimed(_) | Self::Presented(_) => false,
            Self::Caller(_) | Self::Client(_) | Self::AskedAbout(..) | Self::Granted(_) => true,
        }
    }

    /// The client that was authenticated or named by a verified token.
    pub(super) fn proven_client(&self) -> Option<(IssuerName, Identity)> {
        match self {
            Self::Caller(verified) => Some((verified.caller.issuer.clone(), verified.caller.client.clone()?)),
            Self::Client(client) | Self::AskedAbout(client, _) => Some((IssuerName::own(), client.clone())),
            Self::Granted(issued) => Some((IssuerName::own(), issued.client.clone())),
            Self::Nobody | Self::Claimed(_) | Self::Presented(_) => None,
        }
    }

    /// For the metrics.
    pub(super) fn issuer_name(&self) -> Option<&IssuerName> {
        match self {
            Self::Caller(verified) => Some(&verified.caller.issuer),
            Self::Claimed(claimed) => match &claimed.issuer {
                Some(ClaimedIssuer::Configured(name)) => Some(name),
                // A label has few values, and none that a client can choose freely.
                Some(ClaimedIssuer::Unknown(_)) | None => None,
            },
            // Metrics do not depend on whether a request has a line of its own.
            Self::Nobody | Self::Presented(_) | Self::Client(_) | Self::AskedAbout(..) | Self::Granted(_) => None,
        }
    }

    /// For the audit log. `snapshot` reads credentials that were not read yet; answers that give it up are no refusals.
    pub(super) fn written(&self, snapshot: Option<&Snapshot>) -> Written<'_> {
        let described = match self {
            Self::Caller(verified) => {
                return Written::Written(verified.audit_part.get_or_init(|| describe(verified).written()));
            }
            Self::Nobody => Described::default(),
            Self::Claimed(claimed) => describe_claimed(claimed),
            Self::Presented(presented) => describe_claimed(presented.claimed(snapshot)),
            Self::Client(client) => Described {
                verified: true,
                issuer: Some(IssuerName::OWN),
                client: Some(client.as_str()),
                ..Described::default()
            },
            Self::AskedAbout(client, token_id) => Described {
                verified: true,
                issuer: Some(IssuerName::OWN),
                client: Some(client.as_str()),
                token_id: token_id.as_deref(),
                ..Described::default()
            },
            Self::Granted(issued) => Described {
                verified: true,
                issuer: Some(IssuerName::OWN),
                client: Some(issued.client.as_str()),
                subject: Some(issued.client.as_str()),
                scope: Some(&issued.scope),
                token_id: Some(&issued.token_id),
                key_id: Some(&issued.key_id),
                auth_method: Some(issued.method.as_str()),
                auth_key_id: issued.credential.key_id(),
                federated: issued
                    .credential
                    .platform()
                    .map(|one| DescribedCredential::new(&one.issuer, one.tenant.as_deref(), &one.subject)),
            },
        };
        Written::Described(described)
    }
}

impl UnreadCredentials {
    /// The caller that the credentials name, if they are a token that can be read.
    fn claimed(&self, snapshot: Option<&Snapshot>) -> &ClaimedCaller {
        self.claimed.get_or_init(|| {
            let text = self.value.to_str().unwrap_or_default();
            let token = text.rsplit(' ').next().unwrap_or_default();
            let snapshot = snapshot.filter(|snapshot| token.len() <= snapshot.limits.token_bytes);
            snapshot.and_then(|snapshot| snapshot.trust.claimed_by(token)).unwrap_or_default()
        })
    }
}

fn describe_claimed(claimed: &ClaimedCaller) -> Described<'_> {
    let issuer = claimed.issuer.as_ref().map(|issuer| match issuer {
        ClaimedIssuer::Configured(name) => name.as_str(),
        ClaimedIssuer::Unknown(iss) => iss.as_str(),
    });
    Described { issuer, client: claimed.client.as_ref().map(Identity::as_str), ..Described::default() }
}

fn describe(verified: &Verified) -> Described<'_> {
    Described {
        verified: true,
        issuer: Some(verified.caller.issuer.as_str()),
        client: verified.caller.client.as_ref().map(Identity::as_str),
        subject: verified.caller.subject.as_ref().map(Identity::as_str),
        scope: verified.caller.scope_header.to_str().ok(),
        token_id: verified.token().and_then(|token| token.claims.token_id.as_deref()),
        key_id: verified.token().and_then(VerifiedToken::key_id),
        ..Described::default()
    }
}
