//! `portcullis client rotate --store`: gives a client of the database a new secret, with an overlap.

use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::super::Format;
use super::super::client_key::in_shell;
use super::super::client_secret::generate;
use super::super::rotate::RotateArgs;
use super::super::terminal::{DIM, error_text, failed, note, out, styled};
use super::{MissingFile, OpenClientStore};
use crate::clock::{self, UnixTime};
use crate::issuer::client_auth::secret::hash::SecretHash;

pub(in super::super) fn rotate(args: &RotateArgs) -> ExitCode {
    rotated(args).unwrap_or_else(|code| code)
}

fn rotated(args: &RotateArgs) -> Result<ExitCode, ExitCode> {
    let store = OpenClientStore::open(&args.config.config, MissingFile::Refuse)?;
    let row = store.runtime.block_on(store.table.get(&args.id)).map_err(|error| failed(&error))?;
    let Some(row) = row else { return Err(store.unknown(&args.id)) };
    let unusable = |fault: &str| error_text(format_args!("the entry of the client cannot be used: {fault}"));
    let mut entry: Map<String, Value> =
        serde_json::from_str(&row.entry).map_err(|fault| unusable(&fault.to_string()))?;
    let secret = generate().map_err(|error| failed(&error))?;
    let now = clock::now();
    let until = now.plus(args.overlap);
    let old = entry.remove("secrets").unwrap_or_default();
    // After a leak, secrets that begin later end too.
    let mut secrets = if args.overlap.is_zero() { Vec::new() } else { kept(old, now, until) };
    secrets.push(json!({"hash": SecretHash::of(&secret).to_config()}));
    entry.insert("secrets".to_owned(), Value::Array(secrets));
    let text = Value::Object(entry).to_string();
    store.reader.read(&args.id, &text).map_err(|fault| unusable(&fault))?;
    match store.runtime.block_on(store.table.replace(&row, &text, now)) {
        Ok(true) => {}
        Ok(false) => return Err(error_text("the client was changed at the same time: try again")),
        Err(error) => return Err(failed(&error)),
    }
    let end = until.to_the_second();
    match args.format {
        Format::Json => out(json!({"client": args.id, "secret": secret.expose(), "old_secrets_expire_at": end})),
        Format::Text => {
            note(styled(DIM, "The new secret, shown only once. Give it to the client and store it nowhere else:"));
            out(secret.expose());
            if args.overlap.is_zero() {
                let id = in_shell(&args.id);
                note(styled(
                    DIM,
                    format_args!(
                        "\nIt is valid now, and the old secrets are not. Then revoke the tokens that were issued for them: \
                         portcullis token revoke --client {id}"
                    ),
                ));
                return Ok(ExitCode::SUCCESS);
            }
            note(styled(
                DIM,
                format_args!("\nIt is valid now. The old secrets end at {end}, or earlier if they did so before."),
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The old secrets, which end at `until` or earlier. Those that have ended are left out, and those that begin later keep
/// their times.
fn kept(old: Value, now: UnixTime, until: UnixTime) -> Vec<Value> {
    let old = match old {
        Value::Array(list) => list,
        Value::Null => Vec::new(),
        one @ (Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_)) => vec![one],
    };
    let time = |secret: &Value, key: &str| secret[key].as_str().and_then(UnixTime::parse);
    let mut kept: Vec<Value> =
        old.into_iter().filter(|secret| time(secret, "expires_at").is_none_or(|end| end > now)).collect();
    for secret in &mut kept {
        let begins_later = time(secret, "not_before").is_some_and(|from| from >= until);
        if !begins_later && time(secret, "expires_at").is_none_or(|end| end > until) {
            secret["expires_at"] = json!(until.to_the_second());
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_secrets_end_after_the_overlap_or_earlier() {
        let at = |seconds: u64| UnixTime::from_seconds(1_800_000_000 + seconds);
        let text = |seconds| at(seconds).to_the_second();
        let old = json!([
            {"hash": "ended", "expires_at": text(0)},
            {"hash": "earlier", "expires_at": text(50)},
            {"hash": "endless"},
            {"hash": "later", "not_before": text(100)},
        ]);
        let expected = [
            json!({"hash": "earlier", "expires_at": text(50)}),
            json!({"hash": "endless", "expires_at": text(100)}),
            json!({"hash": "later", "not_before": text(100)}),
        ];
        assert_eq!(kept(old, at(1), at(100)), expected);
        assert!(kept(Value::Null, at(1), at(100)).is_empty());
    }
}
