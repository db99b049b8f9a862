//! `portcullis client`: makes clients and hashes their secrets.

use std::io::Read as _;
use std::process::ExitCode;

use argon2::Argon2;
use argon2::password_hash::PasswordHasher as _;
use aws_lc_rs::rand;
use base64::Engine as _;
use clap::Subcommand;
use zeroize::Zeroizing;

use super::terminal::{DIM, failed, note, out, styled};
use super::{USAGE, rotate};
use crate::issuer::client::parse_id;
use crate::issuer::secret::{ClientSecret, SecretHash};
use crate::jose::BASE64URL;
use crate::oauth::scope::Scope;

#[derive(Debug, Subcommand)]
pub(super) enum ClientVerb {
    /// Make a client: prints its secret, once, and the YAML to paste under `oauth.clients`
    #[command(after_help = NEW_EXAMPLE)]
    New {
        /// The client id
        id: String,
        /// All that it may ask for, separated by commas
        #[arg(long, required = true, value_delimiter = ',', value_name = "SCOPE,…")]
        scopes: Vec<String>,
    },
    /// Replace a client's secret: prints a new one, once, and the YAML to change; changes nothing itself
    #[command(after_help = rotate::EXAMPLE)]
    Rotate(rotate::RotateArgs),
    /// Hash a secret read from standard input, for `secrets: [{hash: …}]`
    #[command(after_help = HASH_EXAMPLE)]
    Hash,
}

const NEW_EXAMPLE: &str = "\
Example:
  portcullis client new billing --scopes invoices:read,invoices:write

The secret is 256 random bits; the configuration keeps its SHA-256 only. To replace the secret of a client without \
downtime, see `portcullis client rotate`.";

const HASH_EXAMPLE: &str = "\
Example:
  printf %s \"$SECRET\" | portcullis client hash

A secret that `client new` made gets SHA-256; any other gets argon2id, which makes guessing it slow.";

/// Tells a secret that leaked into a log or a repository.
const PREFIX: &str = "gw_";
const SECRET_BYTES: usize = 32;
const MIN_SECRET_BYTES: usize = 16;
const MAX_SECRET_BYTES: u64 = 4096;

pub(super) fn client(verb: ClientVerb) -> ExitCode {
    match verb {
        ClientVerb::New { id, scopes } => new(&id, &scopes),
        ClientVerb::Rotate(args) => rotate::rotate(&args),
        ClientVerb::Hash => hash(),
    }
}

fn new(id: &str, scopes: &[String]) -> ExitCode {
    let fault = parse_id(id).err().map(|fault| fault.to_string());
    let fault =
        fault.or_else(|| scopes.iter().find_map(|scope| Some(format!("`{scope}`: {}", Scope::parse(scope).err()?))));
    if let Some(fault) = fault {
        note(fault);
        return ExitCode::from(USAGE);
    }
    let secret = match generate() {
        Ok(secret) => secret,
        Err(error) => return failed(&error),
    };
    let hash = SecretHash::of(&secret).to_config();
    note(styled(DIM, "The secret, shown this once. Hand it to the client, keep it nowhere else:"));
    out(secret.expose());
    note(styled(DIM, "\nUnder oauth.clients in gateway.yaml:"));
    out(yaml(id, scopes, &hash));
    ExitCode::SUCCESS
}

/// 256 random bits.
pub(super) fn generate() -> Result<ClientSecret, aws_lc_rs::error::Unspecified> {
    let mut bytes = Zeroizing::new([0; SECRET_BYTES]);
    rand::fill(&mut *bytes)?;
    Ok(ClientSecret::new(format!("{PREFIX}{}", BASE64URL.encode(*bytes))))
}

/// Text in quotation marks, which JSON and YAML share.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn yaml(id: &str, scopes: &[String], hash: &str) -> String {
    let scopes: Vec<String> = scopes.iter().map(|scope| quoted(scope)).collect();
    format!("    {}:\n      secrets: [{{hash: {}}}]\n      scopes: [{}]", quoted(id), quoted(hash), scopes.join(", "))
}

fn hash() -> ExitCode {
    let mut text = Zeroizing::new(String::new());
    if let Err(error) = std::io::stdin().take(MAX_SECRET_BYTES).read_to_string(&mut text) {
        return failed(&error);
    }
    let secret = text.strip_suffix('\n').unwrap_or(&text);
    if secret.len() < MIN_SECRET_BYTES {
        note(format_args!(
            "a secret has at least {MIN_SECRET_BYTES} characters; `portcullis client new` makes a good one"
        ));
        return ExitCode::from(USAGE);
    }
    if is_generated(secret) {
        note(styled(DIM, "Made by `portcullis client new`: for 256 random bits SHA-256 is enough."));
        out(SecretHash::of(&ClientSecret::new(secret.to_owned())).to_config());
        return ExitCode::SUCCESS;
    }
    match argon2id(secret) {
        Some(hash) => {
            note(styled(
                DIM,
                "Not made by `portcullis client new`, so argon2id: each check takes 19 MiB and some 20 ms.",
            ));
            out(hash);
            ExitCode::SUCCESS
        }
        None => {
            note("the secret can't be hashed");
            ExitCode::from(USAGE)
        }
    }
}

fn is_generated(secret: &str) -> bool {
    let bytes = secret.strip_prefix(PREFIX).and_then(|encoded| BASE64URL.decode(encoded).ok());
    bytes.is_some_and(|bytes| bytes.len() == SECRET_BYTES)
}

fn argon2id(secret: &str) -> Option<String> {
    let mut salt = [0; 16];
    rand::fill(&mut salt).ok()?;
    let hash = Argon2::default().hash_password_with_salt(secret.as_bytes(), &salt).ok()?;
    Some(hash.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_secret_is_told_from_one_thought_up() {
        assert!(is_generated(generate().unwrap().expose()));
        for other in ["correct horse battery staple", "gw_short", "gw_"] {
            assert!(!is_generated(other), "{other}");
        }
    }

    #[test]
    fn the_default_cost_of_argon2id_is_one_that_configuration_takes() {
        let hash = argon2id("correct horse battery").unwrap();
        let secret = ClientSecret::new("correct horse battery".to_owned());
        assert!(SecretHash::parse(&hash).unwrap().matches(&secret));
    }
}
