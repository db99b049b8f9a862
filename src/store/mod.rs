//! The engines that several gateways share: Redis or Valkey for rate limits, revocations and what may be used once; a
//! database for clients and signing keys. The only home of their client libraries.
//!
//! Nothing in a store can be read for a secret: keys are digests, secrets are hashes, private keys are encrypted.
//! Every loss of a store has a defined state, and no call waits longer than its timeout.

pub(crate) mod client_table;
pub(crate) mod database;
pub(crate) mod key_table;
pub(crate) mod leases;
pub(crate) mod migrations;
pub(crate) mod postgres;
pub(crate) mod postgres_address;
mod postgres_connection;
mod postgres_tls;
pub(crate) mod redis_check;
pub(crate) mod redis_revocations;
pub(crate) mod redis_store;
pub(crate) mod redis_uses;
pub(crate) mod replica_id;
pub(crate) mod replicas;
pub(crate) mod settings;
pub(crate) mod shared_state;
pub(crate) mod sql;
pub(crate) mod sqlite;
pub(crate) mod table_version;
