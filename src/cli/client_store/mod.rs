//! `portcullis client … --store`: the clients in the database of `oauth.clients_in`.
//!
//! The configuration says where the database is. The running gateways notice each change without a reload.

pub(super) mod list;
pub(super) mod new_client;
pub(super) mod rotate;

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::json;
use tokio::runtime::{Builder, Runtime};

use super::terminal::{bad_config, error_text, failed, note, out};
use super::{ConfigPath, Format};
use crate::clock;
use crate::config::interpolate::Surroundings;
use crate::config::needs::Needs;
use crate::config::suggest;
use crate::config::{self, ConfigErrors};
use crate::issuer::stored_clients::{ClientDatabase, ClientReader};
use crate::store::client_table::ClientTable;
use crate::store::database::Database;
use crate::store::postgres::{PostgresOpenError, PostgresStore};
use crate::store::sql::DatabaseError;
use crate::store::sqlite::{SqliteOpenError, SqliteStore};
use crate::telemetry::error_chain::ErrorChain;

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
struct OpenClientStore {
    table: ClientTable,
    reader: ClientReader,
    /// The ids of the clients of the file, which come first.
    configured: Vec<String>,
    /// `oauth.issuer`.
    issuer: String,
    runtime: Runtime,
}

/// Why the database of a configuration cannot be opened.
#[derive(Debug, thiserror::Error)]
enum OpenStoreError {
    #[error("the configuration cannot be used")]
    Config(ConfigErrors),
    #[error("{} has no database of clients: set `oauth.clients_in`", .0.display())]
    NoDatabase(PathBuf),
    #[error("cannot start a runtime")]
    Runtime(#[from] io::Error),
    #[error(transparent)]
    Sqlite(#[from] SqliteOpenError),
    #[error(transparent)]
    Postgres(#[from] PostgresOpenError),
}

/// A client id, looked up in the database.
pub(super) enum LookedUpClient {
    Known,
    /// With a similar id.
    Unknown {
        hint: String,
    },
    Unavailable {
        reason: String,
    },
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
    changed(args, state, async |store: &OpenClientStore| {
        store.table.set_disabled(&args.id, disabled, clock::now()).await
    })
}

pub(super) fn delete(args: &StoredClientArgs) -> ExitCode {
    changed(args, "deleted", async |store: &OpenClientStore| store.table.delete(&args.id).await)
}

fn changed(
    args: &StoredClientArgs,
    state: &str,
    change: impl AsyncFnOnce(&OpenClientStore) -> Result<bool, DatabaseError>,
) -> ExitCode {
    let store = match OpenClientStore::open(&args.config.config, MissingFile::Refuse) {
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

/// Looks up a client in the database of `oauth.clients_in`.
pub(super) fn look_up(config: &Path, id: &str) -> LookedUpClient {
    let unavailable =
        |error: &(dyn Error + 'static)| LookedUpClient::Unavailable { reason: ErrorChain(error).to_string() };
    let store = match OpenClientStore::try_open(config, MissingFile::Refuse) {
        Ok(store) => store,
        Err(error) => return unavailable(&error),
    };
    match store.runtime.block_on(store.table.get(id)) {
        Ok(Some(_)) => LookedUpClient::Known,
        Ok(None) => LookedUpClient::Unknown { hint: store.hint(id) },
        Err(error) => unavailable(&error),
    }
}

impl OpenStoreError {
    fn print(&self) -> ExitCode {
        match self {
            Self::Config(errors) => bad_config(errors),
            Self::NoDatabase(_) | Self::Runtime(_) | Self::Sqlite(_) | Self::Postgres(_) => failed(self),
        }
    }
}

impl OpenClientStore {
    fn open(config: &Path, missing: MissingFile) -> Result<Self, ExitCode> {
        Self::try_open(config, missing).map_err(|error| error.print())
    }

    fn try_open(config: &Path, missing: MissingFile) -> Result<Self, OpenStoreError> {
        let loaded = config::load_part(config, Needs::CLIENTS, &Surroundings::process());
        let loaded = loaded.map_err(OpenStoreError::Config)?;
        let none = || OpenStoreError::NoDatabase(config.to_owned());
        let oauth = loaded.oauth.ok_or_else(none)?;
        let settings = oauth.stored.ok_or_else(none)?;
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let database = match &settings.place {
            ClientDatabase::Sqlite(file) => {
                let store = match missing {
                    MissingFile::Create => SqliteStore::open(file),
                    MissingFile::Refuse => SqliteStore::open_existing(file),
                };
                Database::Sqlite(store?)
            }
            ClientDatabase::Postgres => {
                let postgres = loaded.shared.postgres.as_ref().ok_or_else(none)?;
                let store = runtime.block_on(PostgresStore::open_now(postgres, runtime.handle()));
                Database::Postgres(store?)
            }
        };
        let configured = oauth.clients.iter().map(|client| client.id.as_str().to_owned()).collect();
        let (table, issuer) = (ClientTable::new(database), oauth.trust.issuer.as_str().to_owned());
        Ok(Self { table, reader: settings.reader, configured, issuer, runtime })
    }

    /// Says that the database has no such client, with similar ids.
    fn unknown(&self, id: &str) -> ExitCode {
        let quoted = id.escape_debug();
        if self.configured.iter().any(|configured| configured == id) {
            return error_text(format_args!("client `{quoted}` is in the configuration file: change it there"));
        }
        error_text(format_args!("the database has no client `{quoted}`{}", self.hint(id)))
    }

    /// A similar id of the database.
    fn hint(&self, id: &str) -> String {
        let begin: String = id.chars().take(2).collect();
        let near = self.runtime.block_on(self.table.page(&begin, NEIGHBOURS)).unwrap_or_default();
        let near: Vec<&str> = near.iter().map(|row| row.id.as_str()).collect();
        suggest::closest(id, &near).map(|meant| format!(", did you mean `{meant}`?")).unwrap_or_default()
    }
}
