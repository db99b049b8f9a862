//! `portcullis explain --request-id ID`: a past decision, walked again under the revision that made it.
//!
//! Takes the line of the audit log. Rooms whose inputs it has are walked by the gateway's own functions; of the others,
//! the recorded values are shown. Each check is marked as one or the other. The recorded decision is never changed by
//! the walk: they stand beside each other.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::Value;

use super::recorded::{Comparison, RecordedCaller, RecordedDecision, compare, is_of_claims};
use crate::app::kept_revisions;
use crate::app::rehearsal::kept_facts::KeptFacts;
use crate::app::rehearsal::requests::RequestText;
use crate::app::rehearsal::walk::Walk;
use crate::app::rehearsal::{Rehearsal, RehearsalError};
use crate::cli::ConfigPath;
use crate::cli::audit::find::lines_of_request;
use crate::cli::terminal::{bad_config, error_text, failed, note};
use crate::config::interpolate::Surroundings;
use crate::config::needs::Needs;
use crate::config::revision::file_part;
use crate::config::types::Config;
use crate::config::{self, state_directory};
use crate::oauth::observer::{Observation, Room};

/// The request to find.
pub(super) struct PastRequest<'a> {
    pub(super) id: &'a str,
    pub(super) files: &'a [PathBuf],
    pub(super) config: &'a ConfigPath,
    /// The host that the request named, if the line does not have it.
    pub(super) host: Option<&'a str>,
}

/// A past decision, beside the walk.
pub(super) struct PastExplanation {
    pub(super) id: String,
    pub(super) decision: RecordedDecision,
    pub(super) host: String,
    pub(super) remarks: Vec<String>,
    pub(super) checks: Vec<MarkedCheck>,
    /// `None` if nothing could be walked.
    pub(super) walk: Option<Walk>,
    pub(super) comparison: Comparison,
}

