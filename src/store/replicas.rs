//! The replicas that share a store: those that are alive, and those that may be cut off from the store.
//!
//! Each replica sends three heartbeats in `shared.instance.heartbeat`. A replica whose heartbeats stop without a
//! graceful shutdown is known for ten minutes: it may be cut off from the store and use its share of the limits, which
//! the others reserve for it. A replica that reconnects reports how long it was disconnected, and each limit is charged
//! for the cells that it may have spent.
//!
//! The content of the store has an epoch. An empty or replaced store gets another one, and its buckets start empty.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use redis::Script;
use redis::aio::MultiplexedConnection;
use tokio::time::{sleep_until, timeout};
use tracing::{error, info, warn};

use super::outage::{LoggedOutage, Outage};
use super::redis_store::{CallFault, RedisStore, WITHOUT_REDIS, invoke_on, within};
use super::replica_id::{ReplicaId, random_id};
use super::settings::{InstanceSettings, OnLoss};
use super::shared_state::{ReplicaCounts, SharedState};
use crate::clock;
use crate::telemetry::error_chain::ErrorChain;

/// Keeps the connection, and sends the heartbeats of this replica.
#[derive(Debug)]
pub(crate) struct ReplicaKeeper {
    store: RedisStore,
    settings: InstanceSettings,
    id: ReplicaId,
    epoch: Option<String>,
    /// The `run_id` of the server, which changes with a restart and a failover.
    server: Option<String>,
    /// Whether the server may have lost granted leases without a change of its epoch.
    may_have_forgotten: bool,
    on_loss: OnLoss,
    /// Whether cells may have been spent without the store since the last heartbeat.
    was_apart: bool,
    logged: LoggedOutage,
    /// The replicas in the store with the times of their heartbeats, to restore them in an emptied store.
    remembered: Vec<(String, String)>,
    counts: Option<ReplicaCounts>,
    pause: ConnectBackoff,
}

/// The back-off between connections. It grows if connections do not last, as with a store that is too slow or refuses
/// calls, because each change of the state empties the buckets of the limits.
#[derive(Debug)]
struct ConnectBackoff {
    last: Option<Instant>,
    length: Duration,
}

/// The answer of the store: the epoch, the numbers of alive and known replicas, and the replicas with their times.
type HeartbeatAnswer = (String, u32, u32, Vec<(String, String)>);

/// While the store is unreachable.
const PROBE_EVERY: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// A connection that lasts this long resets the back-off.
const LASTING: Duration = Duration::from_secs(10);
/// Between heartbeats, if calls have seen another epoch.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
/// Within this time after a heartbeat, limits are counted by the store again.
const UNTIL_LEASED_AGAIN: Duration = Duration::from_secs(1);
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(1);

static HEARTBEAT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("heartbeat.lua")));

impl ReplicaKeeper {
    pub(crate) fn new(store: RedisStore, settings: InstanceSettings, on_loss: OnLoss, id: ReplicaId) -> Self {
        Self {
            store,
            settings,
            id,
            epoch: None,
            server: None,
            may_have_forgotten: false,
            on_loss,
            was_apart: false,
            logged: LoggedOutage::default(),
            remembered: Vec::new(),
            counts: None,
            pause: ConnectBackoff::new(),
        }
    }

    /// Sends one heartbeat. Connects first if there is no connection.
    pub(crate) async fn beat(&mut self) {
        // Cells that were spent without the store are not known there.
        let was_lost = self.epoch.is_some() && self.store.current().is_none();
        self.was_apart |= was_lost;
        if was_lost {
            // The call that failed has logged it.
            self.logged.is_news(Outage::Unreachable);
        }
        let beaten = match self.store.current() {
            Some(connection) => match self.beat_on(&connection).await {
                Ok(()) => Some(connection),
                Err(fault) => {
                    self.store.disconnect(&connection, &fault);
                    None
                }
            },
            None => self.reconnected().await,
        };
        let Some(connection) = beaten else {
            self.was_apart = true;
            return;
        };
        if self.logged.ends() {
            info!("{} is reachable", self.store.name());
        }
        (self.was_apart, self.may_have_forgotten) = (false, false);
        self.id.forget_former();
        if let (Some(epoch), Some(replicas)) = (self.epoch.clone(), self.counts) {
            self.store.publish_reached(&connection, SharedState::Reached { epoch, replicas });
        }
    }

    /// Runs until it is dropped.
    pub(crate) async fn keep(mut self) {
        loop {
            let (is_lost, now) = (self.store.current().is_none(), clock::instant());
            if is_lost {
                sleep_until(self.pause.next(now).into()).await;
            } else {
                // A call may have seen another epoch, or lost the connection.
                tokio::select! {
                    () = sleep_until((now + self.settings.heartbeat / 3).into()) => {}
                    () = self.store.lost() => {
                        if self.store.current().is_none() {
                            continue;
                        }
                        sleep_until((now + SHORTEST_PAUSE).into()).await;
                    }
                }
            }
            if self.store.has_left() {
                return;
            }
            self.beat().await;
        }
    }

    /// The id of this replica in the store.
    pub(crate) fn id(&self) -> &str {
        self.id.own()
    }

    /// A new connection that has carried a heartbeat and is used from now on.
    async fn reconnected(&mut self) -> Option<Arc<MultiplexedConnection>> {
        self.pause.connects(clock::instant());
        match self.connect_and_beat().await {
            Ok(connection) => {
                self.store.set_refused(false);
                self.store.use_connection(Arc::clone(&connection));
                Some(connection)
            }
            Err(fault) => {
                self.pause.record_failure();
                self.log(&fault);
                None
            }
        }
    }

