//! Reads the own signing keys for a command that judges a token: from the disk, or from the database. Writes nothing.

use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::time::timeout;

use crate::config::types::Config;
use crate::issuer::ring::Ring;
use crate::issuer::ring_database::{self, DatabaseRingError};
use crate::issuer::ring_files::RingError;
use crate::issuer::ring_store::{self, RingSettings};
use crate::issuer::wrapping_key::WrappingKeys;
use crate::store::database::Database;
use crate::store::postgres::{PostgresOpenError, PostgresStore};
use crate::store::settings::PostgresSettings;

/// Why the keys cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InspectedRingError {
    #[error(transparent)]
    Files(#[from] RingError),
    #[error("the signing keys are in a database, and `shared.postgres` is missing")]
    NoDatabase,
    #[error("cannot read the signing keys from the database")]
    Open(#[from] PostgresOpenError),
    #[error("cannot read the signing keys from the database")]
    Read(#[from] DatabaseRingError),
    #[error("cannot read the signing keys from the database: it does not answer within {} s", DEADLINE.as_secs())]
    Silent,
    #[error("cannot start a runtime")]
    Runtime(#[from] std::io::Error),
}

/// For the connection and the keys.
const DEADLINE: Duration = Duration::from_secs(5);

/// `None` if there is no key yet.
pub(crate) async fn read(
    ring: &RingSettings,
    postgres: Option<&PostgresSettings>,
) -> Result<Option<Ring>, InspectedRingError> {
    let Some(keys) = &ring.wrapping_keys else { return Ok(ring_store::peek(ring)?) };
    let postgres = postgres.ok_or(InspectedRingError::NoDatabase)?;
    let read = timeout(DEADLINE, Box::pin(read_database(postgres, (ring, keys)))).await;
    let ring = read.map_err(|_| InspectedRingError::Silent)??;
    Ok((!ring.records().is_empty()).then_some(ring))
}

/// The same outside a task.
pub(super) fn read_now(config: &Config) -> Result<Option<Ring>, InspectedRingError> {
    let Some(oauth) = &config.oauth else { return Ok(None) };
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(read(&oauth.ring, config.shared.postgres.as_ref()))
}

async fn read_database(
    postgres: &PostgresSettings,
    ring: (&RingSettings, &WrappingKeys),
) -> Result<Ring, InspectedRingError> {
    let store = PostgresStore::open_now(postgres, &Handle::current()).await?;
    Ok(ring_database::read(&Database::Postgres(store), ring).await?)
}
