//! `portcullis token`: looks into access tokens; [`super::revoke`] revokes them.

use std::net::IpAddr;
use std::process::ExitCode;
use std::rc::Rc;

use base64::Engine as _;
use clap::{Args, Subcommand};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use super::stdin::read_token;
use super::terminal::{BOLD, DIM, GOOD, NAME, WARN, bad_config, failed, note, out, styled};
use super::{ConfigPath, FINDINGS, Format, revoke};
use crate::app::StartError;
use crate::app::inspection;
use crate::clock::{self, UnixTime};
use crate::config;
use crate::config::interpolate::Surroundings;
use crate::config::needs::Needs;
use crate::config::types::Config;
use crate::jose::BASE64URL;
use crate::pipeline::access::missing_scope;
use crate::pipeline::access::{Access, AccessRule, Forbidden};
use crate::pipeline::authenticate::{AuthenticateError, authenticate_anew};
use crate::pipeline::authorize::{admit, authorize};
use crate::pipeline::route::Route;
use crate::pipeline::snapshot::Snapshot;
use crate::telemetry::error_chain::ErrorChain;
use crate::trust::verify::{AllowedAudiences, Expectations, TokenError, Verified};

#[derive(Debug, Subcommand)]
pub(super) enum TokenVerb {
    /// Decode a token read from standard input, and say what this configuration would say to it and why
    #[command(after_help = INSPECT_HELP)]
    Inspect(InspectArgs),
    /// Revoke a token read from standard input, or the earlier tokens of a client, a subject or an issuer
    #[command(after_help = revoke::HELP)]
    Revoke(revoke::RevokeArgs),
}

const INSPECT_HELP: &str = "\
Example:
  printf %s \"$TOKEN\" | portcullis token inspect --from 192.0.2.7

Our own keys are read from the disk, those of other issuers are fetched. Exit code 1 if the token is refused; a good one \
is held against every protected route, as the gateway would. Without --from the address of the caller is not known, and \
passes no `allow_from` and no `deny_from`.";

#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    #[command(flatten)]
    config: ConfigPath,
    /// The address of the caller, for `allow_from` and `deny_from` of routes and clients
    #[arg(long, value_name = "ADDRESS")]
    from: Option<IpAddr>,
    /// For people or for programs
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// What the gateway would say.
struct Inspection {
    /// Of the token alone; `Err` says why it is refused.
    verdict: Result<Verified, &'static str>,
    /// The name of each protected route, and its answer to a good token.
    routes: Vec<(String, String)>,
}

pub(super) fn token(verb: TokenVerb) -> ExitCode {
    match verb {
        TokenVerb::Inspect(args) => inspect(&args),
        TokenVerb::Revoke(args) => revoke::revoke(&args),
    }
}

fn inspect(args: &InspectArgs) -> ExitCode {
    let config = match config::load_part(&args.config.config, Needs::ACCESS, &Surroundings::process()) {
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
    let inspection = match runtime.block_on(judge(config, token, args.from, clock::now())) {
        Ok(inspection) => inspection,
        Err(error) => return failed(&error),
    };
    match args.format {
        Format::Text => print_text(token, &inspection),
        Format::Json => print_json(token, &inspection),
    }
    if inspection.verdict.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(FINDINGS) }
}

/// By the functions that a request goes through, and with its limits.
async fn judge(config: Config, token: &str, from: Option<IpAddr>, now: UnixTime) -> Result<Inspection, StartError> {
    let (snapshot, failures) = inspection::snapshot(config, now).await?;
    for failure in failures {
        note(format_args!("{} {}", styled(WARN, "warning:"), ErrorChain(&failure)));
    }
    let Ok(credentials) = HeaderValue::try_from(format!("Bearer {token}")) else {
        return Ok(Inspection { verdict: Err(explain(TokenError::Malformed)), routes: Vec::new() });
    };
    let headers = HeaderMap::from_iter([(AUTHORIZATION, credentials)]);
    let verdict = authenticate_anew(&snapshot, Expectations::any_route(), &headers, now).await;
    let verdict = verdict.map_err(|error| why(&error)).and_then(|verified| {
        let good = is_for_any_route(&verified, &snapshot, now);
        if good { Ok(verified) } else { Err(explain(TokenError::BadAudience)) }
    });
    let mut routes = Vec::new();
    for route in snapshot.routes.routes().iter().filter(|_| verdict.is_ok()) {
        if let Access::Protected(rule) = &route.access {
            routes.push((route.name.clone(), answer(&snapshot, route, rule, (from, &headers), now).await));
        }
    }
    Ok(Inspection { verdict, routes })
}

