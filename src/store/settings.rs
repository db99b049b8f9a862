//! How the engines are reached that several gateways share.

use std::fmt;
use std::time::Duration;

use zeroize::Zeroizing;

/// The settings of `shared`. They change by a restart only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SharedSettings {
    pub(crate) redis: Option<RedisSettings>,
    pub(crate) postgres: Option<PostgresSettings>,
    pub(crate) instance: InstanceSettings,
    pub(crate) on_loss: OnLoss,
}

/// One server of Redis or Valkey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RedisSettings {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) database: i64,
    pub(crate) tls: StoreTls,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<StoreSecret>,
    /// The beginning of all keys.
    pub(crate) prefix: String,
    /// For one exchange.
    pub(crate) timeout: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PostgresSettings {
    /// With user and password.
    pub(crate) url: StoreSecret,
    /// The certificates that verify the server, in PEM. `None`: those of the system.
    pub(crate) ca: Option<Vec<u8>>,
    /// How long known clients go on without the database.
    pub(crate) stale: Duration,
}

/// How a connection to a store is protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StoreTls {
    /// In clear text.
    Plain,
    /// Verified by these certificates, in PEM. `None`: by those of the system.
    Verified(Option<Vec<u8>>),
}

/// This gateway among its replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InstanceSettings {
    /// A label. In the stores a replica is a random id.
    pub(crate) name: String,
    /// The replicas that are counted at most.
    pub(crate) most: u32,
    /// A replica that has not been heard of for this time is not counted as alive.
    pub(crate) heartbeat: Duration,
}

/// What rate limits do without their store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnLoss {
    /// Each replica takes its share of the limit.
    Share,
    /// Each replica takes the whole limit.
    Local,
    /// Refuse.
    Deny,
}

/// A text that is wiped when dropped and never printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct StoreSecret(Zeroizing<String>);

impl StoreSecret {
    pub(crate) fn new(text: &str) -> Self {
        Self(Zeroizing::new(text.to_owned()))
    }

    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for StoreSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreSecret(..)")
    }
}