/// One check, and where it comes from.
pub(super) struct MarkedCheck {
    pub(super) source: CheckSource,
    pub(super) observation: Observation,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CheckSource {
    Walked,
    Recorded,
}

/// The exit code, after a message, if there is nothing to explain.
pub(super) fn explain(request: &PastRequest<'_>) -> Result<PastExplanation, ExitCode> {
    let line = found_line(request)?;
    let decision = RecordedDecision::of(&line);
    let mut remarks = Vec::new();
    let config = revision(request.config, &decision.revision, &mut remarks)?;
    let host = decision.host.as_deref().or(request.host).unwrap_or_else(|| {
        remarks.push("the host is not recorded: name it with --host if routes are of a host".to_owned());
        DEFAULT_HOST
    });
    let host = host.to_owned();
    let walked = config.as_ref().map(|config| walk(&decision, &host, config, &mut remarks)).transpose();
    let walked = walked.map_err(|error| failed(&error))?.flatten();
    let (walk, has_caller) = walked.map_or((None, false), |(walk, has_caller)| (Some(walk), has_caller));
    let comparison = compare(&decision, walk.as_ref());
    let checks = checks(&decision, walk.as_ref(), has_caller);
    Ok(PastExplanation { id: request.id.to_owned(), decision, host, remarks, checks, walk, comparison })
}

const DEFAULT_HOST: &str = "localhost";

/// The first line with a decision: a stream has a second one when it ends.
fn found_line(request: &PastRequest<'_>) -> Result<Value, ExitCode> {
    let lines = lines_of_request(request.files, request.config, request.id)?;
    let found = lines.into_iter().find(|line| line.get("gateway.decision").is_some());
    found.ok_or_else(|| {
        error_text(format_args!(
            "no line of the audit log has the request id `{}`: compare it with the `X-Request-Id` of the answer, and \
             name files that were moved with --audit; refusals that were folded have no line of their own",
            request.id
        ))
    })
}

/// The configuration of a revision. `None`, with a remark, if it is not there any more.
fn revision(path: &ConfigPath, wanted: &str, remarks: &mut Vec<String>) -> Result<Option<Config>, ExitCode> {
    let (path, surroundings) = (&path.config, Surroundings::process());
    let current = config::load(path, &surroundings).ok();
    let is_current = current.as_ref().is_some_and(|current| current.id == wanted);
    if !is_current && wanted.contains('-') {
        let text = "the files and variables that the configuration names are those of today, not those of the decision";
        remarks.push(text.to_owned());
    }
    let folder = current
        .as_ref()
        .map_or_else(|| state_directory::find(path, &surroundings), |current| Ok(current.state_directory.clone()));
    let kept = folder.ok().and_then(|folder| kept_revisions::path(&folder, wanted));
    if let Some(text) = kept.as_deref().and_then(config::read_text) {
        // Paths in it are relative to the folder of the configuration.
        let name = path.with_file_name(format!("{wanted}.yaml"));
        let loaded = config::load_text_part(&name, text, Needs::TOKENS, &surroundings);
        return loaded.map(Some).map_err(|errors| {
            note(format_args!("the configuration {wanted}, which decided, cannot be loaded today"));
            bad_config(&errors)
        });
    }
    let of_file = config::load_part(path, Needs::TOKENS, &surroundings).ok();
    let same = of_file.filter(|config| file_part(&config.id) == file_part(wanted));
    if same.is_none() {
        remarks.push(not_kept(wanted, kept.as_deref()));
    }
    Ok(same)
}

fn not_kept(wanted: &str, path: Option<&Path>) -> String {
    let place = path.map(|path| format!(": there is no `{}`", path.display())).unwrap_or_default();
    format!("the configuration {wanted}, which decided, is not kept{place}; only recorded values are shown")
}

/// Walks the request, and says whether it has its caller. `None` if the line does not have the request.
fn walk(
    decision: &RecordedDecision,
    host: &str,
    config: &Config,
    remarks: &mut Vec<String>,
) -> Result<Option<(Walk, bool)>, RehearsalError> {
    let (Some(method), Some(path)) = (&decision.method, &decision.path) else {
        remarks.push("the line has no method and no path: the request could not be read".to_owned());
        return Ok(None);
    };
    let of_issuer = match &decision.caller {
        RecordedCaller::External { issuer, .. } => Some(issuer.as_str()),
        RecordedCaller::None | RecordedCaller::Claimed | RecordedCaller::Own { .. } | RecordedCaller::Static(_) => None,
    };
    let mut facts = match decision.caller {
        RecordedCaller::None | RecordedCaller::Claimed => KeptFacts::default(),
        _ => KeptFacts::for_made_token(config, of_issuer),
    };
    if let RecordedCaller::Own { client, .. } = &decision.caller
        && let Err(error) = facts.read_client(config, client)
    {
        remarks.push(format!("client `{client}` was not looked up: {error}"));
    }
    let rehearsal = Rehearsal::with(config, &facts)?;
    remarks.extend(facts.remarks);
    let (mut fields, mut has_caller) = (Vec::new(), false);
    match decision.caller.credentials(&rehearsal) {
        Ok(None) => {}
        Ok(Some(field)) => {
            fields.push(field);
            has_caller = true;
        }
        Err(error) => remarks.push(format!("the caller cannot be walked: {error}")),
    }
    let from = decision.from.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let text = RequestText { method, target: path, host, from, is_https: true, fields: &fields };
    let read = rehearsal.read(&text);
    let walk = match read {
        Ok(request) => rehearsal.walk(request),
        Err(fault) => rehearsal.malformed(fault),
    };
    Ok(Some((walk, has_caller)))
}

/// The checks in their order. Authentication is never walked with a token that was made for it.
fn checks(decision: &RecordedDecision, walk: Option<&Walk>, has_caller: bool) -> Vec<MarkedCheck> {
    let mut checks = Vec::new();
    let is_anonymous = matches!(decision.caller, RecordedCaller::None);
    let is_walked = |observation: &&Observation| match observation.room {
        Room::Canonicalise | Room::Route | Room::Address | Room::Limits => true,
        Room::Authenticate => is_anonymous,
        Room::Authorize if is_of_claims(observation) => has_caller && decision.caller.has_known_claims(),
        Room::Authorize => has_caller || is_anonymous,
    };
    let walked = walk.iter().flat_map(|walk| &walk.observations).filter(is_walked);
    let walked = walked.map(|seen| MarkedCheck { source: CheckSource::Walked, observation: seen.clone() });
    checks.extend(walked);
    let recorded = decision.checks(walk);
    checks.extend(recorded.into_iter().map(|observation| MarkedCheck { source: CheckSource::Recorded, observation }));
    checks.sort_by_key(|check| check.observation.room);
    checks
}
