//! `portcullis explain METHOD URL`: the way of a request through the gateway, check by check, and its end.
//!
//! The request is decided by the gateway's own functions, in a gateway that opens no connection: see
//! [`crate::app::rehearsal`].

mod asked;
mod caller;
mod json;
mod past;
mod past_output;
mod recorded;
mod request;
mod text;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::ExitCode;

use asked::{AskedRequest, ExplainedWay};
use clap::Args;

use self::caller::{CallerFault, ExplainedCaller};
use self::request::ExplainedUrl;
use super::inspect::credential::CredentialInspection;
use super::terminal::{bad_config, error_text, failed, note};
use super::{ConfigPath, FINDINGS, Format};
use crate::app::rehearsal::walk::{Walk, WalkEnd};
use crate::config;
use crate::config::interpolate::Surroundings;
use crate::config::needs::Needs;

pub(super) const HELP: &str = "\
Examples:
  portcullis explain GET /orders/7 --client billing
  portcullis explain POST /orders --issuer corp --claims claims.json --from 192.0.2.7
  printf %s \"$TOKEN\" | portcullis explain GET /orders/7 --token-file -
  portcullis explain --request-id 5f0c…

Opens no connection but to the database of signing keys and clients, and counts no limit. Exit code 0 if the request is let through or answered, 1 if it is refused. A token is \
checked with the keys of the gateway, on this machine or in its database, and with other keys on this machine: those of `jwks` and `jwks_file`, and those that a gateway has kept in \
`state_directory`. Without them its signature is not checked, and the output says so.";

#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    #[command(flatten)]
    config: ConfigPath,
    /// The method, such as GET
    #[arg(required_unless_present = "request_id")]
    method: Option<String>,
    /// A URL, or a path with its query. A path is of https://localhost
    #[arg(required_unless_present = "request_id")]
    url: Option<String>,
    #[command(flatten)]
    past: PastArgs,
    /// A header field of the request; may be repeated
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE")]
    fields: Vec<String>,
    /// The address that the request comes from
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    from: IpAddr,
    /// The request comes in clear text, if the URL does not say by which scheme
    #[arg(long)]
    http: bool,
    #[command(flatten)]
    caller: CallerArgs,
    /// The form of the output: text for people, JSON for programs
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// A past request instead of a method and a URL.
#[derive(Debug, Args)]
struct PastArgs {
    /// Explain a past decision from the audit log: the X-Request-Id of its answer
    #[arg(long, value_name = "ID", conflicts_with_all = ["method", "fields", "from", "http", "CallerArgs"])]
    request_id: Option<String>,
    /// The files of the audit log; by default those of the configuration, with rotated files
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "request_id")]
    audit: Vec<PathBuf>,
    /// The host that the past request named, if its line does not have it
    #[arg(long, value_name = "HOST", requires = "request_id")]
    host: Option<String>,
}

