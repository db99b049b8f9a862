//! The reasons for which a start fails.

use std::io;

use super::certificates::RenewalError;
use crate::audit::target::OpenError;
use crate::issuer::ring_database::DatabaseRingError;
use crate::issuer::ring_files::RingError;
use crate::jose::signing::SigningKeyFault;
use crate::server::inherited_sockets::InheritError;
use crate::server::listener::ListenError;
use crate::store::postgres::PostgresOpenError;
use crate::store::redis_store::RedisSetupError;
use crate::store::sqlite::SqliteOpenError;
use crate::trust::replay_store::ReplayStoreError;
use crate::trust::revocation_store::StoreError;

/// Why the gateway cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("cannot start a runtime or a thread")]
    Runtime(#[from] io::Error),
    #[error(transparent)]
    Audit(#[from] OpenError),
    #[error(transparent)]
    Certificate(#[from] RenewalError),
    #[error("no worker could start: see the errors above")]
    Workers,
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Inherit(#[from] InheritError),
    #[error("cannot read or write the revocations: revoked tokens could be accepted")]
    Revocations(#[from] StoreError),
    #[error("cannot read which assertions were used: they could be used again")]
    Replay(#[from] ReplayStoreError),
    #[error(transparent)]
    Redis(#[from] RedisSetupError),
    #[error(transparent)]
    Postgres(#[from] PostgresOpenError),
    #[error("cannot use the signing keys of the database")]
    DatabaseRing(#[from] DatabaseRingError),
    #[error("cannot use the database of the clients")]
    Sqlite(#[from] SqliteOpenError),
    #[error("`shared.postgres` is new: restart the gateway to use it")]
    NoPostgres,
    #[error("cannot use the signing keys")]
    Ring(#[from] RingError),
    #[error("cannot use the signing keys")]
    SigningKey(#[from] SigningKeyFault),
}