    fn log(&mut self, fault: &CallFault) {
        let (outage, name) = (fault.outage(), self.store.name());
        self.store.set_refused(outage == Outage::Refused);
        if !self.logged.is_news(outage) {
            return;
        }
        let error = ErrorChain(fault);
        match outage {
            Outage::Unreachable => warn!(%error, "{name} is unreachable: {WITHOUT_REDIS}; trying again every second"),
            Outage::Refused if fault.is_refused_login() => error!(
                %error,
                "{name} refuses the user or the password: check `shared.redis.username` and `password`; trying again \
                 every second"
            ),
            Outage::Refused => error!(
                %error,
                "{name} refuses a right of its user: `portcullis check --connect` names the missing right; trying again \
                 every second"
            ),
        }
    }

    async fn connect_and_beat(&mut self) -> Result<Arc<MultiplexedConnection>, CallFault> {
        let connection = Arc::new(self.store.connect().await?);
        let server = self.store.server_of(&connection).await?;
        within(
            HEARTBEAT_TIMEOUT,
            HEARTBEAT.prepare_invoke().load_async(&mut MultiplexedConnection::clone(&connection)),
        )
        .await?;
        // A store that is too slow for requests must not get a heartbeat: the others would count this replica as alive,
        // while it takes its share of the limits without the store.
        self.store.ping(&connection).await?;
        // Without a `run_id`, the server may have been restarted.
        self.may_have_forgotten |= self.epoch.is_some() && (server.is_none() || server != self.server);
        self.server = server;
        self.beat_on(&connection).await?;
        Ok(connection)
    }

    async fn beat_on(&mut self, connection: &MultiplexedConnection) -> Result<(), CallFault> {
        let known = self.epoch.clone().unwrap_or_default();
        let (owed, new_epoch) = (self.owed().as_micros().to_string(), random_id());
        let alive_ms = self.settings.heartbeat.as_millis().to_string();
        let (most, former) = (self.settings.most.to_string(), self.id.former().join(" "));
        let forgotten = if self.may_have_forgotten { "1" } else { "0" };
        let fixed = [self.id.own(), &known, &new_epoch, &owed, forgotten, &alive_ms, &most, &former];
        let members = self.remembered.iter().flat_map(|(id, time)| [id.clone(), time.clone()]);
        let arguments = fixed.into_iter().map(ToOwned::to_owned).chain(members).collect();
        let keys = ["epoch", "replicas"].map(|name| self.store.key(name)).to_vec();
        let beat =
            within(HEARTBEAT_TIMEOUT, invoke_on::<HeartbeatAnswer>(connection.clone(), &HEARTBEAT, keys, arguments))
                .await?;
        self.learn(beat);
        Ok(())
    }

    /// The longest time in which a bucket refills with the cells that this replica may have spent without the store.
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

    fn learn(&mut self, (epoch, alive, known, members): HeartbeatAnswer) {
        let alive = alive.max(1);
        let counts = ReplicaCounts { alive, known: known.max(alive) };
        match &self.epoch {
            Some(before) if *before != epoch => {
                warn!("{} was emptied or replaced: the buckets of rate limits start empty", self.store.name());
            }
            Some(_) | None => {}
        }
        if self.counts != Some(counts) {
            info!(replicas.alive = counts.alive, replicas.known = counts.known, "the number of replicas changed");
            if counts.known > self.settings.most {
                error!(
                    replicas.known = counts.known,
                    "more replicas share Redis than `shared.instance.most`: raise it"
                );
            }
        }
        (self.epoch, self.counts, self.remembered) = (Some(epoch), Some(counts), members);
    }
}

impl ConnectBackoff {
    fn new() -> Self {
        Self { last: None, length: PROBE_EVERY }
    }

    /// The time of the next connection, if the last one is found to be lost now.
    fn next(&mut self, now: Instant) -> Instant {
        let Some(last) = self.last else { return now };
        if now.saturating_duration_since(last) >= LASTING {
            self.length = PROBE_EVERY;
        }
        last + self.length
    }

    fn connects(&mut self, now: Instant) {
        if self.last.replace(now).is_some() {
            self.length = (self.length * 2).min(LONGEST_PAUSE);
        }
    }

    /// An unreachable store is tried every second.
    fn record_failure(&mut self) {
        self.length = PROBE_EVERY;
    }
}

/// Removes a replica that shuts down gracefully, so that the others take over its share at once.
pub(crate) async fn leave(store: &RedisStore, id: String) {
    // A later heartbeat would add it again.
    store.ends();
    let key = store.key("replicas");
    let removed = store.call(async move |mut connection| {
        redis::cmd("ZREM").arg(key).arg(id).query_async::<u32>(&mut connection).await
    });
    // If this fails, the others reserve its share for ten minutes.
    let _ = timeout(HEARTBEAT_TIMEOUT, removed).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unreachable_store_is_tried_every_second() {
        let (mut pause, now) = (ConnectBackoff::new(), clock::instant());
        assert_eq!(pause.next(now), now, "the first loss");
        for second in 0..20 {
            pause.connects(now + Duration::from_secs(second));
            pause.record_failure();
            assert_eq!(pause.next(now + Duration::from_secs(second)), now + Duration::from_secs(second + 1));
        }
    }

    #[test]
    fn connections_that_do_not_last_are_made_less_often() {
        let (mut pause, mut now) = (ConnectBackoff::new(), clock::instant());
        let mut pauses = Vec::new();
        for _ in 0..6 {
            pause.connects(now);
            let next = pause.next(now + Duration::from_millis(3));
            pauses.push((next - now).as_secs());
            now = next;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 8, 8]);
        let later = now + LASTING;
        assert!(pause.next(later) <= later, "after a connection that lasted");
    }
}
