//! The stores of the gateway: Redis or Valkey for the rate limits, revocations and single-use credentials of all
//! replicas, and PostgreSQL or SQLite for clients and signing keys. No other module uses their client libraries.
//!
//! Redis has digests, counters and the key of the DPoP nonces. The databases have hashes of secrets and encrypted
//! private keys. Every loss of a store has a defined state, and every call has a timeout.

pub(crate) mod client_table;
pub(crate) mod database;
pub(crate) mod key_table;
pub(crate) mod leases;
pub(crate) mod migrations;
mod outage;
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