/// What a protected route says to a token in this header.
async fn answer(
    snapshot: &Snapshot,
    route: &Route,
    rule: &AccessRule,
    (from, headers): (Option<IpAddr>, &HeaderMap),
    now: UnixTime,
) -> String {
    let hint = if from.is_none() { "; say `--from ADDRESS`" } else { "" };
    let Ok(admitted) = admit(route, from) else {
        return format!("403: the route's `allow_from` and `deny_from` refuse the address{hint}");
    };
    let caller = match authenticate_anew(snapshot, rule.expectations(), headers, now).await {
        Ok(caller) => Rc::new(caller),
        Err(error) => return format!("401: {}", why(&error)),
    };
    match authorize(&admitted, rule, caller, snapshot.oauth.as_ref().map(|oauth| &*oauth.server)) {
        Ok(_) => "allowed".to_owned(),
        Err(Forbidden::MissingScope { all_of, any_of }) => format!("403: {}", missing_scope(&all_of, &any_of)),
        Err(Forbidden::ClaimMismatch) => "403: a claim is not what the route asks for".to_owned(),
        Err(Forbidden::ClientNotAllowed) => {
            format!("403: its client is not among the route's, or may not call from the address{hint}")
        }
    }
}

/// Some route takes the token's audience, or its issuer does.
fn is_for_any_route(verified: &Verified, snapshot: &Snapshot, now: UnixTime) -> bool {
    let instant = tokio::time::Instant::now();
    let rules = snapshot.routes.routes().iter().filter_map(|route| match &route.access {
        Access::Public => None,
        Access::Protected(rule) => Some(rule.expectations()),
    });
    let of_issuer = Expectations { audiences: AllowedAudiences::OfIssuer, ..Expectations::any_route() };
    rules.chain([of_issuer]).any(|expected| verified.revalidate(expected, now, instant) != Err(TokenError::BadAudience))
}

fn print_text(token: &str, inspection: &Inspection) {
    for (name, part) in parts(token) {
        out(format_args!("{}\n{part:#}", styled(BOLD, name)));
    }
    times(token).into_iter().for_each(|(name, time)| out(format_args!("  {name}  {}", styled(DIM, time))));
    match &inspection.verdict {
        Ok(verified) => {
            let client = verified.caller.client.as_ref().map_or("(none)", |client| client.as_str());
            out(format_args!(
                "\n{}  issuer {}, client {client}, scope {}",
                styled(GOOD, "good"),
                verified.caller.issuer.as_str(),
                verified.caller.scope
            ));
            for (route, answer) in &inspection.routes {
                let style = if answer == "allowed" { GOOD } else { DIM };
                out(format_args!("  {}  {}", styled(NAME, route), styled(style, answer)));
            }
        }
        Err(why) => out(format_args!("\n{}  {why}", styled(WARN, "refused"))),
    }
}

fn print_json(token: &str, inspection: &Inspection) {
    let mut printed: Value = parts(token).into_iter().collect();
    match &inspection.verdict {
        Ok(_) => {
            printed["good"] = json!(true);
            let routes = inspection.routes.iter();
            printed["routes"] = routes.map(|(route, answer)| (route.clone(), Value::from(answer.as_str()))).collect();
        }
        Err(why) => {
            printed["good"] = json!(false);
            printed["why"] = json!(why);
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

fn why(error: &AuthenticateError) -> &'static str {
    match error {
        AuthenticateError::Refused(refused) => explain(refused.reason),
        AuthenticateError::Missing | AuthenticateError::Ambiguous => explain(TokenError::Malformed),
        AuthenticateError::Clock => "the clock of this machine can't be right",
    }
}

fn explain(reason: TokenError) -> &'static str {
    match reason {
        TokenError::Malformed => {
            "malformed: not a compact JWS with a strict header and strictly typed claims, or longer than `token_bytes`"
        }
        TokenError::UnknownIssuer => "unknown_issuer: no configured issuer has exactly this `iss`",
        TokenError::IssuerNotAllowed => "issuer_not_allowed: the route does not take this issuer",
        TokenError::TypeNotAllowed => "type_not_allowed: its `typ` is not among the issuer's `types`",
        TokenError::AlgNotAllowed => "alg_not_allowed: its `alg` is not among the issuer's `algorithms`",
        TokenError::MissingClaim => "missing_claim: a required claim is missing or empty",
        TokenError::BadAudience => "bad_audience: its `aud` names none of the accepted audiences",
        TokenError::Expired => "expired: its `exp` is past",
        TokenError::NotYetValid => "not_yet_valid: its `nbf` or `iat` lies in the future",
        TokenError::UnknownKid => "unknown_kid: the issuer publishes no such key for this algorithm",
        TokenError::KeysUnavailable => "keys_unavailable: the issuer's keys can't be fetched, so that nobody can tell",
        TokenError::BadSignature => "bad_signature: the issuer's key did not make this signature",
        TokenError::UnknownClient => "unknown_client: it is one of ours, and `oauth.clients` does not hold its client",
        TokenError::Revoked => "revoked: it, its client, its subject or its issuer's earlier tokens were revoked",
    }
}
