//! Our own issuer and its clients.

use std::collections::HashMap;

use super::bound::{added_and_removed, direction, listed, of_bounds};
use super::change::{ChangeSubject, Changes, Direction};
use super::issuers::compare_settings;
use super::limits::compare_limits;
use super::process::of_times;
use super::route_rules::{methods_text, path_text};
use super::view::{AccessView, OauthView};
use super::{client_keys, federation};
use crate::issuer::authorization_server::ServerSettings;
use crate::issuer::client::Client;
use crate::issuer::client_auth::KeptCredentials;
use crate::issuer::client_auth::certificate::CertificateName;
use crate::issuer::client_auth::secret::kept_secret::KeptSecret;
use crate::issuer::ring_store::RingSettings;
use crate::issuer::rotation::RotationRules;
use crate::issuer::stored_clients::ClientDatabase;
use crate::network::Networks;
use crate::oauth::bound::TokenBinding;
use crate::oauth::caller::IssuerName;
use crate::oauth::identity::Identity;
use crate::pipeline::routing::access::{Access, AccessRule};
use crate::pipeline::routing::table::RouteTable;
use crate::trust::proof_rules::DpopSettings;

pub(super) fn compare(old: &AccessView<'_>, new: &AccessView<'_>, changes: &mut Changes) {
    let subject = ChangeSubject::named(&["oauth"]);
    match (&old.oauth, &new.oauth) {
        (None, None) => {}
        (None, Some(oauth)) => {
            let issuer = &oauth.server.endpoints.issuer;
            changes.add(Direction::Wider, &subject, format!("the gateway issues tokens, as {issuer}"));
            compare_endpoints(&[], &paths(oauth), changes);
        }
        (Some(oauth), None) => {
            let issuer = &oauth.server.endpoints.issuer;
            let text = format!("the gateway no longer issues tokens, as {issuer}");
            changes.add(Direction::Narrower, &subject.of_old(), text);
            compare_endpoints(&paths(oauth), &[], changes);
        }
        (Some(before), Some(after)) => {
            compare_server(before.server, after.server, changes);
            compare_mtls_origin(before.server, after.server, changes);
            compare_database(before.stored, after.stored, changes);
            compare_endpoints(&paths(before), &paths(after), changes);
            compare_settings(before.trust, after.trust, &subject, changes);
            compare_ring(before.ring, after.ring, changes);
            for (direction, before, after) in compare_limits(before.token_limits, after.token_limits) {
                let subject = ChangeSubject::named(&["oauth", "rate_limits"]);
                changes.add(direction, &subject, format!("{before}the token endpoint{after}"));
            }
        }
    }
    compare_proofs(old.dpop, new.dpop, changes);
    let [before, after] = [&old.oauth, &new.oauth].map(|oauth| Clients::of(oauth.as_ref()));
    compare_clients((old, &before), (new, &after), changes);
}

fn compare_proofs(old: DpopSettings, new: DpopSettings, changes: &mut Changes) {
    let DpopSettings { nonce, max_age } = new;
    let subject = ChangeSubject::named(&["oauth", "dpop"]);
    if old.nonce != nonce {
        let (direction, needs) =
            if nonce { (Direction::Narrower, "need") } else { (Direction::Wider, "no longer need") };
        changes.add(direction, &subject, format!("DPoP proofs {needs} a nonce of the gateway"));
    }
    if let Some(direction) = of_times(old.max_age, max_age) {
        changes.add(direction, &subject, format!("DPoP proofs are good for {max_age:?}, before for {:?}", old.max_age));
    }
}

fn compare_server(old: &ServerSettings, new: &ServerSettings, changes: &mut Changes) {
    // The endpoints are compared as paths, and the issuer with its other settings.
    let ServerSettings { endpoints: _, json_requests, introspecting } = new;
    compare_introspecting(&old.introspecting, introspecting, changes);
    if old.json_requests != *json_requests {
        let (direction, takes) =
            if *json_requests { (Direction::Wider, "takes") } else { (Direction::Narrower, "no longer takes") };
        let subject = ChangeSubject::named(&["oauth", "json_requests"]);
        changes.add(direction, &subject, format!("the token endpoint {takes} JSON bodies"));
    }
}

/// The clients in it are not compared: they change without the configuration.
fn compare_database(old: Option<&ClientDatabase>, new: Option<&ClientDatabase>, changes: &mut Changes) {
    let text = |database: Option<&ClientDatabase>| match database {
        None => "no database".to_owned(),
        Some(ClientDatabase::Sqlite(file)) => file.display().to_string(),
        Some(ClientDatabase::Postgres) => "the database of shared.postgres".to_owned(),
    };
    let direction = match (old, new) {
        (None, Some(_)) => Direction::Wider,
        (Some(_), None) => Direction::Narrower,
        (Some(_), Some(_)) | (None, None) => Direction::Changed,
    };
    if old != new {
        let changed = format!("further clients are in {}, before in {}", text(new), text(old));
        changes.add(direction, &ChangeSubject::named(&["oauth", "clients_in"]), changed);
    }
}

