//! `portcullis token inspect`: decodes a token and shows the decision of the gateway at every protected route.
//!
//! The decisions are made by the functions that a request goes through. A request gets one code for several causes;
//! here the operator sees which of them it is.

use std::net::IpAddr;
use std::process::ExitCode;
use std::rc::Rc;

use base64::Engine as _;
use clap::Args;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use super::refusal::{TokenRefusal, explain};
use super::stdin::read_token;
use super::terminal::{BOLD, DIM, GOOD, NAME, WARN, bad_config, failed, note, out, styled};
use super::{ConfigPath, FINDINGS, Format};
use crate::app::inspection;
use crate::app::start_error::StartError;
use crate::clock::{self, UnixTime};
use crate::config;
use crate::config::interpolate::Surroundings;
use crate::config::needs::Needs;
use crate::config::types::Config;
use crate::jose::BASE64URL;
use crate::jose::numeric_date::NumericDate;
use crate::pipeline::policy::authenticate::authenticate_anew;
use crate::pipeline::policy::authorize::{admit, authorize};
use crate::pipeline::routing::access::{Access, AccessRule, Forbidden, missing_scope};
use crate::pipeline::routing::route::Route;
use crate::pipeline::routing::snapshot::Snapshot;
use crate::telemetry::error_chain::ErrorChain;
use crate::trust::revocation::RevocationEntry;
use crate::trust::revocation_store::Store;
use crate::trust::verify::{AllowedAudiences, Expectations, TokenError, Verified};

pub(super) const HELP: &str = "\
Example:
  printf %s \"$TOKEN\" | portcullis token inspect --from 192.0.2.7

Our own keys are read from the disk, those of other issuers are fetched. Exit code 1 if the token is refused. An accepted token \
is checked against every protected route. Without --from the address of the caller is unknown, and `allow_from` and `deny_from` \
refuse it.";

#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    #[command(flatten)]
    config: ConfigPath,
    /// The address of the caller, for `allow_from` and `deny_from` of routes and clients
    #[arg(long, value_name = "ADDRESS")]
    from: Option<IpAddr>,
    /// The form of the output: text for people, JSON for programs
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// The decisions of the gateway.
struct Inspection {
    /// About the token alone.
    verdict: Result<Verified, TokenRefusal>,
    /// The name of each protected route and its decision about an accepted token.
    routes: Vec<(String, Result<(), RouteRefusal>)>,
    /// How long a token past its `exp` is still accepted, because clocks may differ.
    grace: Option<Grace>,
}

/// Why a route refuses the token: the status of the answer, the reason in the audit log, and the cause.
struct RouteRefusal {
    status: u16,
    reason: &'static str,
    text: String,
}

#[derive(Clone, Copy)]
struct Grace {
    ends: UnixTime,
    clock_skew_s: u64,
}

pub(super) fn inspect(args: &InspectArgs) -> ExitCode {
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
    let inspection = match runtime.block_on(inspect_token(config, token, args.from, clock::now())) {
        Ok(inspection) => inspection,
        Err(error) => return failed(&error),
    };
    match args.format {
        Format::Text => print_text(token, &inspection),
        Format::Json => print_json(token, &inspection),
    }
    if inspection.verdict.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(FINDINGS) }
}

