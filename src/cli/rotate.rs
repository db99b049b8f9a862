//! `portcullis client rotate`: prints a new secret for a client, and its list of secrets with an overlap.
//!
//! The file itself is not modified: a program would lose its comments and its order.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::client_key::in_shell;
use super::client_secret::{generate, quoted};
use super::terminal::{DIM, bad_config, error_text, failed, note, out, styled};
use super::{ConfigPath, Format, client_store};
use crate::clock::UnixTime;
use crate::config;
use crate::config::interpolate::Surroundings;
use crate::config::needs::Needs;
use crate::config::values::Period;
use crate::config::written::WrittenSecret;
use crate::issuer::client_auth::secret::hash::{ClientSecret, SecretHash};

#[derive(Debug, Args)]
pub(super) struct RotateArgs {
    /// The client id
    pub(super) id: String,
    /// How long the old secrets stay valid. `0s` ends them at once, as after a leak
    #[arg(long, value_name = "DURATION", default_value = "72h", value_parser = overlap)]
    pub(super) overlap: Duration,
    #[command(flatten)]
    pub(super) config: ConfigPath,
    /// Change the client in the database of `oauth.clients_in`: the running gateways take it without a reload
    #[arg(long)]
    store: bool,
    /// The form of the output: text for people, JSON for programs
    #[arg(long, value_enum, default_value = "text")]
    pub(super) format: Format,
}

pub(super) const EXAMPLE: &str = "\
Example:
  portcullis client rotate billing --overlap 72h
  portcullis client rotate billing --overlap 72h --store
  portcullis client rotate billing --overlap 0s --store    after a leak: the old secrets end at once

Prints a new secret, once, and the new `secrets:` of the client. The old secrets end after the overlap, or earlier if they \
did so before. The file itself is not modified, and no secret in it is shown.

To rotate: change the file, run `portcullis reload`, give the new secret to the client. The metric \
`portcullis_client_secret_last_used_timestamp_seconds` shows when the client uses it.";

pub(super) fn rotate(args: &RotateArgs) -> ExitCode {
    if args.store {
        return client_store::rotate::rotate(args);
    }
    let surroundings = Surroundings::process();
    if let Err(errors) = config::load_part(&args.config.config, Needs::OAUTH, &surroundings) {
        return bad_config(&errors);
    }
    let old = match config::read(&args.config.config, Needs::OAUTH, &surroundings).secrets_of(&args.id) {
        Ok(old) => old,
        Err(suggestion) => {
            return error_text(format_args!("unknown client `{}`{suggestion}", args.id.escape_debug()));
        }
    };
    let secret = match generate() {
        Ok(secret) => secret,
        Err(error) => return failed(&error),
    };
    let until = surroundings.now.plus(args.overlap);
    let old = if args.overlap.is_zero() { Vec::new() } else { old };
    let mut entries: Vec<SecretEntry> = old.into_iter().map(|secret| SecretEntry::old(secret, until)).collect();
    entries.push(SecretEntry::new(&secret));
    match args.format {
        Format::Text => print_text(args, &secret, until, &entries),
        Format::Json => out(json!({
            "client": args.id,
            "secret": secret.expose(),
            "old_secrets_expire_at": until.to_the_second(),
            "secrets": entries.iter().map(SecretEntry::json).collect::<Vec<_>>(),
            "yaml": yaml(&args.id, &entries),
        })),
    }
    ExitCode::SUCCESS
}

fn overlap(text: &str) -> Result<Duration, String> {
    let number = text.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let is_zero = !number.is_empty() && number.bytes().all(|digit| digit == b'0');
    // Checked with another number, so that only a unit that exists follows it.
    let checked = if is_zero { format!("1{}", &text[number.len()..]) } else { text.to_owned() };
    let period = checked.parse::<Period>()?.get();
    Ok(if is_zero { Duration::ZERO } else { period })
}

/// One secret as it must be written in the file. Texts are YAML.
struct SecretEntry {
    key: &'static str,
    /// `Err` is the line of a secret that is not shown.
    text: Result<String, usize>,
    not_before: Option<String>,
    expires_at: Option<String>,
}

impl SecretEntry {
    fn new(secret: &ClientSecret) -> Self {
        let hash = quoted(&SecretHash::of(secret).to_config());
        Self { key: "hash", text: Ok(hash), not_before: None, expires_at: None }
    }

    /// A secret whose time begins after the overlap keeps its own times.
    fn old(secret: WrittenSecret, until: UnixTime) -> Self {
        let begins_later = secret.not_before.as_ref().is_some_and(|from| from.time >= until);
        let expires_at = match secret.expires_at {
            Some(end) if begins_later || end.time <= until => Some(end.text),
            Some(_) => Some(until.to_the_second()),
            None if begins_later => None,
            None => Some(until.to_the_second()),
        };
        let not_before = secret.not_before.map(|from| from.text);
        Self { key: secret.key, text: secret.text.ok_or(secret.line), not_before, expires_at }
    }

    fn yaml(&self) -> String {
        let text = match &self.text {
            Ok(text) => format!("{}: {text}", self.key),
            Err(line) => format!("{}: …  # keep the secret of line {line}, which is not shown here", self.key),
        };
        let times = [("not_before", &self.not_before), ("expires_at", &self.expires_at)];
        let times = times.into_iter().filter_map(|(key, time)| Some(format!("\n          {key}: {}", time.as_ref()?)));
        format!("        - {text}{}", times.collect::<String>())
    }

    fn json(&self) -> Value {
        let mut entry = json!({});
        match &self.text {
            Ok(text) => entry[self.key] = json!(unquoted(text)),
            Err(line) => {
                entry[self.key] = Value::Null;
                entry["line"] = json!(line);
            }
        }
        for (key, time) in [("not_before", &self.not_before), ("expires_at", &self.expires_at)] {
            if let Some(time) = time {
                entry[key] = json!(unquoted(time));
            }
        }
        entry
    }
}

/// The client's entry in the form and indentation of the file, ready to paste.
fn yaml(id: &str, entries: &[SecretEntry]) -> String {
    let entries: Vec<String> = entries.iter().map(SecretEntry::yaml).collect();
    format!("    {}:\n      secrets:\n{}", quoted(id), entries.join("\n"))
}

/// Hashes, times and references have no characters that quotation would escape.
fn unquoted(text: &str) -> &str {
    text.trim_matches(['"', '\''])
}

fn print_text(args: &RotateArgs, secret: &ClientSecret, until: UnixTime, entries: &[SecretEntry]) {
    note(styled(DIM, "The new secret, shown only once. Give it to the client and store it nowhere else:"));
    out(secret.expose());
    let file = args.config.config.display();
    note(styled(DIM, format_args!("\nThe client's secrets under oauth.clients in {file} must become:")));
    out(yaml(&args.id, entries));
    if args.overlap.is_zero() {
        return note(styled(
            DIM,
            format_args!(
                "\nChange the file and run `portcullis reload`, then the new secret is valid, and the old ones are not. Then \
                 revoke the tokens that were issued for them: portcullis token revoke --client {}",
                in_shell(&args.id)
            ),
        ));
    }
    let end = until.to_the_second();
    note(styled(
        DIM,
        format_args!(
            "\nChange the file and run `portcullis reload`, then the new secret is valid. The old secrets end at {end}; remove them from the file after that."
        ),
    ));
}