/// The listeners decide where certificates are taken. The origin only tells clients.
fn compare_mtls_origin(old: &ServerSettings, new: &ServerSettings, changes: &mut Changes) {
    let [before, after] = [old, new].map(|server| server.endpoints.mtls_origin.as_deref());
    if before != after {
        let text = match after {
            Some(origin) => format!("clients with certificates are told to use {origin}"),
            None => "clients with certificates are told to use the origin of the issuer".to_owned(),
        };
        changes.add(Direction::Changed, &ChangeSubject::named(&["oauth", "mtls_origin"]), text);
    }
}

/// A client that may ask about tokens learns whose they are.
fn compare_introspecting(old: &[Identity], new: &[Identity], changes: &mut Changes) {
    let [old, new] = [old, new].map(|clients| clients.iter().map(|id| id.as_str().to_owned()).collect::<Vec<_>>());
    let subject = ChangeSubject::named(&["oauth", "introspection"]);
    let (added, removed) = added_and_removed(&old, &new);
    if !added.is_empty() {
        changes.add(Direction::Wider, &subject, format!("tokens may be introspected by {}", listed(added)));
    }
    if !removed.is_empty() {
        let text = format!("tokens may no longer be introspected by {}", listed(removed));
        changes.add(Direction::Narrower, &subject, text);
    }
}

/// The endpoints with their paths, in a fixed order.
fn paths<'c>(oauth: &OauthView<'c>) -> Vec<(&'static str, &'c str)> {
    let endpoints = &oauth.server.endpoints;
    let metadata = endpoints.metadata.iter().map(|path| ("the metadata", path.as_str()));
    let introspection = endpoints.introspection.iter().map(|path| ("the introspection endpoint", path.as_str()));
    let others = [
        ("the token endpoint", endpoints.token.as_str()),
        ("the revocation endpoint", endpoints.revocation.as_str()),
        ("the authorization endpoint", endpoints.authorization.as_str()),
        ("the JWK Set", endpoints.jwks.as_str()),
    ];
    others.into_iter().chain(introspection).chain(metadata).collect()
}

/// Endpoints take precedence over routes. So a path that one leaves is the routes' again, in every spelling.
fn compare_endpoints(old: &[(&str, &str)], new: &[(&str, &str)], changes: &mut Changes) {
    let subject = ChangeSubject::named(&["oauth"]);
    let (added, removed) = added_and_removed(old, new);
    for (name, path) in added {
        changes.add(Direction::Unclear, &subject, format!("{name} is at {path}"));
    }
    for (name, path) in removed {
        changes.add(Direction::Unclear, &subject.clone().of_old(), format!("{name} is no longer at {path}"));
    }
}

fn compare_ring(old: &RingSettings, new: &RingSettings, changes: &mut Changes) {
    let RingSettings { directory, rules, x5c: _, wrapping_keys } = new;
    let RotationRules { algorithm, rotate_every, longest_ttl: _, fixed_ends: _ } = rules;
    let subject = ChangeSubject::named(&["oauth", "signing_keys"]);
    if old.wrapping_keys.is_some() != wrapping_keys.is_some() {
        changes.add(Direction::Unclear, &subject, "other signing keys are used: files and database have their own");
    } else if old.directory != *directory && wrapping_keys.is_none() {
        changes.add(Direction::Unclear, &subject, "other signing keys are used: those of another folder");
    }
    if old.rules.algorithm != *algorithm {
        changes.add(Direction::Changed, &subject, format!("new tokens are signed by {algorithm}"));
    }
    if old.rules.rotate_every != *rotate_every {
        changes.add(Direction::Changed, &subject, "signing keys are rotated at other times");
    }
}

/// The clients of one configuration, by their ids.
struct Clients<'v, 'c> {
    oauth: Option<&'v OauthView<'c>>,
    by_id: HashMap<&'c str, &'c Client>,
}

impl<'v, 'c> Clients<'v, 'c> {
    fn of(oauth: Option<&'v OauthView<'c>>) -> Self {
        let clients = oauth.into_iter().flat_map(|oauth| &oauth.clients);
        Self { oauth, by_id: clients.map(|client| (client.id.as_str(), *client)).collect() }
    }

    fn all(&self) -> &[&'c Client] {
        self.oauth.map_or(&[], |oauth| &oauth.clients)
    }
}

