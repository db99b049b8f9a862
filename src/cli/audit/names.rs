//! Finds a misspelt client or route in the filters of `tail` and `query`.
//!
//! A name is misspelt if neither the configuration nor a line of the log has it: lines about a client or route that was
//! removed are found as before.

use std::io;
use std::path::PathBuf;

use super::LogFiles;
use super::filter::Filter;
use super::lines::{ChainLines, merge};
use crate::config;
use crate::config::interpolate::Surroundings;
use crate::config::needs::Needs;
use crate::config::suggest::suggestion;
use crate::config::types::Config;
use crate::oauth::caller::IssuerName;

/// The message about a misspelt name, if there is one. `files` are those of the log.
pub(super) fn misspelt(log: &LogFiles, files: &[PathBuf], filter: &Filter) -> io::Result<Option<String>> {
    // Files that are named may be those of another configuration.
    if !log.files.is_empty() || (filter.client.is_none() && filter.route.is_none()) {
        return Ok(None);
    }
    // In a shell without the variables of the service the names may be unknown.
    let Ok(config) = config::load_part(&log.config.config, Needs::ACCESS, &Surroundings::process()) else {
        return Ok(None);
    };
    if let Some(fault) = filter.client.as_deref().and_then(|client| unknown_client(client, &config))
        && !has_line(files, &filter.only_client())?
    {
        return Ok(Some(fault));
    }
    if let Some(fault) = filter.route.as_deref().and_then(|route| unknown_route(route, &config))
        && !has_line(files, &filter.only_route())?
    {
        return Ok(Some(fault));
    }
    Ok(None)
}

const NO_LINE: &str = "; no line of the log has it either";

fn unknown_client(wanted: &str, config: &Config) -> Option<String> {
    let mut own = config.oauth.iter().flat_map(|oauth| &oauth.clients);
    if own.any(|client| client.id.as_str() == wanted) {
        return None;
    }
    let (issuer, id) = wanted.split_once('/').unwrap_or((IssuerName::OWN, wanted));
    let issuers: Vec<&str> = config.all_issuers().map(|issuer| issuer.name.as_str()).collect();
    if issuer != IssuerName::OWN {
        // The clients of other issuers are not in the configuration, and static tokens are there only for a time.
        let is_known = issuers.contains(&issuer) || issuer == IssuerName::STATIC;
        return (!is_known).then(|| unknown("issuer", issuer, &issuers, NO_LINE));
    }
    let ids: Vec<&str> =
        config.oauth.iter().flat_map(|oauth| &oauth.clients).map(|client| client.id.as_str()).collect();
    let of_others = if config.issuers.is_empty() { "" } else { "; write ISSUER/ID for a client of another issuer" };
    (!ids.contains(&id)).then(|| unknown("client", id, &ids, &format!("{NO_LINE}{of_others}")))
}

fn unknown_route(wanted: &str, config: &Config) -> Option<String> {
    let names: Vec<&str> = config.routes.routes().iter().map(|route| route.name.as_str()).collect();
    (!names.contains(&wanted)).then(|| unknown("route", wanted, &names, NO_LINE))
}

fn unknown(kind: &str, name: &str, known: &[&str], rest: &str) -> String {
    format!("unknown {kind} `{}`{}{rest}", name.escape_debug(), suggestion(name, known))
}

fn has_line(files: &[PathBuf], filter: &Filter) -> io::Result<bool> {
    let mut found = false;
    merge(&mut [ChainLines::new(files.to_vec(), filter)], |_| {
        found = true;
        false
    })?;
    Ok(found)
}
