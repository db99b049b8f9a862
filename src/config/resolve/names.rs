//! The names that sections refer to: issuers, clients, static tokens and upstreams.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::decode::{Named, OneOrMore, Required};
use super::super::raw::RawConfig;
use super::super::raw::oauth::{ClientsIn, RawOauth};
use super::super::raw::resource::RawResource;
use super::super::raw::route::RawRule;
use super::super::source::{At, Span};
use super::super::suggest;
use super::Resolver;
use super::federation::federation_only;
use super::oauth::endpoints;
use crate::issuer::endpoints::Endpoints;
use crate::oauth::bound::TokenBinding;
use crate::oauth::caller::IssuerName;
use crate::pipeline::routing::resource::ResourceIdentifier;

/// Names that other sections refer to.
pub(super) struct Names {
    pub(super) issuers: Vec<String>,
    /// False if a name could not be read. Then an unknown name is not reported.
    pub(super) issuers_complete: bool,
    /// Those whose tokens are no tokens of callers.
    federation_only: Vec<String>,
    pub(super) static_tokens: Vec<String>,
    pub(super) static_tokens_complete: bool,
    pub(super) clients: Arc<HashMap<String, ()>>,
    pub(super) clients_complete: bool,
    pub(super) upstreams: Vec<String>,
    pub(super) upstreams_complete: bool,
    pub(super) has_oauth: bool,
    pub(super) resources: Vec<(String, Arc<ResourceIdentifier>)>,
    pub(super) resources_complete: bool,
    /// Of the own issuer; `None` without `oauth`.
    endpoints: Option<Endpoints>,
}

impl Names {
    pub(super) fn of(raw: &RawConfig) -> Self {
        let RawConfig { issuers, static_tokens, upstreams, .. } = raw;
        let oauth = raw.oauth.as_ref();
        let own = oauth.map(|_| IssuerName::OWN.to_owned());
        let clients = oauth.map(|oauth| oauth.value.clients.names().map(|name| (name.to_owned(), ())).collect());
        Self {
            issuers: own.into_iter().chain(issuers.names().map(str::to_owned)).collect(),
            issuers_complete: issuers.complete,
            federation_only: federation_only(issuers),
            clients: Arc::new(clients.unwrap_or_default()),
            clients_complete: oauth.is_none_or(|oauth| knows_all_clients(&oauth.value)),
            static_tokens: static_tokens.names().map(str::to_owned).collect(),
            static_tokens_complete: static_tokens.complete,
            upstreams: upstreams.names().map(str::to_owned).collect(),
            upstreams_complete: upstreams.complete,
            has_oauth: oauth.is_some(),
            resources: identifiers(&raw.resources),
            resources_complete: raw.resources.complete && raw.resources.entries.iter().all(|(_, entry)| entry.is_ok()),
            endpoints: oauth.map(|oauth| endpoints(&oauth.value)),
        }
    }

    /// The issuers that callers may have: static tokens count as those of one more.
    pub(super) fn issuers_of_callers(&self) -> Vec<String> {
        let of_static = (!self.static_tokens.is_empty()).then(|| IssuerName::STATIC.to_owned());
        self.issuers.iter().cloned().chain(of_static).collect()
    }

    /// The paths of the built-in endpoints, which have priority over routes.
    pub(super) fn built_in_paths(&self) -> impl Iterator<Item = &str> {
        let of_resources = self.resources.iter().map(|(_, resource)| resource.place.as_str());
        self.endpoints.iter().flat_map(Endpoints::paths).chain(of_resources)
    }
}

/// False if a name could not be read, or if a database may have more.
fn knows_all_clients(oauth: &RawOauth) -> bool {
    oauth.clients.complete && oauth.clients_in.value == ClientsIn::File
}

const AUTHENTICATES_NOTHING: &str = "this issuer has no `audiences`, so that its tokens authenticate clients and no requests: remove \
                                     it here, or list its `audiences`";