/// Uses the functions and the limits of a request.
async fn inspect_token(
    config: Config,
    token: &str,
    from: Option<IpAddr>,
    now: UnixTime,
) -> Result<Inspection, StartError> {
    let revoked = revocations(&config, now);
    let (snapshot, failures) = inspection::snapshot(config, now).await?;
    for failure in failures {
        note(format_args!("{} {}", styled(WARN, "warning:"), ErrorChain(&failure)));
    }
    let refused = |reason| TokenRefusal::new(reason, token, &snapshot, &revoked);
    let (field, scheme) =
        snapshot.trust.field_of(token).map_or((AUTHORIZATION, "Bearer "), |field| (field.clone(), ""));
    let Ok(credentials) = HeaderValue::try_from(format!("{scheme}{token}")) else {
        return Ok(Inspection { verdict: Err(refused(TokenError::Malformed)), routes: Vec::new(), grace: None });
    };
    let headers = HeaderMap::from_iter([(field, credentials)]);
    let verdict = authenticate_anew(&snapshot, Expectations::any_route(), &headers, now).await;
    let verdict = verdict.map_err(|error| TokenRefusal::of(&error, token, &snapshot, &revoked));
    let verdict = verdict.and_then(|verified| {
        let is_for_us = is_for_any_route(&verified, &snapshot, now);
        if is_for_us { Ok(verified) } else { Err(refused(TokenError::BadAudience)) }
    });
    let mut routes = Vec::new();
    for route in snapshot.routes.routes().iter().filter(|_| verdict.is_ok()) {
        if let Access::Protected(rule) = &route.access {
            let decision = decide(&snapshot, route, rule, (from, &headers), now).await;
            routes.push((route.name.clone(), decision));
        }
    }
    let grace = verdict.as_ref().ok().and_then(|verified| grace(verified, now));
    Ok(Inspection { verdict, routes, grace })
}

/// All that are in force. A file that cannot be read is reported with the snapshot.
fn revocations(config: &Config, now: UnixTime) -> Vec<RevocationEntry> {
    let stored = Store::in_directory(&config.state_directory).read().unwrap_or_default();
    config.revoked.iter().cloned().chain(stored).filter(|entry| entry.is_live(now)).collect()
}

fn grace(verified: &Verified, now: UnixTime) -> Option<Grace> {
    let clock_skew = verified.issuer.settings.clock_skew;
    let expires_at = UnixTime::from_seconds(verified.claims.expires_at);
    (expires_at <= now).then(|| Grace { ends: expires_at.plus(clock_skew), clock_skew_s: clock_skew.as_secs() })
}

/// The decision of a protected route about a token in this header.
async fn decide(
    snapshot: &Snapshot,
    route: &Route,
    rule: &AccessRule,
    (from, headers): (Option<IpAddr>, &HeaderMap),
    now: UnixTime,
) -> Result<(), RouteRefusal> {
    let refused = |reason, text| Err(RouteRefusal { status: 403, reason, text });
    let Ok(admitted) = admit(route, from) else {
        let text = match from {
            None => format!("the route has address rules, {UNKNOWN_ADDRESS}"),
            Some(from) if route.from.deny.as_ref().is_some_and(|deny| deny.contains(from)) => {
                format!("the route's `deny_from` contains {from}")
            }
            Some(from) => format!("the route's `allow_from` does not contain {from}"),
        };
        return refused("address_not_allowed", text);
    };
    let caller = match authenticate_anew(snapshot, rule.expectations(), headers, now).await {
        Ok(caller) => Rc::new(caller),
        Err(error) => {
            let (reason, text) = explain(&error);
            return Err(RouteRefusal { status: 401, reason, text: text.to_owned() });
        }
    };
    let own = snapshot.oauth.as_ref().map(|oauth| &*oauth.server);
    match authorize(&admitted, rule, Rc::clone(&caller), own) {
        Ok(_) => Ok(()),
        Err(Forbidden::MissingScope { all_of, any_of, .. }) => {
            refused("missing_scope", missing_scope(&all_of, &any_of))
        }
        Err(Forbidden::ClaimMismatch(values)) => {
            let claims = rule.claims.iter().filter(|claim| !claim.holds(&caller));
            let paths: Vec<String> = claims.map(|claim| format!("`{}`", claim.path)).collect();
            let text = format!("the route requires another value of the claim {}", paths.join(", "));
            refused("claim_mismatch", format!("{text}: found {}, wanted {}", values.found, values.wanted))
        }
        Err(Forbidden::AddressNotAllowed) => {
            let text = match from {
                None => format!("the client has `allow_from`, {UNKNOWN_ADDRESS}"),
                Some(from) => format!("the client's `allow_from` does not contain {from}"),
            };
            refused("address_not_allowed", text)
        }
        Err(Forbidden::ClientNotAllowed) => {
            let text = match &caller.caller.client {
                Some(id) => format!("the route's `clients` does not contain `{}`", id.as_str()),
                None => "the route has `clients`, and the token names no client".to_owned(),
            };
            refused("client_not_allowed", text)
        }
    }
}

