//! The places in the file of what lints look at, taken from the raw configuration before it is resolved.
//!
//! Each list has the order of the file, which is the order of the resolved configuration too.

use super::decode::{Named, OneOrMore};
use super::raw::RawConfig;
use super::raw::oauth::RawClient;
use super::raw::route::{RawAccess, RawRoute};
use super::route_place::RoutePlace;
use super::source::{At, Span};

#[derive(Debug, Default)]
pub(super) struct FilePlaces {
    pub(super) routes: Vec<RouteParts>,
    pub(super) clients: Vec<ClientParts>,
    pub(super) issuers: Vec<IssuerParts>,
    /// The limits of the token endpoint.
    pub(super) token_limits: Vec<Span>,
}

#[derive(Debug)]
pub(super) struct RouteParts {
    pub(super) place: RoutePlace,
    /// The scopes that its rule asks for.
    pub(super) scopes: Vec<At<String>>,
    pub(super) limits: Vec<Span>,
    pub(super) forward_token: Span,
}

#[derive(Debug)]
pub(super) struct ClientParts {
    pub(super) name: Span,
    pub(super) scopes: Vec<At<String>>,
    pub(super) limits: Vec<Span>,
}

#[derive(Debug)]
pub(super) struct IssuerParts {
    pub(super) name: Span,
    /// The items of `allow_scopes`.
    pub(super) scopes: Vec<At<String>>,
}

impl FilePlaces {
    pub(super) fn of(raw: &RawConfig) -> Self {
        let oauth = raw.oauth.as_ref().map(|oauth| &oauth.value);
        let token_limits = oauth.and_then(|oauth| oauth.token_endpoint.rate_limits.as_ref());
        let issuers = raw.issuers.entries.iter().filter_map(|(name, issuer)| {
            let scopes = issuer.as_ref().ok()?.value.allow_scopes.as_ref();
            Some(IssuerParts { name: name.span, scopes: items(scopes) })
        });
        Self {
            routes: raw.routes.iter().map(RouteParts::of).collect(),
            clients: oauth.map(|oauth| clients(&oauth.clients)).unwrap_or_default(),
            issuers: issuers.collect(),
            token_limits: token_limits.map(|list| spans(&list.value)).unwrap_or_default(),
        }
    }
}

impl RoutePlace {
    pub(super) fn of(route: &At<RawRoute>) -> Self {
        Self {
            path: route.value.path.as_ref().map_or(route.span, |path| path.span),
            name: route.value.name.as_ref().map(|name| name.span),
            hosts: route.value.hosts.as_ref().map(|hosts| hosts.span),
            allow: route.value.paths.as_ref().and_then(|paths| Some(paths.value.allow.as_ref().ok()?.span)),
        }
    }
}

impl RouteParts {
    fn of(route: &At<RawRoute>) -> Self {
        let rule = route.value.access.as_ref().ok().and_then(|access| match &access.value {
            RawAccess::Public => None,
            RawAccess::Rule { rule, .. } => rule.scopes.as_ref(),
        });
        let lists = rule.map(|scopes| [&scopes.value.0.all_of, &scopes.value.0.any_of]);
        Self {
            place: RoutePlace::of(route),
            scopes: lists.into_iter().flatten().flat_map(|list| items(list.as_ref())).collect(),
            limits: spans(&route.value.rate_limits),
            forward_token: route.value.forward_token.span,
        }
    }
}

fn clients(raw: &Named<RawClient>) -> Vec<ClientParts> {
    let clients = raw.entries.iter().filter_map(|(name, client)| {
        let client = &client.as_ref().ok()?.value;
        let scopes = items(client.scopes.as_ref().ok());
        Some(ClientParts { name: name.span, scopes, limits: spans(&client.rate_limits) })
    });
    clients.collect()
}

fn items(list: Option<&At<OneOrMore<String>>>) -> Vec<At<String>> {
    list.map(|list| list.value.items.clone()).unwrap_or_default()
}

fn spans<T>(list: &[At<T>]) -> Vec<Span> {
    list.iter().map(|item| item.span).collect()
}
