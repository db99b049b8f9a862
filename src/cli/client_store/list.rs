//! `portcullis client list --store`: reads page by page, so that its memory does not grow with the clients.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::super::terminal::{NAME, failed, print_unless_closed, styled};
use super::super::{ConfigPath, Format};
use super::{MissingFile, OpenClientStore};
use crate::clock::UnixTime;
use crate::store::client_table::ClientRow;

#[derive(Debug, Args)]
pub(in super::super) struct ListArgs {
    /// The clients in the database of `oauth.clients_in`
    #[arg(long, required = true)]
    store: bool,
    /// Begin after this client id
    #[arg(long, value_name = "ID", default_value = "")]
    after: String,
    /// How many clients to list. Without it: all
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    #[command(flatten)]
    config: ConfigPath,
    /// The form of the output: text for people, or one JSON object per line
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

pub(in super::super) const EXAMPLE: &str = "\
Examples:
  portcullis client list --store
  portcullis client list --store --format json --after billing --limit 100

Lists id, state, time of the last change, and scopes, in the order of the ids. No hash is shown.";

const PAGE: u32 = 500;

pub(in super::super) fn list(args: &ListArgs) -> ExitCode {
    let store = match OpenClientStore::open(&args.config.config, MissingFile::Refuse) {
        Ok(store) => store,
        Err(code) => return code,
    };
    let (mut after, mut left) = (args.after.clone(), args.limit.unwrap_or(u64::MAX));
    while left > 0 {
        let most = u32::try_from(left).unwrap_or(PAGE).min(PAGE);
        let rows = match store.runtime.block_on(store.table.page(&after, most)) {
            Ok(rows) => rows,
            Err(error) => return failed(&error),
        };
        let Some(last) = rows.last() else { break };
        after.clone_from(&last.id);
        left -= rows.len() as u64;
        if !rows.iter().all(|row| print_unless_closed(line(row, args.format))) {
            break;
        }
    }
    ExitCode::SUCCESS
}

fn line(row: &ClientRow, format: Format) -> String {
    let state = if row.disabled { "disabled" } else { "enabled" };
    let changed = UnixTime::from_seconds(row.changed_at).to_the_second();
    let entry: Value = serde_json::from_str(&row.entry).unwrap_or_default();
    let scopes = match &entry["scopes"] {
        Value::Array(scopes) => scopes.iter().filter_map(Value::as_str).collect(),
        other => other.as_str().into_iter().collect::<Vec<_>>(),
    };
    match format {
        Format::Json => json!({"client": row.id, "state": state, "changed_at": changed, "scopes": scopes}).to_string(),
        Format::Text => {
            let id = styled(NAME, row.id.escape_debug());
            format!("{id}  {state}  {changed}  {}", scopes.join(" ").escape_debug())
        }
    }
}
