//! Opens the stores that several gateways share.

use tokio::runtime::Handle;

use super::start_error::StartError;
use crate::store::database::Database;
use crate::store::redis_store::RedisStore;
use crate::store::settings::SharedSettings;

/// The stores in use. They outlast every configuration.
#[derive(Clone, Debug)]
pub(super) struct SharedStores {
    pub(super) redis: Option<RedisStore>,
    pub(super) database: Option<Database>,
}

impl SharedStores {
    /// Connects to nothing yet: a store that is out of reach has a defined state.
    pub(super) fn open(settings: &SharedSettings, control: &Handle) -> Result<Self, StartError> {
        let redis = settings.redis.as_ref().map(|redis| RedisStore::new(redis, control)).transpose()?;
        Ok(Self { redis, database: None })
    }
}
