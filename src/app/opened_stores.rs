//! The stores that are opened before requests are served: revocations, uses of assertions, and the stores that replicas
//! share.

use tokio::runtime::Runtime;

use super::revocation;
use super::shared_stores::SharedStores;
use super::start_error::StartError;
use crate::config::types::Config;
use crate::trust::replay::{Replay, ReplayKeeper};
use crate::trust::revocation_keeper::Keeper;
use crate::trust::revoker::Revoker;

pub(super) struct OpenedStores {
    pub(super) keeper: Keeper,
    pub(super) revoker: Revoker,
    pub(super) replay_keeper: ReplayKeeper,
    pub(super) replay: Replay,
    pub(super) shared: SharedStores,
}

impl OpenedStores {
    pub(super) fn open(config: &Config, control: &Runtime) -> Result<Self, StartError> {
        let (mut keeper, revoker) = revocation::open(config)?;
        let (replay_keeper, replay) = ReplayKeeper::open(&config.state_directory)?;
        let mut shared = SharedStores::open(&config.shared, &config.state_directory, control)?;
        if let Some(store) = &shared.redis {
            let store = (store, config.shared.instance.heartbeat);
            let exchange = revocation::exchange(&mut keeper, &revoker, store);
            shared.exchange_with(exchange, control.handle());
        }
        let replay = replay.over_replicas(shared.redis.clone());
        Ok(Self { keeper, revoker, replay_keeper, replay, shared })
    }
}