#[derive(Debug, Args)]
struct CallerArgs {
    /// The caller is this client of `oauth.clients` or of the database, with a token of ours
    #[arg(long, value_name = "ID", conflicts_with_all = ["issuer", "token_file"])]
    client: Option<String>,
    /// The scopes of the client's token. Without it, all of the client
    #[arg(long, value_name = "SCOPES", requires = "client")]
    scopes: Option<String>,
    /// The caller has a token of this external issuer, with the claims of --claims
    #[arg(long, value_name = "NAME", conflicts_with = "token_file")]
    issuer: Option<String>,
    /// The claims of the token, as JSON. `iss`, `aud`, `iat` and `exp` are added; `null` leaves one out
    #[arg(long, value_name = "FILE", requires = "issuer")]
    claims: Option<PathBuf>,
    /// The caller has this static token of `static_tokens`
    #[arg(long, value_name = "NAME", conflicts_with_all = ["client", "issuer", "token_file"])]
    static_token: Option<String>,
    /// A file with the caller's token; `-` is standard input
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// A request, and its way.
struct Explanation {
    method: String,
    url: ExplainedUrl,
    from: IpAddr,
    caller: String,
    /// Facts that could not be read, checks that were left out for it, and proofs that are assumed.
    remarks: Vec<String>,
    walk: Walk,
    /// The decision of the token endpoint about a real token of a federated issuer.
    credential: Option<CredentialInspection>,
}

#[derive(Debug, thiserror::Error)]
enum ExplainError {
    #[error("cannot explain the request: {0}")]
    Url(#[from] request::InvalidUrl),
    #[error("a header field is written `NAME: VALUE`")]
    Field,
    #[error(
        "`Authorization` is never an argument, because other users see the arguments of a process: give a token by \
         --token-file"
    )]
    Token,
    #[error(transparent)]
    Caller(#[from] CallerFault),
    #[error("cannot explain the request")]
    Rehearsal(#[from] crate::app::rehearsal::RehearsalError),
}

pub(super) fn explain(args: &ExplainArgs) -> ExitCode {
    if let Some(id) = &args.past.request_id {
        let PastArgs { audit, host, .. } = &args.past;
        let request = past::PastRequest { id, files: audit, config: &args.config, host: host.as_deref() };
        return explain_past(&request, args.format);
    }
    let config = match config::load_part(&args.config.config, Needs::TOKENS, &Surroundings::process()) {
        Ok(config) => config,
        Err(errors) => return bad_config(&errors),
    };
    let explained = match Explanation::new(args, &config) {
        Ok(explained) => explained,
        Err(ExplainError::Caller(CallerFault::Stdin(code))) => return code,
        Err(error @ (ExplainError::Url(_) | ExplainError::Field | ExplainError::Token)) => return error_text(error),
        Err(error @ (ExplainError::Caller(_) | ExplainError::Rehearsal(_))) => return failed(&error),
    };
    explained.remarks.iter().for_each(note);
    match args.format {
        Format::Text => text::print(&explained),
        Format::Json => json::print(&explained),
    }
    if explained.is_refused() { ExitCode::from(FINDINGS) } else { ExitCode::SUCCESS }
}

fn explain_past(request: &past::PastRequest<'_>, format: Format) -> ExitCode {
    let explained = match past::explain(request) {
        Ok(explained) => explained,
        Err(code) => return code,
    };
    explained.remarks.iter().for_each(note);
    match format {
        Format::Text => past_output::print(&explained),
        Format::Json => past_output::print_json(&explained),
    }
    if explained.decision.is_refused() { ExitCode::from(FINDINGS) } else { ExitCode::SUCCESS }
}

impl Explanation {
    fn new(args: &ExplainArgs, config: &config::types::Config) -> Result<Self, ExplainError> {
        // The command line has both, unless a past request is explained.
        let (method, url) = (args.method.clone().unwrap_or_default(), args.url.as_deref().unwrap_or_default());
        let url = ExplainedUrl::parse(url, args.http)?;
        let fields = given_fields(&args.fields)?;
        let CallerArgs { client, scopes, issuer, claims, static_token, token_file } = &args.caller;
        let caller = match (client, issuer, static_token, token_file) {
            (Some(id), ..) => ExplainedCaller::Client { id, scopes: scopes.as_deref() },
            (None, Some(name), ..) => ExplainedCaller::Issuer { name, claims: claims.as_deref() },
            (None, None, Some(name), _) => ExplainedCaller::Static { name },
            (None, None, None, Some(file)) => ExplainedCaller::Token { file },
            (None, None, None, None) => ExplainedCaller::None,
        };
        let credentials = caller.credentials(config)?;
        let asked = AskedRequest { method: &method, url: &url, from: args.from, fields };
        let ExplainedWay { walk, remarks, credential } = asked.explained(config, credentials)?;
        let caller = caller.to_string();
        Ok(Self { method, from: args.from, url, caller, remarks, walk, credential })
    }

    fn is_refused(&self) -> bool {
        matches!(self.walk.end, WalkEnd::Refused { .. })
    }
}

/// The fields of `-H`. None of them may be the caller's credentials, whatever their scheme.
fn given_fields(written: &[String]) -> Result<Vec<(String, String)>, ExplainError> {
    let given = |field: &String| {
        let (name, value) = field.split_once(':').ok_or(ExplainError::Field)?;
        if name.trim().eq_ignore_ascii_case("authorization") {
            return Err(ExplainError::Token);
        }
        Ok((name.to_owned(), value.trim().to_owned()))
    };
    written.iter().map(given).collect()
}
