//! Opens the stores that several gateways share, and leaves them at the end.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::start_error::StartError;
use crate::store::database::Database;
use crate::store::leases::lease_store::LeaseStore;
use crate::store::postgres::PostgresStore;
use crate::store::redis_store::RedisStore;
use crate::store::replicas::{self, ReplicaKeeper};
use crate::store::settings::{PostgresSettings, SharedSettings};

/// The stores in use. They outlast every configuration.
#[derive(Clone, Debug)]
pub(super) struct SharedStores {
    pub(super) redis: Option<RedisStore>,
    pub(super) database: Option<Database>,
    /// The rate limits that are counted over replicas.
    pub(super) leases: Option<Arc<LeaseStore>>,
    /// The id of this replica in the store.
    replica: String,
}

/// For the first contact, before anything is served. A store that is out of reach has a defined state.
const FIRST_CONTACT: Duration = Duration::from_secs(2);
const LEAVE_WITHIN: Duration = Duration::from_secs(1);

impl SharedStores {
    pub(super) fn open(settings: &SharedSettings, control: &Runtime) -> Result<Self, StartError> {
        let database = settings.postgres.as_ref().map(|postgres| database(postgres, control)).transpose()?;
        let Some(redis) = &settings.redis else {
            return Ok(Self { redis: None, database, leases: None, replica: String::new() });
        };
        let store = RedisStore::new(redis, control.handle())?;
        let mut keeper = ReplicaKeeper::new(store.clone(), settings.instance.clone());
        let replica = keeper.id().to_owned();
        let _ = control.block_on(async { timeout(FIRST_CONTACT, keeper.beat()).await });
        control.spawn(keeper.keep());
        let leases = LeaseStore::start(store.clone(), settings.instance.clone(), settings.on_loss);
        Ok(Self { redis: Some(store), database, leases: Some(leases), replica })
    }

    /// Tells the other replicas that this one ends.
    pub(super) async fn leave(self) {
        if let Some(store) = self.redis {
            let _ = timeout(LEAVE_WITHIN, replicas::leave(&store, self.replica)).await;
        }
    }
}

/// Fails if the tables are not those of this gateway. A database that is out of reach has a defined state.
fn database(settings: &PostgresSettings, control: &Runtime) -> Result<Database, StartError> {
    let store = control.block_on(PostgresStore::open(settings, control.handle()))?;
    Ok(Database::Postgres(store))
}
