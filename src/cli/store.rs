//! `portcullis store`: creates the tables of `shared.postgres`, and shows their version.

use std::path::Path;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;
use tokio::runtime::{Builder, Runtime};

use super::terminal::{bad_config, error_text, failed, out};
use super::{ConfigPath, FINDINGS, Format};
use crate::config;
use crate::config::interpolate::Surroundings;
use crate::config::needs::Needs;
use crate::issuer::stored_clients::ClientDatabase;
use crate::store::migrations::{self, Migration};
use crate::store::postgres::PostgresStore;
use crate::store::table_version;

#[derive(Debug, Subcommand)]
pub(super) enum StoreVerb {
    /// Create the tables of this version, or migrate older ones to it
    #[command(after_help = MIGRATE_HELP)]
    Migrate(ConfigPath),
    /// Show the version of the tables
    #[command(after_help = STATUS_HELP)]
    Status(StatusArgs),
}

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    config: ConfigPath,
    /// The form of the output: text for people, JSON for programs
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

const MIGRATE_HELP: &str = "\
Example:
  portcullis store migrate --config gateway.yaml

Needs `shared.postgres`, whose user must be allowed to create tables and functions. The migration is one transaction. It goes \
forward only: back up the database before, and stop older gateways, which refuse newer tables.";

const STATUS_HELP: &str = "\
Exit code 1 if the tables are not of the version of this program.";

pub(super) fn store(verb: &StoreVerb) -> ExitCode {
    let (StoreVerb::Migrate(config) | StoreVerb::Status(StatusArgs { config, .. })) = verb;
    let (store, runtime) = match open(config) {
        Ok(opened) => opened,
        Err(code) => return code,
    };
    match verb {
        StoreVerb::Migrate(_) => migrate(&store, &runtime),
        StoreVerb::Status(args) => status(&store, &runtime, args.format),
    }
}

fn migrate(store: &PostgresStore, runtime: &Runtime) -> ExitCode {
    match runtime.block_on(migrations::migrate(store)) {
        Ok(Migration { from, to }) if from == to => out(format_args!("the tables are of version {to} already")),
        Ok(Migration { from: 0, to }) => out(format_args!("created the tables of version {to}")),
        Ok(Migration { from, to }) => out(format_args!("migrated the tables from version {from} to {to}")),
        Err(error) => return failed(&error),
    }
    ExitCode::SUCCESS
}

fn status(store: &PostgresStore, runtime: &Runtime, format: Format) -> ExitCode {
    let found = match runtime.block_on(migrations::found(store)) {
        Ok(found) => found,
        Err(error) => return failed(&error),
    };
    let known = table_version::VERSION;
    match (format, found) {
        (Format::Json, _) => out(json!({ "tables": found, "program": known })),
        (Format::Text, 0) => out("there are no tables: run `portcullis store migrate`"),
        (Format::Text, _) => out(format_args!("the tables are of version {found}, this program of version {known}")),
    }
    if found == known { ExitCode::SUCCESS } else { ExitCode::from(FINDINGS) }
}

/// Whether the clients are in SQLite, as far as the rest of the configuration can be used.
fn uses_sqlite(config: &Path) -> bool {
    let loaded = config::load_part(config, Needs::CLIENTS, &Surroundings::process());
    let stored = loaded.ok().and_then(|loaded| loaded.oauth?.stored);
    stored.is_some_and(|stored| matches!(stored.place, ClientDatabase::Sqlite(_)))
}

fn open(config: &ConfigPath) -> Result<(PostgresStore, Runtime), ExitCode> {
    let loaded = config::load_part(&config.config, Needs::STORES, &Surroundings::process());
    let loaded = loaded.map_err(|errors| bad_config(&errors))?;
    let Some(settings) = loaded.shared.postgres else {
        let shown = config.config.display();
        return Err(if uses_sqlite(&config.config) {
            error_text(format_args!(
                "{shown} has no `shared.postgres`. Its clients are in SQLite (`oauth.clients_in: sqlite`), which needs no \
                 migration by hand: the gateway and `client new --store` create and migrate the file"
            ))
        } else {
            error_text(format_args!("{shown} has no database: set `shared.postgres`"))
        });
    };
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(|error| failed(&error))?;
    let store = PostgresStore::new(&settings, runtime.handle()).map_err(|error| failed(&error))?;
    runtime.block_on(store.probe()).map_err(|error| failed(&error))?;
    Ok((store, runtime))
}
