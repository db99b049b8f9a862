//! A proposed change, and the facts about a token that proposals are made from.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use http::HeaderName;
use serde_json::{Map, Value};

use super::super::decision::TokenRequest;
use crate::config::edit::{ConfigEdit, EditKind, PathStep};
use crate::jose::BASE64URL;
use crate::oauth::caller::IssuerName;
use crate::pipeline::routing::snapshot::Snapshot;
use crate::trust::caller_claims::CLIENT_CLAIMS;
use crate::trust::claimed_caller::ClaimedIssuer;
use crate::trust::entry_choice::candidates;
use crate::trust::issuer::IssuerSettings;

/// A change at one place.
#[derive(Debug)]
pub(super) struct Proposal {
    pub(super) edit: ConfigEdit,
    /// The other tokens that the change would accept.
    pub(super) opens: String,
    /// The signature cannot be checked: the keys of this issuer are not known.
    pub(super) is_new_issuer: bool,
}

/// The claims of the token, and the parts of the configuration that decide about it.
pub(super) struct TokenFacts<'f> {
    pub(super) header: Map<String, Value>,
    pub(super) claims: Map<String, Value>,
    pub(super) token_bytes: usize,
    pub(super) snapshot: &'f Snapshot,
    /// Those of the entry that the token belongs to.
    pub(super) settings: Option<&'f IssuerSettings>,
    pub(super) client: Option<String>,
    pub(super) from: Option<IpAddr>,
    /// The field that the token came in, if it is known.
    pub(super) field: Option<&'f HeaderName>,
    pub(super) now: u64,
    /// The place of the route, and its name.
    pub(super) route: Option<(usize, &'f str)>,
}

impl<'f> TokenFacts<'f> {
    pub(super) fn new(request: &'f TokenRequest<'_>, snapshot: &'f Snapshot, route: Option<usize>) -> Self {
        let token = request.token;
        let mut parts = token.split('.').map(|part| {
            let object = BASE64URL.decode(part).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
            object.unwrap_or_default()
        });
        let claimed = snapshot.trust.claimed_by(token).unwrap_or_default();
        let settings = claimed.issuer.and_then(|issuer| match issuer {
            ClaimedIssuer::Configured(name) => {
                snapshot.trust.issuers().iter().map(|known| &known.settings).find(|known| known.name == name)
            }
            ClaimedIssuer::Unknown(_) => None,
        });
        let route = route.and_then(|index| Some((index, &*snapshot.routes.routes().get(index).map(Arc::as_ref)?.name)));
        Self {
            header: parts.next().unwrap_or_default(),
            claims: request.answer.clone().or_else(|| parts.next()).unwrap_or_default(),
            token_bytes: token.len(),
            snapshot,
            settings,
            client: claimed.client.map(|client| client.as_str().to_owned()),
            from: request.from,
            field: request.field.as_ref(),
            now: request.now.seconds(),
            route,
        }
    }

    /// Its claims are what its issuer says about it.
    pub(super) fn is_opaque(&self) -> bool {
        self.header.is_empty()
    }

    /// The name of the external issuer.
    pub(super) fn external(&self) -> Option<&'f str> {
        let name = self.settings?.name.as_str();
        (name != IssuerName::OWN).then_some(name)
    }

    /// The entries for the token's issuer, whatever its audience is.
    pub(super) fn candidates(&self) -> impl Iterator<Item = &'f IssuerSettings> {
        let entries = candidates(self.snapshot.trust.issuers(), |issuer| &issuer.settings, &self.claims);
        entries.unwrap_or_default().into_iter().map(|entry| &entry.settings)
    }

    pub(super) fn text(&self, claim: &str) -> Option<&str> {
        self.claims.get(claim).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    /// The name and the value of the claim that names the client.
    pub(super) fn client_claim(&self) -> Option<(&'static str, &str)> {
        CLIENT_CLAIMS.into_iter().find_map(|name| Some((name, self.text(name)?)))
    }

    /// It is for our token endpoint alone, as the credential of a client.
    pub(super) fn is_for_token_endpoint(&self) -> bool {
        let aud = match self.claims.get("aud") {
            Some(Value::Array(list)) if list.len() == 1 => list.first(),
            other => other,
        };
        let aud = aud.and_then(Value::as_str);
        let own = self.snapshot.oauth.as_ref().map(|oauth| oauth.server.credential_audience());
        own.zip(aud).is_some_and(|(own, aud)| own == aud)
    }

    /// The first audience, or the client where there is none.
    pub(super) fn audience(&self) -> Option<&str> {
        let first = match self.claims.get("aud") {
            Some(Value::Array(list)) => list.first().and_then(Value::as_str),
            Some(value) => value.as_str(),
            None => None,
        };
        first.filter(|text| !text.is_empty()).or_else(|| Some(self.client_claim()?.1))
    }
}

impl Proposal {
    pub(super) fn new(path: Vec<PathStep>, kind: EditKind, opens: impl Into<String>) -> Self {
        Self { edit: ConfigEdit { path, kind }, opens: opens.into(), is_new_issuer: false }
    }
}

pub(super) fn keys<const N: usize>(path: [&str; N]) -> Vec<PathStep> {
    path.into_iter().map(|key| PathStep::Key(Cow::Owned(key.to_owned()))).collect()
}

pub(super) fn route_keys<const N: usize>((index, name): (usize, &str), path: [&str; N]) -> Vec<PathStep> {
    let mut steps = keys(["routes"]);
    steps.push(PathStep::Item(index, name.to_owned()));
    steps.extend(keys(path));
    steps
}

pub(super) fn add(item: impl Into<Value>) -> EditKind {
    EditKind::Add { item: item.into(), default: None }
}
