//! `portcullis token inspect`: decodes a token and shows the decision of the gateway at every protected route.
//!
//! For a refusal it also shows the values that the audit log has, and the smallest change of the configuration that
//! would accept the token.

pub(super) mod credential;

use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;

use base64::Engine as _;
use clap::Args;
use credential::CredentialInspection;
use http::HeaderName;
use serde_json::{Map, Value, json};

use super::change::{Change, ChangeSearch, Suggestion};
use super::decision::TokenRequest;
use super::refusal::Refusal;
use super::stdin::read_token;
use super::terminal::{BOLD, DIM, GOOD, NAME, WARN, bad_config, failed, note, out, styled};
use super::{ConfigPath, FINDINGS, Format};
use crate::app::inspection;
use crate::app::start_error::StartError;
use crate::audit::line::shown;
use crate::clock::{self, UnixTime};
use crate::config;
use crate::config::interpolate::Surroundings;
use crate::config::needs::Needs;
use crate::config::types::Config;
use crate::jose::BASE64URL;
use crate::jose::numeric_date::NumericDate;
use crate::oauth::caller::IssuerName;
use crate::oauth::confirmation::{Confirmation, Thumbprint};
use crate::pipeline::routing::snapshot::Snapshot;
use crate::trust::claimed_caller::ClaimedIssuer;
use crate::trust::verify::Verified;

pub(super) const HELP: &str = "\
Example:
  printf %s \"$TOKEN\" | portcullis token inspect --from 192.0.2.7

Our own keys are read from the disk or the database, those of other issuers are fetched. Exit code 1 if the token is refused, as a token and \
as the credential of a client. An accepted token \
is checked against every protected route. A refusal comes with the smallest change of the configuration that would accept the \
token, and what else that change would open. Without --from the address of the caller is unknown, and `allow_from` and `deny_from` \
refuse it.";

#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    #[command(flatten)]
    config: ConfigPath,
    /// The address of the caller, for `allow_from` and `deny_from` of routes and clients
    #[arg(long, value_name = "ADDRESS")]
    from: Option<IpAddr>,
    /// The header field that the token came in. Without it, that of the token's issuer
    #[arg(long, value_name = "NAME")]
    token_header: Option<HeaderName>,
    /// The form of the output: text for people, JSON for programs
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// The decisions of the gateway.
struct Inspection {
    /// About the token alone.
    verdict: Result<Verified, Refused>,
    /// The name of each protected route and its decision about an accepted token.
    routes: Vec<(String, Result<(), Refused>)>,
    /// How long a token past its `exp` is still accepted, because clocks may differ.
    grace: Option<Grace>,
    /// For a token of an issuer that an entry of `federation` names.
    credential: Option<CredentialInspection>,
    /// The answer of its issuer about an opaque token.
    answer: Option<Map<String, Value>>,
    /// The issuer of a refused token, if its tokens are credentials of clients only.
    federated: Option<IssuerName>,
}

struct Refused {
    refusal: Refusal,
    /// `None` if no change was looked for.
    suggestion: Option<Suggestion>,
}

#[derive(Clone, Copy)]
struct Grace {
    ends: UnixTime,
    clock_skew_s: u64,
}