/// The identifiers of the resources of the file, by name.
fn identifiers(raw: &Named<RawResource>) -> Vec<(String, Arc<ResourceIdentifier>)> {
    let identifier = |(name, resource): &(At<String>, Required<RawResource>)| {
        let url = &resource.as_ref().ok()?.value.url.as_ref().ok()?.value;
        Some((name.value.clone(), Arc::new(ResourceIdentifier::new(url.as_str(), url.url()))))
    };
    raw.entries.iter().filter_map(identifier).collect()
}

impl Resolver<'_> {
    /// Checks that static tokens alone can use a route with this rule.
    pub(super) fn only_static_tokens(&mut self, place: Span, rule: &RawRule, names: &Names) {
        if names.static_tokens.is_empty() {
            self.faults.at(place, "no token is valid for this route: configure `oauth` or `issuers`");
        } else if rule.bound.value != TokenBinding::None {
            let message =
                "no token is valid for this route: static tokens are never bound; configure `oauth` or `issuers`";
            self.faults.at(place, message);
        } else if rule.audiences.is_some() || !rule.claims.entries.is_empty() {
            let message = "no token is valid for this route: static tokens have no audiences and no claims; configure \
                           `oauth` or `issuers`";
            self.faults.at(place, message);
        }
    }

    pub(super) fn issuer_names(&mut self, list: &OneOrMore<String>, names: &Names) -> Vec<IssuerName> {
        let known = names.issuers_of_callers();
        for name in list.items.iter().filter(|name| names.issuers_complete && !known.contains(&name.value)) {
            self.unknown("issuer", name, &known);
        }
        for name in list.items.iter().filter(|name| names.federation_only.contains(&name.value)) {
            self.faults.at(name.span, AUTHENTICATES_NOTHING);
        }
        list.items.iter().map(|name| IssuerName::new(&name.value)).collect()
    }

    pub(super) fn client_names(
        &mut self,
        list: &OneOrMore<String>,
        names: &Names,
        allowed: Option<&[IssuerName]>,
    ) -> Vec<(IssuerName, String)> {
        let (mut clients, issuers) = (Vec::new(), names.issuers_of_callers());
        for name in &list.items {
            let is_own = names.clients.contains_key(&name.value);
            let split = name.value.split_once('/').filter(|_| !is_own);
            let (issuer, id) = split.unwrap_or((IssuerName::OWN, &name.value));
            if issuer == IssuerName::OWN {
                if names.clients_complete && !names.clients.contains_key(id) {
                    let known: Vec<String> = names.clients.keys().cloned().collect();
                    self.unknown("client", name, &known);
                }
            } else if names.issuers_complete && !issuers.iter().any(|known| known == issuer) {
                self.unknown_as("issuer of the client", name, issuer, &issuers);
            } else if issuer == IssuerName::STATIC
                && id != "*"
                && names.static_tokens_complete
                && !names.static_tokens.iter().any(|known| known == id)
            {
                self.unknown_as("static token", name, id, &names.static_tokens);
            }
            if names.federation_only.iter().any(|known| known == issuer) {
                self.faults.at(name.span, AUTHENTICATES_NOTHING);
            }
            if id == "*" {
                let message = "`*` has no meaning here: for all clients of an issuer, name it under `issuers`";
                self.faults.at(name.span, message);
            }
            let issuer = IssuerName::new(issuer);
            if allowed.is_some_and(|allowed| !allowed.contains(&issuer)) {
                let listed = if issuer.as_str() == IssuerName::OWN { "`self`" } else { "its issuer" };
                self.faults
                    .at(name.span, format!("this client can never use the route: `issuers` does not list {listed}"));
            }
            clients.push((issuer, id.to_owned()));
        }
        clients
    }

    pub(super) fn unknown(&mut self, kind: &str, name: &At<String>, known: &[String]) {
        self.unknown_as(kind, name, &name.value, known);
    }

    /// `part` of the text is the unknown name.
    fn unknown_as(&mut self, kind: &str, name: &At<String>, part: &str, known: &[String]) {
        let mut known: Vec<&str> = known.iter().map(String::as_str).collect();
        known.sort_unstable();
        let suggestion = suggest::suggestion(part, &known);
        let quoted = self.quoted(name);
        self.faults.at(name.span, format!("unknown {kind}{quoted}{suggestion}"));
    }
}
