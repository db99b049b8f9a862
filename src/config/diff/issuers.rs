//! The issuers whose tokens are trusted.

use std::collections::BTreeSet;

use url::Url;

use super::bound::{added_and_removed, direction, listed};
use super::change::{ChangeSubject, Changes, Direction};
use super::process::of_times;
use super::view::AccessView;
use crate::oauth::scope::ScopeSet;
use crate::trust::audiences::AcceptedAudiences;
use crate::trust::fetch::ClearText;
use crate::trust::issuer::{IssuerSettings, TokenTypes};
use crate::trust::key_source::{FetchedKeys, IntrospectionEndpoint, KeySetPlace, KeySource, LocalKeys};
use crate::trust::token_origin::TokenOrigin;

pub(super) fn compare(old: &AccessView<'_>, new: &AccessView<'_>, changes: &mut Changes) {
    for (settings, source) in &new.issuers {
        let name = settings.name.as_str();
        let subject = ChangeSubject::named(&["issuers", name]);
        match old.issuers.iter().find(|(other, _)| other.name == settings.name) {
            Some((other, other_source)) => {
                compare_settings(other, settings, &subject, changes);
                compare_sources(name, other_source, source, &subject, changes);
            }
            None => {
                let scopes = match &settings.allow_scopes {
                    None => "with any scope".to_owned(),
                    Some(scopes) => format!("with the scopes {}", scope_names(scopes)),
                };
                let text = if settings.authenticates_requests() {
                    format!("issuer `{name}` ({}) is trusted, {scopes}", settings.issuer)
                } else {
                    format!("issuer `{name}` ({}) is trusted, for clients only", settings.issuer)
                };
                changes.add(Direction::Wider, &subject, text);
            }
        }
    }
    for (settings, _) in
        old.issuers.iter().filter(|(settings, _)| !new.issuers.iter().any(|(other, _)| other.name == settings.name))
    {
        let subject = ChangeSubject::named(&["issuers", settings.name.as_str()]).of_old();
        let text = format!("issuer `{}` ({}) is no longer trusted", settings.name.as_str(), settings.issuer);
        changes.add(Direction::Narrower, &subject, text);
    }
    compare_choice(old, new, changes);
    compare_fields(old, new, changes);
}

/// Several entries may be for tokens of one `iss`. If one of them changes, tokens may belong to another entry.
fn compare_choice(old: &AccessView<'_>, new: &AccessView<'_>, changes: &mut Changes) {
    let before: Vec<&IssuerSettings> = old.all_issuers().collect();
    let after: Vec<&IssuerSettings> = new.all_issuers().collect();
    let changed = |one: &[&IssuerSettings], other: &[&IssuerSettings]| -> BTreeSet<String> {
        let changed = one.iter().filter(|settings| !other.contains(settings));
        changed.flat_map(|settings| origins(settings)).collect()
    };
    let mut origins_changed = changed(&before, &after);
    origins_changed.extend(changed(&after, &before));
    let is_shared = |origin: &String| {
        [&before, &after].into_iter().any(|all| all.iter().filter(|one| origins(one).contains(origin)).count() > 1)
    };
    // A trust domain without an `iss` of its own takes tokens of every `iss` that no entry has.
    let takes_others = |all: &[&IssuerSettings]| {
        all.iter().any(|one| matches!(&one.origin, TokenOrigin::Spiffe(spiffe) if spiffe.issuer.is_none()))
    };
    let has_spiffe = takes_others(&before) || takes_others(&after);
    let shared: Vec<&String> = origins_changed.iter().filter(|origin| has_spiffe || is_shared(origin)).collect();
    if !shared.is_empty() {
        let text = format!("tokens of {} may belong to another of the entries for it", listed(shared));
        changes.add(Direction::Unclear, &ChangeSubject::named(&["issuers"]), text);
    }
}

