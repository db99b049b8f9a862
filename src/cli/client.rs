//! `portcullis client`: creates clients and hashes their secrets.

use std::io::Read as _;
use std::process::ExitCode;

use argon2::Argon2;
use argon2::password_hash::PasswordHasher as _;
use aws_lc_rs::rand;
use clap::Subcommand;
use zeroize::Zeroizing;

use super::client_secret::is_generated;
use super::client_store::StoredClientArgs;
use super::client_store::list::{ListArgs, list};
use super::new_client::{NewClientArgs, new};
use super::static_token::{StaticTokenArgs, print_entry};
use super::terminal::{DIM, failed, note, out, styled};
use super::{USAGE, client_store, new_client, rotate};
use crate::issuer::client_auth::secret::hash::{ClientSecret, SecretHash};

#[derive(Debug, Subcommand)]
pub(super) enum ClientVerb {
    /// Create a client with a secret or a key: prints the secret, once, and the YAML to paste under `oauth.clients`, or
    /// writes the client to the database
    #[command(after_help = new_client::EXAMPLE)]
    New(NewClientArgs),
    /// Replace a client's secret: prints a new one, once, and the YAML to change, or writes it to the database
    #[command(after_help = rotate::EXAMPLE)]
    Rotate(rotate::RotateArgs),
    /// Disable a client of the database, and refuse its tokens
    Disable(StoredClientArgs),
    /// Serve a disabled client of the database again
    Enable(StoredClientArgs),
    /// Delete a client of the database, and refuse its tokens
    Delete(StoredClientArgs),
    /// List the clients of the database
    #[command(after_help = client_store::list::EXAMPLE)]
    List(ListArgs),
    /// Hash a secret read from standard input, for `secrets: [{hash: …}]`, or a hand-made token, for `static_tokens`
    #[command(after_help = HASH_EXAMPLE)]
    Hash(StaticTokenArgs),
}

const HASH_EXAMPLE: &str = "\
Example:
  printf %s \"$SECRET\" | portcullis client hash
  printf %s \"$OLD_TOKEN\" | portcullis client hash --static-token reports --scopes reports:read --until 90d

A secret that `client new` made gets SHA-256; any other gets argon2id, which makes guessing it slow. A \
static token has at least 20 characters and always gets SHA-256, because it is checked at every request.";

const MIN_SECRET_BYTES: usize = 16;
const MAX_SECRET_BYTES: u64 = 4096;

pub(super) fn client(verb: ClientVerb) -> ExitCode {
    match verb {
        ClientVerb::New(args) => new(&args),
        ClientVerb::Rotate(args) => rotate::rotate(&args),
        ClientVerb::Disable(args) => client_store::set_disabled(&args, true),
        ClientVerb::Enable(args) => client_store::set_disabled(&args, false),
        ClientVerb::Delete(args) => client_store::delete(&args),
        ClientVerb::List(args) => list(&args),
        ClientVerb::Hash(args) => hash(&args),
    }
}

fn hash(args: &StaticTokenArgs) -> ExitCode {
    let mut text = Zeroizing::new(String::new());
    if let Err(error) = std::io::stdin().take(MAX_SECRET_BYTES + 1).read_to_string(&mut text) {
        return failed(&error);
    }
    if text.len() as u64 > MAX_SECRET_BYTES {
        note(format_args!("the text has more than {MAX_SECRET_BYTES} bytes"));
        return ExitCode::from(USAGE);
    }
    let secret = text.strip_suffix('\n').unwrap_or(&text);
    if let Some(name) = args.name() {
        return print_entry(name, args, secret);
    }
    if secret.len() < MIN_SECRET_BYTES {
        note(format_args!("a secret has at least {MIN_SECRET_BYTES} characters; `portcullis client new` creates one"));
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
            note("cannot hash the secret");
            ExitCode::from(USAGE)
        }
    }
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
    fn the_default_cost_of_argon2id_is_one_that_configuration_takes() {
        let hash = argon2id("correct horse battery").unwrap();
        let secret = ClientSecret::new("correct horse battery".to_owned());
        assert!(SecretHash::parse(&hash).unwrap().matches(&secret));
    }
}
