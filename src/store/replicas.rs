//! The replicas that share a store: which are alive, and which were heard of not long ago.
//!
//! Each replica says every third of a heartbeat that it is alive. A replica that falls silent without an end in order is
//! known for ten minutes: it may be cut off from the store and spend its share of the limits, which the others leave to
//! it. A replica that comes back says for how long it was apart, and each limit loses what it may have spent.
//! The store's content has an epoch. An empty or replaced store gets another one, and limits start without burst in it.

use std::sync::LazyLock;
use std::time::Duration;

use aws_lc_rs::rand;
use base64::Engine as _;
use redis::Script;
use redis::aio::MultiplexedConnection;
use std::sync::Arc;
use tokio::time::{sleep, timeout};
use tracing::{error, info, warn};

use super::redis_store::{CallFault, RedisStore, invoke_on, within};
use super::settings::{InstanceSettings, OnLoss};
use super::shared_state::{ReplicaCounts, SharedState};
use crate::clock;
use crate::jose::BASE64URL;
use crate::telemetry::error_chain::ErrorChain;

/// Keeps the connection, and this replica's place among the others.
#[derive(Debug)]
pub(crate) struct ReplicaKeeper {
    store: RedisStore,
    settings: InstanceSettings,
    /// In the store. Random at each start.
    id: String,
    epoch: Option<String>,
    on_loss: OnLoss,
    /// Whether cells may have been spent without the store since the last heartbeat.
    was_apart: bool,
    is_failing: bool,
    /// The members of the store with their times, to be known in a store that was emptied.
    remembered: Vec<(String, String)>,
    counts: Option<ReplicaCounts>,
}

/// What the store says: the epoch, the number of replicas that are alive and known, and members with times.
type Beat = (String, u32, u32, Vec<(String, String)>);

/// While the store is away.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// From a heartbeat on, limits are counted by the store again within this time.
const UNTIL_LEASED_AGAIN: Duration = Duration::from_secs(1);
const BEAT_TIMEOUT: Duration = Duration::from_secs(1);
const ID_BYTES: usize = 16;

static HEARTBEAT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("heartbeat.lua")));

impl ReplicaKeeper {
    pub(crate) fn new(store: RedisStore, settings: InstanceSettings, on_loss: OnLoss) -> Self {
        let (id, was_apart, is_failing) = (random_id(), false, false);
        Self { store, settings, id, epoch: None, on_loss, was_apart, is_failing, remembered: Vec::new(), counts: None }
    }

    /// One heartbeat. Connects before if there is no connection.
    pub(crate) async fn beat(&mut self) {
        // What was spent without the store is not known there.
        let was_lost = self.epoch.is_some() && self.store.current().is_none();
        self.was_apart |= was_lost;
        let beaten = match self.store.current() {
            Some(connection) => self.beat_on(&connection).await.map_err(|fault| self.store.lose(&connection, &fault)),
            None => match self.connect_and_beat().await {
                Ok(connection) => {
                    self.store.use_connection(connection);
                    Ok(())
                }
                Err(fault) => {
                    if !std::mem::replace(&mut self.is_failing, true) {
                        warn!(error = %ErrorChain(&fault), "the shared store cannot be reached; trying again every second");
                    }
                    Err(())
                }
            },
        };
        if beaten.is_err() {
            self.was_apart = true;
            return;
        }
        if std::mem::replace(&mut self.is_failing, false) || was_lost {
            info!("the shared store is reached");
        }
        self.was_apart = false;
        if let (Some(epoch), Some(replicas)) = (self.epoch.clone(), self.counts) {
            self.store.publish(SharedState::Reached { epoch, replicas });
        }
    }

    /// Runs until it is dropped.
    pub(crate) async fn keep(mut self) {
        loop {
            let is_lost = self.store.current().is_none();
            let pause = if is_lost { PROBE_EVERY } else { self.settings.heartbeat / 3 };
            tokio::select! {
                () = sleep(pause) => {}
                () = self.store.lost() => {}
            }
            self.beat().await;
        }
    }

    /// The id of this replica in the store.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    async fn connect_and_beat(&mut self) -> Result<Arc<MultiplexedConnection>, CallFault> {
        let connection = Arc::new(self.store.connect().await?);
        self.beat_on(&connection).await?;
        Ok(connection)
    }

    async fn beat_on(&mut self, connection: &MultiplexedConnection) -> Result<(), CallFault> {
        let known = self.epoch.clone().unwrap_or_default();
        let owed = self.owed().as_micros().to_string();
        let alive_ms = self.settings.heartbeat.as_millis().to_string();
        let fixed = [&self.id, &known, &random_id(), &owed, &alive_ms, &self.settings.most.to_string()];
        let members = self.remembered.iter().flat_map(|(id, time)| [id.clone(), time.clone()]);
        let arguments = fixed.into_iter().map(ToOwned::to_owned).chain(members).collect();
        let keys = ["epoch", "replicas"].map(|name| self.store.key(name)).to_vec();
        let beat = within(BEAT_TIMEOUT, invoke_on::<Beat>(connection.clone(), &HEARTBEAT, keys, arguments)).await?;
        self.learn(beat);
        Ok(())
    }

    /// The time in which each limit fills by what this replica may have spent since the store was lost, at most.
    fn owed(&self) -> Duration {
        if !self.was_apart {
            return Duration::ZERO;
        }
        let apart = clock::instant().saturating_duration_since(self.store.lost_at()) + UNTIL_LEASED_AGAIN;
        match self.on_loss {
            OnLoss::Share => apart / self.counts.map_or(self.settings.most, |counts| counts.known).max(1),
            OnLoss::Local => apart,
            OnLoss::Deny => Duration::ZERO,
        }
    }

    fn learn(&mut self, (epoch, alive, known, members): Beat) {
        let alive = alive.max(1);
        let counts = ReplicaCounts { alive, known: known.max(alive) };
        match &self.epoch {
            Some(before) if *before != epoch => {
                warn!("the shared store was emptied or replaced: rate limits start without burst");
            }
            Some(_) | None => {}
        }
        if self.counts != Some(counts) {
            info!(replicas.alive = counts.alive, replicas.known = counts.known, "the replicas of the shared store");
            if counts.known > self.settings.most {
                error!(
                    replicas.known = counts.known,
                    "more replicas share the store than `shared.instance.most` says: raise it"
                );
            }
        }
        (self.epoch, self.counts, self.remembered) = (Some(epoch), Some(counts), members);
    }
}

/// Removes a replica that ends in order, so that the others take its share at once.
pub(crate) async fn leave(store: &RedisStore, id: String) {
    let key = store.key("replicas");
    let removed = store.call(async move |mut connection| {
        redis::cmd("ZREM").arg(key).arg(id).query_async::<u32>(&mut connection).await
    });
    // If it fails, its share is withheld for ten minutes.
    let _ = timeout(BEAT_TIMEOUT, removed).await;
}

fn random_id() -> String {
    let mut bytes = [0; ID_BYTES];
    // Without random bytes all replicas would count as one. A process without them cannot make keys either.
    if rand::fill(&mut bytes).is_err() {
        error!("there are no random bytes for the id of this replica");
    }
    BASE64URL.encode(bytes)
}
