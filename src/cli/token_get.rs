//! `portcullis token get`: gets an access token from a token endpoint, by any method of client authentication.
//!
//! Secrets come from files, standard input or the environment, never from arguments: others can read those.

mod answer;
mod credential;
mod exchange;
mod place;
mod tls_identity;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgGroup, Args, ValueEnum};
use url::Url;

use super::Format;
use super::terminal::{error_text, failed};
use crate::clock;
use crate::jose::client_proofs::{ProvenRequest, dpop_proof};
use crate::jose::signing::SigningKey;
use answer::{Printed, ProvenUse, SentProofs, print_answer};
use credential::ClientProof;
use exchange::{EndpointAnswer, TokenExchange, TokenForm};
use place::TokenPlace;

pub(super) const HELP: &str = "\
Examples:
  portcullis token get --issuer https://gateway.example.com --client billing --key billing.key.pem
  TOKEN=$(portcullis token get --config gateway.yaml --client billing --secret-file secret.txt --scope invoices:read)
  portcullis token get --issuer https://gateway.example.com --assertion-file /var/run/secrets/gateway/token
  portcullis token get --issuer https://gateway.example.com --client billing --cert billing.crt --cert-key billing.key
  portcullis token get … --dpop-key dpop.pem --header --dpop-for GET https://api.example.com/invoices | curl -H @- …

Prints the token alone, or with --format json the whole answer. Without a credential option, the secret is read from \
PORTCULLIS_CLIENT_SECRET. Exit code 1 if the token endpoint refuses the request, 2 if there is no answer.";

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("place").required(true).multiple(true))]
#[command(group = ArgGroup::new("way"))]
pub(super) struct TokenGetArgs {
    /// The issuer, whose metadata has the token endpoint
    #[arg(long, value_name = "URL", group = "place")]
    issuer: Option<String>,
    /// The token endpoint. With it, no metadata is fetched
    #[arg(long, value_name = "URL", group = "place")]
    url: Option<Url>,
    /// Take issuer and token endpoint from this configuration
    #[arg(long, short, value_name = "FILE", group = "place", conflicts_with_all = ["issuer", "url"])]
    config: Option<PathBuf>,
    /// The client id
    #[arg(long, value_name = "ID", required_unless_present = "assertion_file", allow_hyphen_values = true)]
    client: Option<String>,
    /// The file with the client's secret; `-` is standard input
    #[arg(long, value_name = "FILE", group = "way")]
    secret_file: Option<PathBuf>,
    /// The client's private key, for private_key_jwt: PEM or JWK
    #[arg(long, value_name = "FILE", group = "way")]
    key: Option<PathBuf>,
    /// The file with a platform token; `-` is standard input
    #[arg(long, value_name = "FILE", group = "way")]
    assertion_file: Option<PathBuf>,
    /// How the platform token is presented: as the client's credential, or as the grant
    #[arg(long, value_enum, default_value = "client-credentials", requires = "assertion_file")]
    grant: GrantWay,
    /// The platform token is a JWT-SVID of SPIFFE
    #[arg(long, requires = "assertion_file")]
    spiffe: bool,
    /// The client's certificate, for tls_client_auth: PEM, with its chain
    #[arg(long, value_name = "FILE", group = "way", requires = "cert_key")]
    cert: Option<PathBuf>,
    /// The private key of the certificate: PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    cert_key: Option<PathBuf>,
    /// Bind the token to this private key by a DPoP proof: PEM or JWK
    #[arg(long, value_name = "FILE")]
    dpop_key: Option<PathBuf>,
    /// The scopes, separated by commas or spaces; without it, all that the client may have
    #[arg(long, value_delimiter = ',', value_name = "SCOPE,…")]
    scope: Vec<String>,
    /// An audience of the token
    #[arg(long, value_name = "AUDIENCE")]
    audience: Vec<String>,
    /// The URL of a resource that the token is for (RFC 8707)
    #[arg(long, value_name = "URL")]
    resource: Vec<String>,
    /// Trust only these CA certificates (PEM), instead of the system's
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Print header fields for `curl -H @-` instead of the token
    #[arg(long, conflicts_with = "format")]
    header: bool,
    /// With --header: add a DPoP proof for a request of this method to this URL
    #[arg(long, num_args = 2, value_names = ["METHOD", "URL"], requires_all = ["header", "dpop_key"])]
    dpop_for: Vec<String>,
    /// The form of the output: text for people, JSON for programs
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum GrantWay {
    ClientCredentials,
    JwtBearer,
}

pub(super) fn get(args: &TokenGetArgs) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    runtime.block_on(fetch_and_print(args)).unwrap_or_else(|code| code)
}

async fn fetch_and_print(args: &TokenGetArgs) -> Result<ExitCode, ExitCode> {
    let proven = ProvenUse::of(&args.dpop_for)?;
    let proof = ClientProof::read(args)?;
    let dpop = args.dpop_key.as_deref().map(credential::read_key).transpose()?;
    let exchange = TokenExchange::new(args.ca.as_deref(), proof.tls_identity())?;
    let place = TokenPlace::find(args, &exchange).await?;
    let answer = ask(args, (&proof, dpop.as_ref()), &exchange, &place).await?;
    let printed = match (args.header, args.format) {
        (true, _) => Printed::Headers { proven: dpop.as_ref().zip(proven.as_ref()) },
        (false, Format::Json) => Printed::Json,
        (false, Format::Text) => Printed::Token,
    };
    let sent = SentProofs { platform_token: args.assertion_file.is_some(), dpop: dpop.is_some() };
    print_answer(&answer, &place.token_endpoint, &printed, sent)
}

/// Asks again once if the endpoint wants its nonce in the proof (RFC 9449 §8). Every request has new proofs. The
/// answer has the last nonce.
async fn ask(
    args: &TokenGetArgs,
    (proof, dpop): (&ClientProof, Option<&SigningKey>),
    exchange: &TokenExchange,
    place: &TokenPlace,
) -> Result<EndpointAnswer, ExitCode> {
    let answer = exchange.post(&place.token_endpoint, &form(args, proof, dpop, place, None)?).await?;
    match (&answer.dpop_nonce, dpop) {
        (Some(nonce), Some(_)) if answer.error() == Some("use_dpop_nonce") => {
            let form = form(args, proof, dpop, place, Some(nonce))?;
            let last = exchange.post(&place.token_endpoint, &form).await?;
            Ok(EndpointAnswer { dpop_nonce: last.dpop_nonce.or(answer.dpop_nonce), ..last })
        }
        _ => Ok(answer),
    }
}

fn form(
    args: &TokenGetArgs,
    proof: &ClientProof,
    dpop: Option<&SigningKey>,
    place: &TokenPlace,
    nonce: Option<&str>,
) -> Result<TokenForm, ExitCode> {
    let mut form = proof.form(args.client.as_deref(), &place.audience)?;
    if !args.scope.is_empty() {
        form.add("scope", &args.scope.join(" "));
    }
    args.audience.iter().for_each(|audience| form.add("audience", audience));
    args.resource.iter().for_each(|resource| form.add("resource", resource));
    if let Some(key) = dpop {
        let request = ProvenRequest { method: "POST", url: place.token_endpoint.as_str(), nonce, access_token: None };
        form.dpop = Some(dpop_proof(key, &request, clock::now()).map_err(|error| failed(&error))?);
    }
    Ok(form)
}

/// The content of a file.
fn read(path: &std::path::Path) -> Result<Vec<u8>, ExitCode> {
    std::fs::read(path).map_err(|error| error_text(format_args!("cannot read {}: {error}", path.display())))
}
