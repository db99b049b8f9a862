//! `portcullis token`: looks into access tokens; [`super::revoke`] revokes them.

use std::io::Read as _;
use std::process::ExitCode;
use std::sync::Arc;

use base64::Engine as _;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::terminal::{BOLD, DIM, GOOD, NAME, WARN, bad_config, failed, note, out, styled};
use super::{ConfigPath, FINDINGS, Format, USAGE, revoke};
use crate::clock::{self, UnixTime};
use crate::config;
use crate::config::interpolate::Surroundings;
use crate::config::types::Config;
use crate::issuer::ring_store;
use crate::jose::BASE64URL;
use crate::pipeline::access::missing_scope;
use crate::pipeline::access::{Access, Forbidden};
use crate::trust::issuer::TrustedIssuer;
use crate::trust::key_cache::KeyCache;
use crate::trust::refresher;
use crate::trust::revocation::{Published, Revocations};
use crate::trust::revocation_store::Store;
use crate::trust::verify::{AllowedAudiences, Distrust, Expectations, Refused, Trust, Verified};

#[derive(Debug, Subcommand)]
pub(super) enum TokenVerb {
    /// Decode a token read from standard input, and say what this configuration would say to it and why
    #[command(after_help = INSPECT_HELP)]
    Inspect(InspectArgs),
    /// Revoke a token read from standard input, or what a client, a subject or an issuer has been good for until now
    #[command(after_help = revoke::HELP)]
    Revoke(revoke::RevokeArgs),
}

const INSPECT_HELP: &str = "\
Example:
  printf %s \"$TOKEN\" | portcullis token inspect

Our own keys are read from the disk, those of other issuers are fetched. Exit code 1 if the token is refused; a good one \
is held against every protected route.";

#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    #[command(flatten)]
    config: ConfigPath,
    /// For people or for programs
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

const MAX_INPUT: u64 = 64 * 1024;

pub(super) fn token(verb: TokenVerb) -> ExitCode {
    match verb {
        TokenVerb::Inspect(args) => inspect(&args),
        TokenVerb::Revoke(args) => revoke::revoke(&args),
    }
}

fn inspect(args: &InspectArgs) -> ExitCode {
    let config = match config::load(&args.config.config, &Surroundings::process()) {
        Ok(config) => config,
        Err(errors) => return bad_config(&errors),
    };
    let token = match read_token("portcullis token inspect") {
        Ok(token) => token,
        Err(code) => return code,
    };
    let token = token.as_str();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let now = clock::now();
    let verdict = runtime.block_on(judge(&config, token, now));
    match args.format {
        Format::Text => print_text(token, &verdict, &config, now),
        Format::Json => print_json(token, &verdict, &config, now),
    }
    if verdict.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(FINDINGS) }
}

/// From standard input, where no list of processes and no shell's history shows it.
pub(super) fn read_token(verb: &str) -> Result<String, ExitCode> {
    let mut text = String::new();
    std::io::stdin().take(MAX_INPUT).read_to_string(&mut text).map_err(|error| failed(&error))?;
    let text = text.trim();
    let token = text.strip_prefix("Bearer ").unwrap_or(text);
    if token.is_empty() {
        note(format_args!("no token on standard input; try: printf %s \"$TOKEN\" | {verb}"));
        return Err(ExitCode::from(USAGE));
    }
    Ok(token.to_owned())
}

/// With our own keys from the disk and the external issuers' fetched now; makes nothing.
async fn judge(config: &Config, token: &str, now: UnixTime) -> Result<Verified, Refused> {
    let mut issuers = Vec::new();
    if let Some(oauth) = &config.oauth {
        let keys = ring_store::peek(&oauth.ring)
            .ok()
            .flatten()
            .and_then(|ring| ring.verifying_keys().ok())
            .unwrap_or_default();
        issuers.push(Arc::new(TrustedIssuer { settings: oauth.trust.clone(), keys: Arc::new(KeyCache::own(keys)) }));
    }
    for issuer in &config.issuers {
        let keys = Arc::new(KeyCache::remote());
        if let Err(error) = refresher::refresh_once(&issuer.settings, &issuer.source, &keys).await {
            note(format_args!("{} {}", styled(WARN, "warning:"), crate::telemetry::chain::Chain(&error)));
        }
        issuers.push(Arc::new(TrustedIssuer { settings: issuer.settings.clone(), keys }));
    }
    let verified =
        Trust::new(issuers, Arc::new(revocations(config, now))).verify(token, Expectations::any_route(), now).await?;
    if verified.is_own() && !is_of_a_client(&verified, config) {
        return Err(verified.refused(Distrust::UnknownClient));
    }
    if is_for_any_route(&verified, config, now) { Ok(verified) } else { Err(verified.refused(Distrust::BadAudience)) }
}

/// What a gateway would know of now.
fn revocations(config: &Config, now: UnixTime) -> Published {
    let mut known = Revocations::default();
    config.revoked.iter().for_each(|entry| known.add(entry));
    match Store::in_directory(&config.state_directory).read() {
        Ok(entries) => entries.iter().filter(|entry| entry.is_live(now)).for_each(|entry| known.add(entry)),
        Err(error) => note(format_args!("{} {}", styled(WARN, "warning:"), crate::telemetry::chain::Chain(&error))),
    }
    known.into()
}

/// The client of a token of our own is configured.
fn is_of_a_client(verified: &Verified, config: &Config) -> bool {
    let clients = config.oauth.iter().flat_map(|oauth| &oauth.clients);
    verified.caller.client.as_ref().is_some_and(|id| clients.into_iter().any(|client| client.id == *id))
}

