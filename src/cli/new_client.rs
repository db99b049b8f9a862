//! `portcullis client new`: a client with a secret, or with a key that never leaves it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::client_entry::{Given, print_entry};
use super::client_key::{made_key, public_key};
use super::client_secret::{generate, quoted};
use super::terminal::{DIM, error_text, failed, note, out, styled};
use super::{ConfigPath, Format, client_store};
use crate::issuer::client::parse_id;
use crate::issuer::client_auth::secret::hash::SecretHash;
use crate::jose::algorithm::Algorithm;
use crate::oauth::scope::Scope;

#[derive(Debug, Args)]
pub(super) struct NewClientArgs {
    /// The client id
    pub(super) id: String,
    /// The scopes that it may request, separated by commas
    #[arg(long, required_unless_present = "entry", value_delimiter = ',', value_name = "SCOPE,…")]
    pub(super) scopes: Vec<String>,
    /// Make a key pair instead of a secret, by default for ES256
    #[arg(long, value_name = "ALGORITHM", num_args = 0..=1, default_missing_value = "ES256", value_parser = algorithm,
        conflicts_with = "public")]
    pub(super) key: Option<Algorithm>,
    /// The file for the private key, which must not exist yet. Without it: ID.key.pem in this folder
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(super) out: Option<PathBuf>,
    /// Take the public key of this file (PEM of a key or certificate, JWK) instead of a secret, and make nothing
    #[arg(long, value_name = "FILE")]
    pub(super) public: Option<PathBuf>,
    /// The issuer, for the commands that are printed with a key. Without it, an example; with --store, `oauth.issuer`
    #[arg(long, value_name = "URL")]
    pub(super) issuer: Option<String>,
    /// Write the client to the database of `oauth.clients_in`: the running gateways serve it without a reload
    #[arg(long)]
    pub(super) store: bool,
    /// A JSON file with further keys of the entry, such as `audiences`, `claims` and `federation`; `-` is stdin
    #[arg(long, value_name = "FILE", requires = "store")]
    pub(super) entry: Option<PathBuf>,
    #[command(flatten)]
    pub(super) config: ConfigPath,
    /// The form of the output with --store: text for people, JSON for programs
    #[arg(long, value_enum, default_value = "text")]
    pub(super) format: Format,
}

pub(super) const EXAMPLE: &str = "\
Examples:
  portcullis client new billing --scopes invoices:read,invoices:write
  portcullis client new billing --scopes invoices:read --key
  portcullis client new billing --scopes invoices:read --public billing.crt
  portcullis client new billing --scopes invoices:read --store

The secret is 256 random bits; the configuration keeps its SHA-256 only. To replace the secret of a client without \
downtime, see `portcullis client rotate`. With --key the private key is written to a file for its owner alone, and the \
configuration gets the public key. Algorithms: ES256, RS256, EdDSA.";

fn algorithm(name: &str) -> Result<Algorithm, String> {
    let offered = [Algorithm::Es256, Algorithm::Rs256, Algorithm::EdDsa];
    let found = offered.into_iter().find(|algorithm| algorithm.as_str().eq_ignore_ascii_case(name));
    found.ok_or_else(|| "expected ES256, RS256 or EdDSA".to_owned())
}

pub(super) fn new(args: &NewClientArgs) -> ExitCode {
    if let Some(fault) = fault(args) {
        return error_text(fault);
    }
    if args.store {
        return client_store::new_client::new(args);
    }
    match (args.key, &args.public) {
        (Some(algorithm), _) => made_key(&Given::of(args), algorithm, args.out.as_deref()),
        (None, Some(file)) => public_key(&Given::of(args), file),
        (None, None) => with_secret(args),
    }
}

fn fault(args: &NewClientArgs) -> Option<String> {
    let scope_fault = |scope: &String| {
        let quoted = if scope.is_empty() { "an empty scope".to_owned() } else { format!("`{}`", scope.escape_debug()) };
        Some(format!("{quoted}: {}", Scope::parse(scope).err()?))
    };
    parse_id(&args.id).err().map(|fault| fault.to_string()).or_else(|| args.scopes.iter().find_map(scope_fault))
}

fn with_secret(args: &NewClientArgs) -> ExitCode {
    let secret = match generate() {
        Ok(secret) => secret,
        Err(error) => return failed(&error),
    };
    let hash = SecretHash::of(&secret).to_config();
    note(styled(DIM, "The secret, shown only once. Give it to the client and store it nowhere else:"));
    out(secret.expose());
    print_entry(&Given::of(args), &format!("secrets: [{{hash: {}}}]", quoted(&hash)));
    ExitCode::SUCCESS
}

impl<'a> Given<'a> {
    pub(super) fn of(args: &'a NewClientArgs) -> Self {
        Self {
            id: &args.id,
            scopes: &args.scopes,
            issuer: args.issuer.as_deref().unwrap_or("https://gateway.example.com"),
        }
    }
}
