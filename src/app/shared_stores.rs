//! Opens the stores that replicas share, and removes this replica at the end.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Handle, Runtime};
use tokio::sync::watch;
use tokio::time::timeout;

use super::start_error::StartError;
use crate::store::database::Database;
use crate::store::leases::lease_store::LeaseStore;
use crate::store::postgres::{PostgresStore, WITHOUT_DATABASE};
use crate::store::redis_store::{RedisStore, WITHOUT_REDIS};
use crate::store::replica_id::ReplicaId;
use crate::store::replicas::{self, ReplicaKeeper};
use crate::store::settings::{OnLoss, PostgresSettings, SharedSettings};
use crate::store::shared_state::{ReplicaCounts, SharedState};
use crate::telemetry::shared_status::SharedStoreStatus;
use crate::trust::revocation_exchange::RevocationExchange;
use crate::trust::revocation_outbox::RevocationOutbox;

/// The stores in use. They outlast every configuration.
#[derive(Clone, Debug)]
pub(super) struct SharedStores {
    pub(super) redis: Option<RedisStore>,
    pub(super) database: Option<Database>,
    /// The rate limits that are counted over replicas.
    pub(super) leases: Option<Arc<LeaseStore>>,
    /// The revocations of this replica that are not in the store yet.
    pub(super) outbox: Option<Arc<RevocationOutbox>>,
    /// True once the revocations of the other replicas were read or could not be read.
    has_tried_revocations: Option<watch::Receiver<bool>>,
    /// The name of this gateway.
    pub(super) instance: String,
    /// The id of this replica in the store.
    replica: String,
}

/// For the first connection, before requests are served. An unreachable store has a defined state.
const FIRST_CONTACT: Duration = Duration::from_secs(2);
/// For the first read of the revocations of the other replicas.
const FIRST_REVOCATIONS: Duration = Duration::from_secs(2);
const LEAVE_WITHIN: Duration = Duration::from_secs(1);

impl SharedStores {
    pub(super) fn open(
        settings: &SharedSettings,
        state_directory: &Path,
        control: &Runtime,
    ) -> Result<Self, StartError> {
        let database = settings.postgres.as_ref().map(|postgres| database(postgres, control)).transpose()?;
        let mut stores = Self {
            redis: None,
            database,
            leases: None,
            outbox: None,
            has_tried_revocations: None,
            instance: settings.instance.name.clone(),
            replica: String::new(),
        };
        let Some(redis) = &settings.redis else { return Ok(stores) };
        let store = RedisStore::new(redis, control.handle())?;
        let mut keeper = ReplicaKeeper::new(
            store.clone(),
            settings.instance.clone(),
            settings.on_loss,
            ReplicaId::open(state_directory),
        );
        stores.replica = keeper.id().to_owned();
        let _ = control.block_on(async { timeout(FIRST_CONTACT, keeper.beat()).await });
        control.spawn(keeper.keep());
        stores.leases = Some(LeaseStore::start(store.clone(), settings.instance.clone(), settings.on_loss));
        stores.redis = Some(store);
        Ok(stores)
    }

    /// Starts the exchange of revocations with the other replicas.
    pub(super) fn exchange_with(&mut self, exchange: RevocationExchange, control: &Handle) {
        self.outbox = Some(Arc::clone(exchange.outbox()));
        self.has_tried_revocations = Some(exchange.has_tried());
        control.spawn(exchange.run());
    }

    /// Waits until the revocations are read, so that a replica does not accept tokens that were revoked before its
    /// start. Does not wait for an unreachable store.
    pub(super) async fn wait_for_revocations(&self) {
        let Some(mut has_tried) = self.has_tried_revocations.clone() else { return };
        let _ = timeout(FIRST_REVOCATIONS, has_tried.wait_for(|has_tried| *has_tried)).await;
    }

    /// For the metrics. `None` without a shared store.
    pub(super) fn status(&self) -> Option<SharedStoreStatus> {
        let (store, leases) = (self.redis.as_ref()?, self.leases.as_ref()?);
        let state = store.state().borrow().clone();
        let (is_reachable, replicas) = match state {
            SharedState::Reached { replicas, .. } => (true, replicas),
            SharedState::Lost { replicas } => (false, replicas),
            SharedState::Unknown => (false, ReplicaCounts { alive: 0, known: 0 }),
        };
        let on_loss = match leases.on_loss() {
            OnLoss::Share => "share",
            OnLoss::Local => "local",
            OnLoss::Deny => "deny",
        };
        Some(SharedStoreStatus {
            is_reachable,
            failures: store.failures(),
            alive: if is_reachable { replicas.alive.into() } else { 0 },
            known: replicas.known.into(),
            pending_revocations: self.outbox.as_ref().map_or(0, |outbox| outbox.len() as u64),
            limit_mode: if is_reachable { "leases" } else { on_loss },
        })
    }

    /// Whether the database has answered since the start. Before that, this process knows no client and no key of it.
    pub(super) fn was_database_reachable(&self) -> bool {
        self.database.as_ref().is_none_or(Database::was_reachable)
    }

    /// For `/readyz`: an unreachable store does not make the gateway unready, but is named. The log has its address.
    pub(super) fn remarks(&self) -> String {
        let mut remarks = String::new();
        if let Some(outage) = self.redis.as_ref().and_then(RedisStore::outage) {
            remarks += &format!("Redis (`shared.redis`) {outage}: {WITHOUT_REDIS}\n");
        }
        if self.database.as_ref().is_some_and(Database::is_unreachable) {
            remarks += &format!("the database (`shared.postgres`) is unreachable: {WITHOUT_DATABASE}\n");
        }
        remarks
    }

    /// For `/readyz`, while the revocations of the other replicas are not known.
    pub(super) fn unknown_revocations(&self) -> String {
        let outage = self.redis.as_ref().and_then(RedisStore::outage);
        let cause = outage.map(|outage| format!(": Redis (`shared.redis`) {outage}")).unwrap_or_default();
        format!("the revocations of the other replicas are not known yet{cause}")
    }

    /// Removes this replica from the store, so that the others take over its share.
    pub(super) async fn leave(self) {
        if let Some(store) = self.redis {
            let _ = timeout(LEAVE_WITHIN, replicas::leave(&store, self.replica)).await;
        }
    }
}

/// Fails if the tables have another version. An unreachable database has a defined state.
fn database(settings: &PostgresSettings, control: &Runtime) -> Result<Database, StartError> {
    let store = control.block_on(PostgresStore::open(settings, control.handle()))?;
    Ok(Database::Postgres(store))
}