/// Some route takes the token's audience, or its issuer does.
fn is_for_any_route(verified: &Verified, config: &Config, now: UnixTime) -> bool {
    let instant = tokio::time::Instant::now();
    let rules = config.routes.routes().iter().filter_map(|route| match &route.access {
        Access::Public => None,
        Access::Protected(rule) => Some(rule.expectations()),
    });
    let of_issuer = Expectations { audiences: AllowedAudiences::OfIssuer, ..Expectations::any_route() };
    rules.chain([of_issuer]).any(|expected| verified.judge_again(expected, now, instant) != Err(Distrust::BadAudience))
}

fn print_text(token: &str, verdict: &Result<Verified, Refused>, config: &Config, now: UnixTime) {
    for (name, part) in parts(token) {
        out(format_args!("{}\n{part:#}", styled(BOLD, name)));
    }
    times(token).into_iter().for_each(|(name, time)| out(format_args!("  {name}  {}", styled(DIM, time))));
    match verdict {
        Ok(verified) => {
            let client = verified.caller.client.as_ref().map_or("(none)", |client| client.as_str());
            out(format_args!(
                "\n{}  issuer {}, client {client}, scope {}",
                styled(GOOD, "good"),
                verified.caller.issuer.as_str(),
                verified.caller.scope
            ));
            for (route, answer) in answers(verified, config, now) {
                let style = if answer == "allowed" { GOOD } else { DIM };
                out(format_args!("  {}  {}", styled(NAME, route), styled(style, answer)));
            }
        }
        Err(refused) => out(format_args!("\n{}  {}", styled(WARN, "refused"), explain(refused.reason))),
    }
}

fn print_json(token: &str, verdict: &Result<Verified, Refused>, config: &Config, now: UnixTime) {
    let mut printed: Value = parts(token).into_iter().collect();
    match verdict {
        Ok(verified) => {
            printed["good"] = json!(true);
            printed["routes"] = answers(verified, config, now)
                .into_iter()
                .map(|(route, answer)| (route, Value::from(answer)))
                .collect();
        }
        Err(refused) => {
            printed["good"] = json!(false);
            printed["why"] = json!(explain(refused.reason));
        }
    }
    out(printed);
}

/// Header and claims as far as they can be decoded, believed or not.
fn parts(token: &str) -> Vec<(String, Value)> {
    let decoded = token.split('.').take(2).map(|part| {
        let bytes = BASE64URL.decode(part).ok();
        bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_else(|| json!("(not base64url of JSON)"))
    });
    ["header", "claims"].map(str::to_owned).into_iter().zip(decoded).collect()
}

/// The claims that are times, readable.
fn times(token: &str) -> Vec<(&'static str, UnixTime)> {
    let claims = parts(token).into_iter().nth(1).map(|(_, claims)| claims).unwrap_or_default();
    let time = |name: &'static str| Some((name, UnixTime::from_seconds(claims[name].as_u64()?)));
    ["iat", "nbf", "exp"].into_iter().filter_map(time).collect()
}

/// What each protected route would say.
fn answers(verified: &Verified, config: &Config, now: UnixTime) -> Vec<(String, String)> {
    let instant = tokio::time::Instant::now();
    let answer = |access: &Access| match access {
        Access::Public => None,
        Access::Protected(rule) => Some(match verified.judge_again(rule.expectations(), now, instant) {
            Err(reason) => format!("401: {}", explain(reason)),
            Ok(()) => match rule.judge(verified) {
                Ok(()) => "allowed".to_owned(),
                Err(Forbidden::MissingScope { all_of, any_of }) => format!("403: {}", missing_scope(&all_of, &any_of)),
                Err(Forbidden::ClaimMismatch) => "403: a claim is not what the route asks for".to_owned(),
                Err(Forbidden::ClientNotAllowed) => "403: its client is not among the route's".to_owned(),
            },
        }),
    };
    config.routes.routes().iter().filter_map(|route| Some((route.name.clone(), answer(&route.access)?))).collect()
}

fn explain(reason: Distrust) -> &'static str {
    match reason {
        Distrust::Malformed => "malformed: not a compact JWS with a strict header and strictly typed claims",
        Distrust::UnknownIssuer => "unknown_issuer: no configured issuer has exactly this `iss`",
        Distrust::IssuerNotAllowed => "issuer_not_allowed: the route does not take this issuer",
        Distrust::TypeNotAllowed => "type_not_allowed: its `typ` is not among the issuer's `types`",
        Distrust::AlgNotAllowed => "alg_not_allowed: its `alg` is not among the issuer's `algorithms`",
        Distrust::MissingClaim => "missing_claim: a required claim is missing or empty",
        Distrust::BadAudience => "bad_audience: its `aud` names none of the accepted audiences",
        Distrust::Expired => "expired: its `exp` is past",
        Distrust::NotYetValid => "not_yet_valid: its `nbf` or `iat` lies in the future",
        Distrust::UnknownKid => "unknown_kid: the issuer publishes no such key for this algorithm",
        Distrust::KeysUnavailable => "keys_unavailable: the issuer's keys can't be fetched, so that nobody can tell",
        Distrust::BadSignature => "bad_signature: the issuer's key did not make this signature",
        Distrust::UnknownClient => "unknown_client: it is one of ours, and `oauth.clients` does not hold its client",
        Distrust::Revoked => "revoked: it, its client, its subject or its issuer's earlier tokens were revoked",
    }
}