/// The `iss` of its tokens.
fn origins(settings: &IssuerSettings) -> Vec<String> {
    match &settings.origin {
        TokenOrigin::Issuer => vec![settings.issuer.as_str().to_owned()],
        TokenOrigin::Tenants(tenants) => tenants.issuers().map(str::to_owned).collect(),
        TokenOrigin::Spiffe(spiffe) => {
            let issuer = spiffe.issuer.iter().map(|issuer| issuer.as_str().to_owned());
            issuer.chain([spiffe.id.as_str().to_owned()]).collect()
        }
    }
}

/// A request with credentials in two fields is refused. So each field counts for the tokens of all issuers.
fn compare_fields(old: &AccessView<'_>, new: &AccessView<'_>, changes: &mut Changes) {
    let fields = |view: &AccessView<'_>| -> Vec<String> {
        let fields: BTreeSet<String> = view
            .all_issuers()
            .filter_map(|one| one.token_field.as_ref())
            .map(|name| name.as_str().to_owned())
            .collect();
        fields.into_iter().collect()
    };
    let (old, new) = (fields(old), fields(new));
    let (added, removed) = added_and_removed(&old, &new);
    let subject = ChangeSubject::named(&["issuers"]);
    if !added.is_empty() {
        changes.add(Direction::Unclear, &subject, format!("tokens are also read from the field {}", listed(added)));
    }
    if !removed.is_empty() {
        let text = format!("tokens are no longer read from the field {}", listed(removed));
        changes.add(Direction::Unclear, &subject, text);
    }
}

/// What is required of the tokens of an issuer, ours included.
pub(super) fn compare_settings(
    old: &IssuerSettings,
    new: &IssuerSettings,
    subject: &ChangeSubject,
    changes: &mut Changes,
) {
    let IssuerSettings {
        name,
        issuer,
        origin,
        token_field,
        subject_claims,
        audiences,
        algorithms,
        types,
        clock_skew,
        scope_claim,
        allow_scopes,
        // It follows from the name.
        profile: _,
    } = new;
    let mut add = |direction: Option<Direction>, text: String| {
        if let Some(direction) = direction {
            changes.add(direction, subject, format!("issuer `{}` {text}", name.as_str()));
        }
    };
    let other = |is_other: bool| is_other.then_some(Direction::Unclear);
    add(other(old.issuer != *issuer), format!("is {issuer}, before {}", old.issuer));
    add(
        other(old.issuer == *issuer && old.origin != *origin),
        "takes the tokens of other tenants or trust domains".to_owned(),
    );
    add(other(old.token_field != *token_field), "has its tokens in another field".to_owned());
    add(other(old.subject_claims != *subject_claims), format!("has the subject in {}", listed(subject_claims)));
    add(other(old.scope_claim != *scope_claim), "has the scopes in other claims".to_owned());
    let (wider, narrower) = added_and_removed(&old.algorithms, algorithms);
    add(some(&wider, Direction::Wider), format!("may sign by {}", listed(&wider)));
    add(some(&narrower, Direction::Narrower), format!("may no longer sign by {}", listed(&narrower)));
    let [types_before, types] = [&old.types, types].map(type_names);
    let (wider, narrower) = added_and_removed(&types_before, &types);
    add(some(&wider, Direction::Wider), format!("may issue tokens of the type {}", listed(&wider)));
    add(some(&narrower, Direction::Narrower), format!("may no longer issue tokens of the type {}", listed(&narrower)));
    add(
        of_times(old.clock_skew, *clock_skew),
        format!("has a clock skew of {clock_skew:?}, before {:?}", old.clock_skew),
    );
    for (direction, text) in compare_scopes(old.allow_scopes.as_ref(), allow_scopes.as_ref()) {
        add(Some(direction), text);
    }
    for (direction, text) in compare_audiences(&old.audiences, audiences) {
        add(Some(direction), text);
    }
}

fn some<T>(list: &[T], direction: Direction) -> Option<Direction> {
    (!list.is_empty()).then_some(direction)
}

fn type_names(types: &TokenTypes) -> Vec<String> {
    let TokenTypes { named, absent } = types;
    named.iter().cloned().chain(absent.then(|| "none".to_owned())).collect()
}