fn compare_clients(
    (old, before): (&AccessView<'_>, &Clients<'_, '_>),
    (new, after): (&AccessView<'_>, &Clients<'_, '_>),
    changes: &mut Changes,
) {
    let mut effects = Effects { left: MAX_RULES, changes };
    for client in after.all() {
        let id = client.id.as_str();
        let subject = ChangeSubject::named(&["oauth", "clients", id]);
        match before.by_id.get(id) {
            Some(other) => {
                compare_client(other, client, &subject, effects.changes);
                if other.scopes != client.scopes || other.audiences != client.audiences {
                    effects.of_client((old, other), (new, client), &subject);
                }
            }
            None => {
                let text = format!(
                    "client `{id}` is new, with the scopes {}",
                    listed(client.scopes.iter().map(|scope| scope.as_str()))
                );
                effects.changes.add(Direction::Wider, &subject, text);
            }
        }
        let [limits_before, limits] = [before, after].map(|clients| {
            clients.oauth.and_then(|oauth| oauth.client_limits.get(&client.id)).map_or(&[][..], Vec::as_slice)
        });
        if before.by_id.contains_key(id) {
            for (direction, before, after) in compare_limits(limits_before, limits) {
                effects.changes.add(direction, &subject, format!("{before}client `{id}`{after}"));
            }
        }
    }
    for client in before.all().iter().filter(|client| !after.by_id.contains_key(client.id.as_str())) {
        let id = client.id.as_str();
        let subject = ChangeSubject::named(&["oauth", "clients", id]).of_old();
        effects.changes.add(Direction::Narrower, &subject, format!("client `{id}` is removed"));
    }
}

fn compare_client(old: &Client, new: &Client, subject: &ChangeSubject, changes: &mut Changes) {
    let Client { id, credentials, scopes, audiences, token_ttl, claims, allow_from, bound } = new;
    let id = id.as_str();
    compare_credentials((id, subject), &old.credentials, credentials, changes);
    let [granted, lost] = [scopes.without(&old.scopes), old.scopes.without(scopes)];
    if !granted.is_empty() {
        let names = listed(granted.iter().map(|scope| scope.as_str()));
        changes.add(Direction::Wider, subject, format!("client `{id}` may now have {names}"));
    }
    if !lost.is_empty() {
        let names = listed(lost.iter().map(|scope| scope.as_str()));
        changes.add(Direction::Narrower, subject, format!("client `{id}` may no longer have {names}"));
    }
    let (added, removed) = added_and_removed(&old.audiences, audiences);
    if !added.is_empty() {
        changes.add(Direction::Wider, subject, format!("client `{id}` may get tokens for {}", listed(added)));
    }
    if !removed.is_empty() {
        let text = format!("client `{id}` may no longer get tokens for {}", listed(removed));
        changes.add(Direction::Narrower, subject, text);
    }
    if let (Some(first_before), Some(first)) = (old.audiences.first(), audiences.first())
        && first_before != first
    {
        let text = format!("client `{id}` gets tokens for `{first}` by default, before for `{first_before}`");
        changes.add(Direction::Unclear, subject, text);
    }
    if let Some(direction) = of_times(old.token_ttl, *token_ttl) {
        let text = format!("tokens of client `{id}` live {token_ttl:?}, before {:?}", old.token_ttl);
        changes.add(direction, subject, text);
    }
    if old.claims != *claims {
        let names = claims.iter().filter(|(name, value)| old.claims.get(*name) != Some(value)).map(|(name, _)| name);
        let gone = old.claims.keys().filter(|name| !claims.contains_key(*name));
        let text = format!("client `{id}` gets tokens with other claims: {}", listed(names.chain(gone)));
        changes.add(Direction::Unclear, subject, text);
    }
    if let Some(direction) = direction(bound.is_within(old.bound), old.bound.is_within(*bound)) {
        let text = format!("client `{id}` gets a token {bound}, before one {}", old.bound);
        changes.add(direction, subject, text);
    }
    let is_within = |one: &Networks, other: &Networks| other.contains_all(one);
    if let Some(direction) = of_bounds(old.allow_from.as_ref(), allow_from.as_ref(), is_within) {
        let from = |networks: &Option<Networks>| networks.as_ref().map_or("anywhere".to_owned(), Networks::to_string);
        let text = format!("client `{id}` may call from {}, before from {}", from(allow_from), from(&old.allow_from));
        changes.add(direction, subject, text);
    }
}

/// Only hashes are known, so that no secret can be said to open more than another.
fn compare_credentials(
    (id, subject): (&str, &ChangeSubject),
    old: &KeptCredentials,
    new: &KeptCredentials,
    changes: &mut Changes,
) {
    let KeptCredentials { secrets, keys, certificates, federation: entries } = new;
    federation::compare((id, subject), &old.federation, entries, changes);
    client_keys::compare((id, subject), &old.keys, keys, changes);
    let other =
        |names: &[CertificateName], of: &[CertificateName]| names.iter().filter(|name| !of.contains(name)).count();
    let (added, removed) = (other(certificates, &old.certificates), other(&old.certificates, certificates));
    if added + removed > 0 {
        let direction = if added == 0 { Direction::Narrower } else { Direction::Unclear };
        let text = format!("names of certificates of client `{id}` changed: {added} added, {removed} removed");
        changes.add(direction, subject, text);
    }
    let is_same = |one: &KeptSecret, other: &KeptSecret| one.hash.is_same(&other.hash);
    let added = secrets.iter().filter(|secret| !old.secrets.iter().any(|other| is_same(secret, other))).count();
    let removed = old.secrets.iter().filter(|secret| !secrets.iter().any(|other| is_same(secret, other))).count();
    if added + removed > 0 {
        // The file does not say to whom a new secret was given.
        let direction = if added > 0 { Direction::Unclear } else { Direction::Narrower };
        let text = format!("secrets of client `{id}` changed: {added} added, {removed} removed");
        changes.add(direction, subject, text);
    }
    let has_other_times = secrets
        .iter()
        .any(|secret| old.secrets.iter().any(|other| is_same(secret, other) && other.validity != secret.validity));
    if has_other_times {
        changes.add(Direction::Unclear, subject, format!("a secret of client `{id}` is valid at other times"));
    }
}

/// The routes that clients gain and lose by their own entry, for the reader. The change of the entry itself is said in
/// any case.
struct Effects<'c> {
    /// How many rules may still be looked at.
    left: usize,
    changes: &'c mut Changes,
}

const MAX_RULES: usize = 2_000_000;
/// Of one client.
const MAX_EFFECTS: usize = 20;

impl Effects<'_> {
    fn of_client(
        &mut self,
        (old, before): (&AccessView<'_>, &Client),
        (new, after): (&AccessView<'_>, &Client),
        subject: &ChangeSubject,
    ) {
        self.between(old, before, after, (Direction::Narrower, "loses"), subject);
        self.between(new, after, before, (Direction::Wider, "gains"), subject);
    }

    /// The routes of `view` that the one entry of a client may use, and the other may not.
    fn between(
        &mut self,
        view: &AccessView<'_>,
        one: &Client,
        other: &Client,
        (direction, verb): (Direction, &str),
        subject: &ChangeSubject,
    ) {
        let routes: &RouteTable = view.routes;
        if routes.routes().len() > self.left {
            return;
        }
        self.left -= routes.routes().len();
        let mut count = 0;
        for route in routes.routes() {
            let Access::Protected(rule) = &route.access else { continue };
            if !may_pass(rule, one, view) || may_pass(rule, other, view) {
                continue;
            }
            count += 1;
            if count <= MAX_EFFECTS {
                let text =
                    format!("client `{}` {verb} {}{}", one.id, methods_text(route.methods.names()), path_text(route));
                self.changes.add(direction, subject, text);
            }
        }
        if count > MAX_EFFECTS {
            let text = format!("client `{}` {verb} {} routes more", one.id, count - MAX_EFFECTS);
            self.changes.add(direction, subject, text);
        }
    }
}

/// Whether the scopes and audiences of one of our clients suffice for a rule.
fn may_pass(rule: &AccessRule, client: &Client, view: &AccessView<'_>) -> bool {
    let AccessRule { issuers, audiences, all_of, any_of, claims: _, clients, bound } = rule;
    let is_own = |issuer: &IssuerName| issuer.as_str() == IssuerName::OWN;
    let has_issuer = issuers.as_ref().is_none_or(|issuers| issuers.iter().any(is_own));
    let is_named = clients
        .as_ref()
        .is_none_or(|clients| clients.iter().any(|(issuer, id)| is_own(issuer) && id == client.id.as_str()));
    let has_scopes = client.scopes.contains_all(all_of) && (any_of.is_empty() || client.scopes.contains_any(any_of));
    let has_audience = match (audiences, &view.oauth) {
        (Some(audiences), _) => client.audiences.iter().any(|audience| audiences.contains(audience)),
        (None, Some(oauth)) => oauth.trust.audiences.accepts_one_of(&client.audiences),
        (None, None) => false,
    };
    // A client that must bind nothing still may.
    let may_be_bound =
        client.bound == TokenBinding::None || client.bound.is_within(*bound) || bound.is_within(client.bound);
    has_issuer && is_named && has_scopes && has_audience && may_be_bound
}