const UNKNOWN_ADDRESS: &str = "and the address of the caller is not known: give it with --from ADDRESS";

/// Whether a route accepts the token's audience, or its issuer does.
fn is_for_any_route(verified: &Verified, snapshot: &Snapshot, now: UnixTime) -> bool {
    let instant = tokio::time::Instant::now();
    let rules = snapshot.routes.routes().iter().filter_map(|route| match &route.access {
        Access::Public => None,
        Access::Protected(rule) => Some(rule.expectations()),
    });
    let of_issuer = Expectations { audiences: AllowedAudiences::OfIssuer, ..Expectations::any_route() };
    let is_for_another = |expected| {
        verified.revalidate(expected, now, instant).is_err_and(|check| check.reason == TokenError::BadAudience)
    };
    !rules.chain([of_issuer]).all(is_for_another)
}

fn print_text(token: &str, inspection: &Inspection) {
    for (name, part) in parts(token) {
        out(format_args!("{}\n{part:#}", styled(BOLD, name)));
    }
    times(token).into_iter().for_each(|(name, time)| out(format_args!("  {name}  {}", styled(DIM, time))));
    match &inspection.verdict {
        Ok(verified) => {
            let client = verified.caller.client.as_ref().map_or("(none)", |client| client.as_str());
            let scope = &verified.caller.scope;
            let scope = if scope.is_empty() { "(none)".to_owned() } else { scope.to_string() };
            out(format_args!(
                "\n{}  issuer {}, client {client}, scope {scope}",
                styled(GOOD, "good"),
                verified.caller.issuer.as_str(),
            ));
            if let Some(Grace { ends, clock_skew_s }) = inspection.grace {
                let text = format!("its `exp` is past; accepted until {ends}, as clocks may differ by {clock_skew_s}s");
                out(format_args!("  {}", styled(WARN, text)));
            }
            for (route, decision) in &inspection.routes {
                let decision = match decision {
                    Ok(()) => styled(GOOD, "allowed"),
                    Err(RouteRefusal { status, reason, text }) => {
                        styled(DIM, format_args!("{status} {reason}: {text}"))
                    }
                };
                out(format_args!("  {}  {decision}", styled(NAME, route)));
            }
        }
        Err(TokenRefusal { reason, text }) => out(format_args!("\n{}  {reason}: {text}", styled(WARN, "refused"))),
    }
}

fn print_json(token: &str, inspection: &Inspection) {
    let mut printed: Value = parts(token).into_iter().collect();
    match &inspection.verdict {
        Ok(_) => {
            printed["good"] = json!(true);
            let decision = |decision: &Result<(), RouteRefusal>| match decision {
                Ok(()) => json!({ "allowed": true }),
                Err(RouteRefusal { status, reason, text }) => {
                    json!({ "allowed": false, "status": status, "reason": reason, "why": text })
                }
            };
            let routes = inspection.routes.iter();
            printed["routes"] = routes.map(|(route, made)| (route.clone(), decision(made))).collect();
            if let Some(Grace { ends, .. }) = inspection.grace {
                printed["expired"] = json!(true);
                printed["accepted_until"] = json!(ends.to_the_second());
            }
        }
        Err(TokenRefusal { reason, text }) => {
            printed["good"] = json!(false);
            printed["reason"] = json!(reason);
            printed["why"] = json!(text);
        }
    }
    out(printed);
}

/// Header and claims as far as they can be decoded, verified or not.
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
    let time = |name: &'static str| {
        let date = NumericDate::parse(&claims[name].to_string())?;
        Some((name, UnixTime::from_seconds(date.rounded_down())))
    };
    ["iat", "nbf", "exp"].into_iter().filter_map(time).collect()
}