fn scope_names(scopes: &ScopeSet) -> String {
    listed(scopes.iter().map(|scope| scope.as_str()))
}

fn compare_scopes(old: Option<&ScopeSet>, new: Option<&ScopeSet>) -> Vec<(Direction, String)> {
    match (old, new) {
        (None, None) => Vec::new(),
        (Some(_), None) => vec![(Direction::Wider, "may now grant any scope".to_owned())],
        (None, Some(scopes)) => vec![(Direction::Narrower, format!("may only grant {}", scope_names(scopes)))],
        (Some(old), Some(new)) => {
            let [granted, lost] = [new.without(old), old.without(new)];
            let granted = (Direction::Wider, &granted, "may now grant");
            let lost = (Direction::Narrower, &lost, "may no longer grant");
            let changed = [granted, lost].into_iter().filter(|(_, scopes, _)| !scopes.is_empty());
            changed.map(|(direction, scopes, text)| (direction, format!("{text} {}", scope_names(scopes)))).collect()
        }
    }
}

fn compare_audiences(old: &AcceptedAudiences, new: &AcceptedAudiences) -> Vec<(Direction, String)> {
    let mut changes = Vec::new();
    match (old, new) {
        (AcceptedAudiences::Unlimited, AcceptedAudiences::Unlimited)
        | (AcceptedAudiences::FederationOnly, AcceptedAudiences::FederationOnly) => {}
        (AcceptedAudiences::FederationOnly, AcceptedAudiences::Unlimited) => {
            changes.push((Direction::Wider, "may now authenticate requests, with tokens for any audience".to_owned()));
        }
        (AcceptedAudiences::FederationOnly, AcceptedAudiences::Listed { accepted, .. }) => {
            let text = format!("may now authenticate requests, with tokens for {}", listed(accepted));
            changes.push((Direction::Wider, text));
        }
        (AcceptedAudiences::Unlimited | AcceptedAudiences::Listed { .. }, AcceptedAudiences::FederationOnly) => {
            changes.push((Direction::Narrower, "may no longer authenticate requests".to_owned()));
        }
        (AcceptedAudiences::Listed { .. }, AcceptedAudiences::Unlimited) => {
            changes.push((Direction::Wider, "may issue tokens for any audience".to_owned()));
        }
        (AcceptedAudiences::Unlimited, AcceptedAudiences::Listed { accepted, instead_of_aud }) => {
            // The route's own audiences may be found in the other claim.
            let direction = if instead_of_aud.is_none() { Direction::Narrower } else { Direction::Unclear };
            changes.push((direction, format!("may only issue tokens for {}", listed(accepted))));
        }
        (
            AcceptedAudiences::Listed { accepted: before, instead_of_aud: claim_before },
            AcceptedAudiences::Listed { accepted, instead_of_aud },
        ) => {
            let (added, removed) = added_and_removed(before, accepted);
            if !added.is_empty() {
                changes.push((Direction::Wider, format!("may issue tokens for {}", listed(added))));
            }
            if !removed.is_empty() {
                changes.push((Direction::Narrower, format!("may no longer issue tokens for {}", listed(removed))));
            }
            if claim_before != instead_of_aud {
                changes.push((Direction::Unclear, "has the audience in other claims".to_owned()));
            }
        }
    }
    changes
}