pub(super) fn inspect(args: &InspectArgs) -> ExitCode {
    let path = &args.config.config;
    let config = match config::load_part(path, Needs::TOKENS, &Surroundings::process()) {
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
    let field = args.token_header.clone();
    let request = TokenRequest { token, field, from: args.from, now: clock::now(), answer: None };
    let inspection = match runtime.block_on(inspect_token(path, config, request)) {
        Ok(inspection) => inspection,
        Err(error) => return failed(&error),
    };
    match args.format {
        Format::Text => print_text(token, &inspection),
        Format::Json => print_json(token, &inspection),
    }
    let is_credential = inspection.credential.as_ref().is_some_and(CredentialInspection::is_good);
    if inspection.verdict.is_ok() || is_credential { ExitCode::SUCCESS } else { ExitCode::from(FINDINGS) }
}

/// Uses the functions and the limits of a request.
async fn inspect_token(path: &Path, config: Config, mut request: TokenRequest<'_>) -> Result<Inspection, StartError> {
    let (snapshot, failures) = inspection::snapshot(config, request.now).await?;
    for failure in failures {
        note(format_args!("{} {}", styled(WARN, "warning:"), failure));
    }
    request.answer = Box::pin(snapshot.trust.answer_about(request.token)).await;
    let request = &request;
    let search = ChangeSearch::new(path, request, &snapshot);
    let explained = async |route, refusal: Refusal| {
        let suggestion = match &search {
            // Boxed to keep the future small.
            Some(search) => Box::pin(search.suggestion(route, &refusal)).await,
            None => None,
        };
        Refused { refusal, suggestion }
    };
    let credential = CredentialInspection::of(&snapshot, request.token, request.now).await;
    let verified = match request.verdict(&snapshot).await {
        Ok(verified) => verified,
        Err(refusal) => {
            let verdict = Err(Box::pin(explained(None, refusal)).await);
            let (answer, federated) = (request.answer.clone(), federated_issuer(&snapshot, request.token));
            return Ok(Inspection { verdict, routes: Vec::new(), grace: None, credential, answer, federated });
        }
    };
    let mut routes = Vec::new();
    for (index, route) in snapshot.routes.routes().iter().enumerate() {
        match request.decision(&snapshot, route).await {
            None => {}
            Some(Ok(())) => routes.push((route.name.clone(), Ok(()))),
            Some(Err(refusal)) => {
                routes.push((route.name.clone(), Err(Box::pin(explained(Some(index), refusal)).await)))
            }
        }
    }
    let grace = grace(&verified, request.now);
    let answer = request.answer.clone();
    Ok(Inspection { verdict: Ok(verified), routes, grace, credential, answer, federated: None })
}

/// The issuer of the token, if its tokens are credentials of clients only.
fn federated_issuer(snapshot: &Snapshot, token: &str) -> Option<IssuerName> {
    let Some(ClaimedIssuer::Configured(name)) = snapshot.trust.claimed_by(token)?.issuer else { return None };
    let mut settings = snapshot.trust.issuers().iter().map(|issuer| &issuer.settings);
    settings.find(|settings| settings.name == name && !settings.authenticates_requests()).map(|_| name)
}

fn grace(verified: &Verified, now: UnixTime) -> Option<Grace> {
    let token = verified.token()?;
    let clock_skew = token.issuer.settings.clock_skew;
    let expires_at = UnixTime::from_seconds(token.claims.expires_at);
    (expires_at <= now).then(|| Grace { ends: expires_at.plus(clock_skew), clock_skew_s: clock_skew.as_secs() })
}

fn print_text(token: &str, inspection: &Inspection) {
    let parts = parts(token, inspection.answer.as_ref());
    for (name, part) in &parts {
        out(format_args!("{}\n{part:#}", styled(BOLD, name)));
    }
    times(&parts).into_iter().for_each(|(name, time)| out(format_args!("  {name}  {}", styled(DIM, time))));
    if let (Some(issuer), Some(credential)) = (&inspection.federated, &inspection.credential) {
        credential.print_text();
        let text =
            format!("tokens of issuer `{}`, which has no `audiences`, never authenticate a request", issuer.as_str());
        return out(format_args!("\n{}  {text}", styled(BOLD, "for federation only")));
    }
    print_decisions(inspection);
    inspection.credential.as_ref().into_iter().for_each(CredentialInspection::print_text);
}

fn print_decisions(inspection: &Inspection) {
    let verified = match &inspection.verdict {
        Ok(verified) => verified,
        Err(Refused { refusal, suggestion }) => {
            let text = shown(&refusal.text);
            out(format_args!("\n{}  {}: {text}", styled(WARN, "refused"), refusal.reason));
            return print_suggestion("  ", suggestion.as_ref());
        }
    };
    let client = verified.caller.client.as_ref().map_or("(none)", |client| client.as_str());
    let scope = &verified.caller.scope;
    let scope = if scope.is_empty() { "(none)".to_owned() } else { scope.to_string() };
    let issuer = verified.caller.issuer.as_str();
    out(format_args!("\n{}  issuer {issuer}, client {client}, scope {scope}", styled(GOOD, "good")));
    if let Some(Grace { ends, clock_skew_s }) = inspection.grace {
        let text = format!("its `exp` is past; accepted until {ends}, as clocks may differ by {clock_skew_s}s");
        out(format_args!("  {}", styled(WARN, text)));
    }
    for (key, proof) in proofs_of(verified.confirmation()) {
        out(format_args!("  {}", styled(WARN, format_args!("bound to {}: {proof}", shown(&key)))));
    }
    for (route, decision) in &inspection.routes {
        match decision {
            Ok(()) => out(format_args!("  {}  {}", styled(NAME, route), styled(GOOD, "allowed"))),
            Err(Refused { refusal, suggestion }) => {
                let Refusal { status, reason, text, .. } = refusal;
                let decision = format!("{status} {reason}: {}", shown(text));
                out(format_args!("  {}  {}", styled(NAME, route), styled(DIM, decision)));
                print_suggestion("    ", suggestion.as_ref());
            }
        }
    }
}

/// Each key that the token is bound to, and the proof of it that every request needs.
fn proofs_of(confirmation: Confirmation) -> impl Iterator<Item = (String, &'static str)> {
    let named = |kind: &str, thumbprint: Thumbprint| format!("the {kind} {}", thumbprint.to_base64url());
    let key = confirmation.key.map(|key| {
        (named("key", key), "every request needs a DPoP proof of it; the decisions below are for requests with one")
    });
    let certificate = confirmation.certificate.map(|certificate| {
        let proof = "every request needs a connection with it; the decisions below are for requests with one";
        (named("certificate", certificate), proof)
    });
    key.into_iter().chain(certificate)
}

fn print_suggestion(indent: &str, suggestion: Option<&Suggestion>) {
    match suggestion {
        None => {}
        Some(Suggestion::None(why)) => out(format_args!("{indent}{}  {why}", styled(BOLD, "no change"))),
        Some(Suggestion::Changes(changes)) => {
            for change in changes {
                for (heading, text) in [("change", &change.text), ("opens", &change.opens)] {
                    let mut lines = text.lines().map(shown);
                    let first = lines.next().unwrap_or_default();
                    out(format_args!("{indent}{}  {first}", styled(BOLD, heading)));
                    lines.for_each(|line| out(format_args!("{indent}        {line}")));
                }
            }
        }
    }
}

fn print_json(token: &str, inspection: &Inspection) {
    let mut printed: Value = parts(token, inspection.answer.as_ref()).into_iter().collect();
    match &inspection.verdict {
        Ok(verified) => {
            printed["good"] = json!(true);
            let Confirmation { key, certificate } = verified.confirmation();
            if key.is_some() || certificate.is_some() {
                let text = |thumbprint: Option<Thumbprint>| thumbprint.map(Thumbprint::to_base64url);
                printed["bound"] = json!({ "key": text(key), "certificate": text(certificate) });
            }
            let decision = |decision: &Result<(), Refused>| match decision {
                Ok(()) => json!({ "allowed": true }),
                Err(refused) => {
                    let mut printed = json!({ "allowed": false, "status": refused.refusal.status });
                    refused.add_to(&mut printed);
                    printed
                }
            };
            let routes = inspection.routes.iter();
            printed["routes"] = routes.map(|(route, made)| (route.clone(), decision(made))).collect();
            if let Some(Grace { ends, .. }) = inspection.grace {
                printed["expired"] = json!(true);
                printed["accepted_until"] = json!(ends.to_the_second());
            }
        }
        Err(refused) => {
            printed["good"] = json!(false);
            refused.add_to(&mut printed);
        }
    }
    if let Some(credential) = &inspection.credential {
        printed["credential"] = credential.as_json();
    }
    out(printed);
}

impl Refused {
    fn add_to(&self, printed: &mut Value) {
        printed["reason"] = json!(self.refusal.reason);
        printed["why"] = json!(self.refusal.text);
        if let Some(values) = &self.refusal.values {
            printed["found"] = json!(values.found);
            printed["wanted"] = json!(values.wanted);
        }
        match &self.suggestion {
            None => {}
            Some(Suggestion::None(why)) => {
                (printed["change"], printed["opens"], printed["no_change"]) = (Value::Null, Value::Null, json!(why));
            }
            Some(Suggestion::Changes(changes)) => {
                let lines = |text: fn(&Change) -> &str| changes.iter().map(text).collect::<Vec<_>>().join("\n");
                printed["change"] = json!(lines(|change| &change.text));
                printed["opens"] = json!(lines(|change| &change.opens));
            }
        }
    }
}

/// Header and claims as far as they can be decoded, verified or not. The claims of an opaque token are its issuer's
/// answer.
fn parts(token: &str, answer: Option<&Map<String, Value>>) -> Vec<(String, Value)> {
    if let Some(answer) = answer {
        return vec![("claims".to_owned(), Value::Object(answer.clone()))];
    }
    let decoded = token.split('.').take(2).map(|part| {
        let bytes = BASE64URL.decode(part).ok();
        bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_else(|| json!("(not base64url of JSON)"))
    });
    ["header", "claims"].map(str::to_owned).into_iter().zip(decoded).collect()
}

/// The claims that are times, readable.
fn times(parts: &[(String, Value)]) -> Vec<(&'static str, UnixTime)> {
    let claims = parts.iter().find(|(name, _)| name == "claims").map(|(_, claims)| claims);
    let claims = claims.unwrap_or(&Value::Null);
    let time = |name: &'static str| {
        let date = NumericDate::parse(&claims[name].to_string())?;
        Some((name, UnixTime::from_seconds(date.rounded_down())))
    };
    ["iat", "nbf", "exp"].into_iter().filter_map(time).collect()
}
