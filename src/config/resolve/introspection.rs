//! `issuers.NAME.introspection`: the endpoint that is asked about tokens; `oauth.introspection`: the clients that may ask
//! ours.

use std::time::Duration;

use super::super::decode::{Named, OneOrMore, Required};
use super::super::lint::Lint;
use super::super::raw::introspection::RawIntrospection;
use super::super::raw::issuer::RawIssuer;
use super::super::raw::oauth::RawOwnIntrospection;
use super::super::raw::route::{RawAccess, RawRoute};
use super::super::source::{At, Span};
use super::super::suggest;
use super::Resolver;
use crate::file_watch::FileWatch;
use crate::issuer::client;
use crate::oauth::identity::Identity;
use crate::trust::fetch::{ClearText, is_loopback};
use crate::trust::key_source::{EndpointCredentials, IntrospectionEndpoint};

/// A token that its issuer has revoked counts no longer than this.
const LONGEST_CACHE: Duration = Duration::from_secs(10 * 60);

impl Resolver<'_> {
    /// The endpoint of an issuer whose tokens are introspected, and the watch of the certificates that verify it.
    pub(super) fn introspection(
        &mut self,
        name: &At<String>,
        raw: &RawIssuer,
        introspection: &RawIntrospection,
    ) -> Option<(IntrospectionEndpoint, Option<FileWatch>)> {
        for (key, span) in keys_of_jwts(raw) {
            let message = format!(
                "`{key}` is for tokens that are verified by keys: with `introspection` there are none; remove it"
            );
            self.faults.at(span, message);
        }
        if let Some(token) = raw.fetch.as_ref().and_then(|fetch| fetch.value.bearer_token_file.as_ref()) {
            let message = "the introspection endpoint gets the credentials of `client_id` in this header: remove this";
            self.faults.at(token.span, message);
        }
        let RawIntrospection { endpoint, client_id, client_secret, cache } = introspection;
        if cache.value > LONGEST_CACHE {
            let got = self.got(cache);
            self.faults
                .at(cache.span, format!("expected at most `10m`{got}: a revoked token is accepted for this time"));
        }
        let allow_http = raw.allow_http.as_ref().filter(|allow| allow.value);
        let clear_text = if allow_http.is_some() { ClearText::AnyHost } else { ClearText::Loopback };
        let watch = raw.ca.as_ref().map(|ca| FileWatch::new(vec![self.source.locate(&ca.value)]));
        let ca = raw.ca.as_ref().and_then(|ca| self.issuer_ca(ca));
        let url = endpoint.as_ref().ok().map(|endpoint| endpoint.value.url().clone());
        if let (Ok(endpoint), Some(url)) = (endpoint, &url) {
            self.introspection_url(name, (endpoint.span, url), raw.allow_http.as_ref(), clear_text);
        }
        let mut access = raw.fetch.as_ref().map(|fetch| self.fetch_access(fetch, url.as_ref())).unwrap_or_default();
        if let (Ok(id), Ok(secret)) = (client_id, client_secret) {
            self.not_empty(id);
            self.must_be_kept_apart(secret, secret.value.is_literal());
            access.is_incomplete |= secret.value.is_absent();
            if secret.value.expose().is_empty() && !secret.value.is_absent() {
                self.faults.at(secret.span, "this secret is empty: write `${NAME}` or `${file:path}`");
            }
            let client = EndpointCredentials::basic(&id.value, secret.value.expose())?;
            return Some((
                IntrospectionEndpoint { url: url?, client, cache: cache.value, ca, clear_text, access },
                watch,
            ));
        }
        None
    }

    fn introspection_url(
        &mut self,
        name: &At<String>,
        (at, url): (Span, &url::Url),
        allow_http: Option<&At<bool>>,
        clear_text: ClearText,
    ) {
        if url.scheme() == "https" {
            if let Some(key) = allow_http.filter(|allow| allow.value) {
                self.faults.at(key.span, "this issuer is asked over https: remove `allow_http`");
            }
        } else if !clear_text.permits(url) {
            let message = "expected an https URL; http is allowed on a loopback host, and with `allow_http: true`";
            self.faults.at(at, message);
        } else {
            let where_to = if is_loopback(url) { "on this machine" } else { "to another machine" };
            let message = format!(
                "tokens and the client's secret are sent to issuer `{}` in clear text, {where_to}: use https",
                name.value
            );
            self.warn(Lint::ClearTextKeys, allow_http.map_or(at, |key| key.span), message);
        }
    }

    /// A route asks one issuer about tokens at most: a token that belongs to one of several is sent to none of the
    /// others.
    pub(super) fn one_introspection(&mut self, issuers: &Named<RawIssuer>, routes: &[At<RawRoute>]) {
        let introspecting: Vec<&str> = issuers
            .entries
            .iter()
            .filter(|(_, issuer)| issuer.as_ref().is_ok_and(|issuer| issuer.value.introspection.is_some()))
            .map(|(name, _)| name.value.as_str())
            .collect();
        for route in routes {
            let Ok(At { value: RawAccess::Rule { rule, .. }, span }) = &route.value.access else { continue };
            let lists =
                |list: &At<OneOrMore<String>>, name: &str| list.value.items.iter().any(|item| item.value == name);
            let is_accepted = |name: &&&str| rule.issuers.as_ref().is_none_or(|list| lists(list, name));
            let accepted: Vec<&str> = introspecting.iter().filter(is_accepted).copied().collect();
            if let [first, second, ..] = accepted[..] {
                let at = rule.issuers.as_ref().map_or(*span, |list| list.span);
                let message = format!(
                    "this route accepts the issuers `{first}` and `{second}`, which both have `introspection`, and a token \
                     must be sent to one of them only: name one in `access.issuers`"
                );
                self.faults.at(at, message);
            }
        }
    }

    /// The clients that may ask our introspection endpoint about tokens.
    pub(super) fn own_introspection(
        &mut self,
        raw: Option<&At<RawOwnIntrospection>>,
        (clients, all_known): (&[String], bool),
    ) -> Vec<Identity> {
        let Some(Ok(list)) = raw.map(|raw| &raw.value.clients) else { return Vec::new() };
        let mut found = Vec::new();
        let names: Vec<&str> = clients.iter().map(String::as_str).collect();
        for id in &list.value.items {
            if all_known && !names.contains(&id.value.as_str()) {
                let (quoted, suggestion) = (self.quoted(id), suggest::suggestion(&id.value, &names));
                self.faults.at(id.span, format!("unknown client{quoted}{suggestion}"));
            } else if found.iter().any(|known: &Identity| known.as_str() == id.value) {
                self.faults.at(id.span, "this client is listed twice");
            }
            // A name that is no client id is reported where it stands.
            found.extend(client::parse_id(&id.value).ok());
        }
        found
    }
}

/// The keys that have a meaning for JWTs only, with their places.
fn keys_of_jwts(raw: &RawIssuer) -> Vec<(&'static str, Span)> {
    fn of<T>(key: Option<&Required<T>>) -> Option<Span> {
        Some(key?.as_ref().ok()?.span)
    }
    let keys = [
        ("jwks_uri", of(raw.jwks_uri.as_ref())),
        ("jwks_file", of(raw.jwks_file.as_ref())),
        ("jwks", of(raw.jwks.as_ref())),
        ("spiffe", raw.spiffe.as_ref().map(|at| at.span)),
        ("tenants", raw.tenants.as_ref().map(|at| at.span)),
        ("algorithms", raw.algorithms.as_ref().map(|at| at.span)),
        ("max_stale", raw.max_stale.as_ref().map(|at| at.span)),
    ];
    keys.into_iter().filter_map(|(key, span)| Some((key, span?))).collect()
}