fn compare_sources(name: &str, old: &KeySource, new: &KeySource, subject: &ChangeSubject, changes: &mut Changes) {
    match (old, new) {
        (KeySource::Fetched(old), KeySource::Fetched(new)) => compare_fetched(name, old, new, subject, changes),
        (KeySource::Local(old), KeySource::Local(new)) => {
            let LocalKeys { file, keys, left_aside: _ } = new;
            if !old.keys.is_same(keys) {
                changes.add(Direction::Unclear, subject, format!("issuer `{name}` has other keys"));
            }
            if old.file != *file {
                changes.add(Direction::Changed, subject, format!("issuer `{name}` has its keys in another file"));
            }
        }
        (KeySource::Introspected(old), KeySource::Introspected(new)) => {
            compare_introspection(name, old, new, subject, changes);
        }
        (KeySource::Fetched(_) | KeySource::Local(_), KeySource::Introspected(_)) => {
            let text = format!("issuer `{name}` is asked about its tokens, before they were verified by its keys");
            changes.add(Direction::Unclear, subject, text);
        }
        (KeySource::Introspected(_), KeySource::Fetched(_) | KeySource::Local(_)) => {
            let text = format!("tokens of issuer `{name}` are verified by its keys, before it was asked about them");
            changes.add(Direction::Unclear, subject, text);
        }
        (KeySource::Fetched(_), KeySource::Local(_)) => {
            let text = format!("issuer `{name}` has keys that are given here, and no longer fetched");
            changes.add(Direction::Unclear, subject, text);
        }
        (KeySource::Local(_), KeySource::Fetched(_)) => {
            let text = format!("issuer `{name}` has keys that are fetched, and no longer given here");
            changes.add(Direction::Unclear, subject, text);
        }
    }
}

fn compare_fetched(name: &str, old: &FetchedKeys, new: &FetchedKeys, subject: &ChangeSubject, changes: &mut Changes) {
    let FetchedKeys { place, ca, max_stale, clear_text, access } = new;
    if old.place != *place {
        let text = |place: &KeySetPlace| {
            place.uri().map_or_else(|| "its metadata".to_owned(), |uri| format!("`jwks_uri` at {}", url_text(uri)))
        };
        let text = format!("issuer `{name}` has its keys by {}, before by {}", text(place), text(&old.place));
        changes.add(Direction::Unclear, subject, text);
    }
    if old.ca != *ca {
        changes.add(Direction::Unclear, subject, format!("issuer `{name}` is verified by other certificates"));
    }
    if let Some(direction) = of_times(old.max_stale, *max_stale) {
        let text =
            format!("keys of issuer `{name}` count for {max_stale:?} after their time, before {:?}", old.max_stale);
        changes.add(direction, subject, text);
    }
    if let Some((direction, may)) = compare_clear_text(old.clear_text, *clear_text) {
        changes.add(direction, subject, format!("keys of issuer `{name}` {may} be fetched in clear text"));
    }
    if old.access != *access {
        changes.add(Direction::Changed, subject, format!("keys of issuer `{name}` are fetched with other credentials"));
    }
}

/// With the words for the new one.
fn compare_clear_text(old: ClearText, new: ClearText) -> Option<(Direction, &'static str)> {
    let rank = |clear_text: ClearText| match clear_text {
        ClearText::Loopback => 0,
        ClearText::AnyHost => 1,
    };
    let (before, after) = (rank(old), rank(new));
    let direction = direction(after <= before, before <= after)?;
    Some((direction, if after > before { "may" } else { "may no longer" }))
}

fn compare_introspection(
    name: &str,
    old: &IntrospectionEndpoint,
    new: &IntrospectionEndpoint,
    subject: &ChangeSubject,
    changes: &mut Changes,
) {
    let IntrospectionEndpoint { url, client, cache, ca, clear_text, access } = new;
    if old.url != *url {
        let (now, before) = (url_text(url), url_text(&old.url));
        let text = format!("issuer `{name}` is asked about tokens at {now}, before at {before}");
        changes.add(Direction::Unclear, subject, text);
    }
    if old.ca != *ca {
        changes.add(Direction::Unclear, subject, format!("issuer `{name}` is verified by other certificates"));
    }
    if let Some(direction) = of_times(old.cache, *cache) {
        let text = format!("answers of issuer `{name}` count for {cache:?}, before for {:?}", old.cache);
        changes.add(direction, subject, text);
    }
    if let Some((direction, may)) = compare_clear_text(old.clear_text, *clear_text) {
        changes.add(direction, subject, format!("issuer `{name}` {may} be asked about tokens in clear text"));
    }
    if old.client != *client || old.access != *access {
        changes.add(Direction::Changed, subject, format!("issuer `{name}` is asked with other credentials"));
    }
}

/// Without its query, which may have a secret.
fn url_text(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}
