//! `portcullis client … --store`: the clients in the database of `oauth.clients_in`.
//!
//! The configuration says where the database is. The running gateways notice each change without a reload.

pub(super) mod list;
pub(super) mod new_client;
pub(super) mod rotate;

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;
use tokio::runtime::{Builder, Runtime};

use super::terminal::{bad_config, error_text, failed, note, out};
use super::{ConfigPath, Format, USAGE};
use crate::clock;
use crate::config;
use crate::config::interpolate::Surroundings;
use crate::config::needs::Needs;
use crate::config::suggest;
use crate::issuer::stored_clients::{ClientDatabase, ClientReader};
use crate::store::client_table::ClientTable;
use crate::store::database::Database;
use crate::store::postgres::PostgresStore;
use crate::store::sql::DatabaseError;
use crate::store::sqlite::SqliteStore;

#[derive(Debug, Args)]
pub(super) struct StoredClientArgs {
    /// The client id
    id: String,
    /// The client is in the database of `oauth.clients_in`; clients of the file are changed there
    #[arg(long, required = true)]
    store: bool,
    #[command(flatten)]
    config: ConfigPath,
    /// The form of the output: text for people, JSON for programs
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// The database, opened for one command.
struct OpenStore {
    table: ClientTable,
    reader: ClientReader,
    /// The ids of the clients of the file, which come first.
    configured: Vec<String>,
    runtime: Runtime,
}

/// What happens to a file of SQLite that does not exist.
#[derive(Clone, Copy)]
enum MissingFile {
    Create,
    Refuse,
}

/// Ids near a misspelt one that are looked at.
const NEIGHBOURS: u32 = 200;

pub(super) fn set_disabled(args: &StoredClientArgs, disabled: bool) -> ExitCode {
    let state = if disabled { "disabled" } else { "enabled" };
    changed(args, state, async |store: &OpenStore| store.table.set_disabled(&args.id, disabled, clock::now()).await)
}

pub(super) fn delete(args: &StoredClientArgs) -> ExitCode {
    changed(args, "deleted", async |store: &OpenStore| store.table.delete(&args.id).await)
}

fn changed(
    args: &StoredClientArgs,
    state: &str,
    change: impl AsyncFnOnce(&OpenStore) -> Result<bool, DatabaseError>,
) -> ExitCode {
    let store = match OpenStore::open(&args.config.config, MissingFile::Refuse) {
        Ok(store) => store,
        Err(code) => return code,
    };
    match store.runtime.block_on(change(&store)) {
        Ok(true) => {
            match args.format {
                Format::Text => note(format_args!("client `{}`: {state}", args.id.escape_debug())),
                Format::Json => out(json!({"client": args.id, "state": state})),
            }
            ExitCode::SUCCESS
        }
        Ok(false) => store.unknown(&args.id),
        Err(error) => failed(&error),
    }
}

impl OpenStore {
    fn open(config: &Path, missing: MissingFile) -> Result<Self, ExitCode> {
        let loaded = config::load_part(config, Needs::CLIENTS, &Surroundings::process());
        let loaded = loaded.map_err(|errors| bad_config(&errors))?;
        let shown = config.display();
        let none = || error_text(format_args!("{shown} has no database of clients: set `oauth.clients_in`"));
        let oauth = loaded.oauth.ok_or_else(none)?;
        let settings = oauth.stored.ok_or_else(none)?;
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(|error| failed(&error))?;
        let database = match &settings.place {
            ClientDatabase::Sqlite(file) => {
                let store = match missing {
                    MissingFile::Create => SqliteStore::open(file),
                    MissingFile::Refuse => SqliteStore::open_existing(file),
                };
                Database::Sqlite(store.map_err(|error| failed(&error))?)
            }
            ClientDatabase::Postgres => {
                let postgres = loaded.shared.postgres.as_ref().ok_or_else(none)?;
                let store = runtime.block_on(PostgresStore::open_now(postgres, runtime.handle()));
                Database::Postgres(store.map_err(|error| failed(&error))?)
            }
        };
        let configured = oauth.clients.iter().map(|client| client.id.as_str().to_owned()).collect();
        Ok(Self { table: ClientTable::new(database), reader: settings.reader, configured, runtime })
    }

    /// Says that the database has no such client, with similar ids.
    fn unknown(&self, id: &str) -> ExitCode {
        let quoted = id.escape_debug();
        if self.configured.iter().any(|configured| configured == id) {
            return error_text(format_args!("client `{quoted}` is in the configuration file: change it there"));
        }
        let begin: String = id.chars().take(2).collect();
        let near = self.runtime.block_on(self.table.page(&begin, NEIGHBOURS)).unwrap_or_default();
        let near: Vec<&str> = near.iter().map(|row| row.id.as_str()).collect();
        let hint = suggest::closest(id, &near).map(|meant| format!(", did you mean `{meant}`?")).unwrap_or_default();
        note(format_args!("the database has no client `{quoted}`{hint}"));
        ExitCode::from(USAGE)
    }
}
