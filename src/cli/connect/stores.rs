//! The stores that several replicas share: connects to each as the gateway does.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::super::terminal::{DIM, styled};
use super::{Connection, Found, Unusable};
use crate::config::types::Config;
use crate::store::postgres::look::{UsableDatabase, look};
use crate::store::postgres::{PostgresOpenError, REACH_REMEDY};
use crate::store::postgres_address;
use crate::store::redis_check;
use crate::store::settings::{PostgresSettings, RedisSettings, StoreTls};
use crate::store::sql::{DatabaseError, DatabaseRefusal, LOGIN_REMEDY, RIGHTS_REMEDY};
use crate::telemetry::error_chain::ErrorChain;

/// A store to connect to.
pub(super) enum StoreTask {
    Redis(Box<RedisSettings>),
    Postgres(Box<PostgresSettings>),
}

/// A store that the gateway can use.
pub(super) struct ReachedStore {
    /// The name and the version of the server.
    version: String,
    is_encrypted: bool,
    took: Duration,
}

const KIND: &str = "store";

pub(super) fn tasks(config: &Config) -> impl Iterator<Item = StoreTask> {
    let redis = config.shared.redis.clone().map(|redis| StoreTask::Redis(Box::new(redis)));
    let postgres = config.shared.postgres.clone().map(|postgres| StoreTask::Postgres(Box::new(postgres)));
    redis.into_iter().chain(postgres)
}

impl StoreTask {
    pub(super) async fn run(self) -> Connection {
        let begun = Instant::now();
        let (name, server, found) = match self {
            Self::Redis(settings) => ("redis", redis_place(&settings), redis(&settings, begun).await),
            Self::Postgres(settings) => {
                let place = postgres_address::place(&settings).unwrap_or_default();
                ("postgres", place, postgres(&settings, begun).await)
            }
        };
        Connection { kind: KIND, name: name.to_owned(), server, found: found.map(Found::Store) }
    }
}

impl ReachedStore {
    pub(super) fn texts(&self) -> Vec<String> {
        let protection = if self.is_encrypted { "TLS".to_owned() } else { styled(DIM, "clear text") };
        vec![protection, self.version.clone(), format!("{} ms", self.took.as_millis())]
    }

    pub(super) fn add_to(&self, report: &mut Value) {
        report["version"] = json!(self.version);
        report["encrypted"] = json!(self.is_encrypted);
        report["duration_ms"] = json!(self.took.as_millis() as u64);
    }
}

fn redis_place(settings: &RedisSettings) -> String {
    let RedisSettings { database, tls, .. } = settings;
    let scheme = if *tls == StoreTls::Plain { "redis" } else { "rediss" };
    let database = if *database == 0 { String::new() } else { format!("/{database}") };
    format!("{scheme}://{}{database}", settings.server())
}

async fn redis(settings: &RedisSettings, begun: Instant) -> Result<ReachedStore, Unusable> {
    let checked = redis_check::check(settings).await;
    let version = checked
        .map_err(|error| Unusable { reason: ErrorChain(&error).to_string(), remedy: error.remedy().to_owned() })?;
    Ok(ReachedStore { version, is_encrypted: settings.tls != StoreTls::Plain, took: begun.elapsed() })
}

async fn postgres(settings: &PostgresSettings, begun: Instant) -> Result<ReachedStore, Unusable> {
    let UsableDatabase { version, is_encrypted } = look(settings).await.map_err(|error| unusable(&error))?;
    Ok(ReachedStore { version: format!("PostgreSQL {version}"), is_encrypted, took: begun.elapsed() })
}

fn unusable(error: &PostgresOpenError) -> Unusable {
    let (reason, remedy) = match error {
        PostgresOpenError::Tables(DatabaseError::NotMigrated) => {
            ("the database has no tables of this gateway".to_owned(), "run `portcullis store migrate`")
        }
        PostgresOpenError::Tables(DatabaseError::Version { found, known, remedy }) => {
            (format!("the tables of the database are of version {found}, and this gateway knows {known}"), *remedy)
        }
        PostgresOpenError::Tables(DatabaseError::Refused(
            DatabaseRefusal::Rights(reason) | DatabaseRefusal::Statement(reason),
        )) => (format!("the database refused a statement: {reason}"), RIGHTS_REMEDY),
        PostgresOpenError::Tables(DatabaseError::Refused(DatabaseRefusal::Login(reason)))
        | PostgresOpenError::Login { reason, .. } => {
            (format!("the database refuses the login: {reason}"), LOGIN_REMEDY)
        }
        PostgresOpenError::Unreachable { reason, .. } => {
            (format!("the database is unreachable: {reason}"), REACH_REMEDY)
        }
        PostgresOpenError::Tables(DatabaseError::Unavailable) | PostgresOpenError::Url(_) => {
            (ErrorChain(error).to_string(), REACH_REMEDY)
        }
    };
    Unusable { reason, remedy: remedy.to_owned() }
}
