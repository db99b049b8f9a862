//! Keeps held clients up to date: reads changed clients at once, and all others within a minute.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::StoredClients;
use crate::clock;
use crate::store::sql::DatabaseChange;

/// With a round each second and the time that a round takes, a client is read again within 60 s.
const READ_AGAIN: Duration = Duration::from_secs(40);
const ROUND: Duration = Duration::from_secs(1);
const AT_THE_SAME_TIME: usize = 8;

impl StoredClients {
    /// Runs as long as its configuration is in use.
    pub(crate) async fn keep(self: Arc<Self>) {
        let mut changes = self.table.changes();
        // Earlier changes were not received.
        self.all_changed();
        let rounds = self.rounds();
        let told = async {
            loop {
                match changes.recv().await {
                    Ok(DatabaseChange::Client(id)) => self.client_changed(&id),
                    Ok(DatabaseChange::Anything) | Err(RecvError::Lagged(_)) => self.all_changed(),
                    Ok(DatabaseChange::SigningKeys) => {}
                    Err(RecvError::Closed) => return std::future::pending::<()>().await,
                }
            }
        };
        tokio::join!(told, rounds);
    }

    /// The client with this id was changed or deleted.
    pub(super) fn client_changed(self: &Arc<Self>, id: &str) {
        self.subjects.client_changed();
        let mut under_way = self.under_way();
        self.held.forget_absent(id);
        if let Some(look_up) = under_way.get_mut(id) {
            look_up.is_outdated = true;
            return;
        }
        drop(under_way);
        if self.held.peek(id).is_some() {
            self.held.mark_due(id);
            // If there are too many look-ups, or the database is unreachable, the next round reads it.
            let _ = self.begun(id);
        }
    }

    /// Changes may have been missed.
    pub(super) fn all_changed(&self) {
        self.subjects.client_changed();
        let mut under_way = self.under_way();
        self.held.forget_all_absent();
        under_way.values_mut().for_each(|look_up| look_up.is_outdated = true);
        drop(under_way);
        self.held.mark_all_due();
        self.read_again.notify_one();
    }

    async fn rounds(self: &Arc<Self>) {
        let mut ticks = interval(ROUND);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.read_again.notified() => {}
            }
            let now = clock::instant();
            self.held.remove_stale(now, self.stale);
            self.read_due(now).await;
        }
    }

    /// Ends early if the database is unreachable. The next round begins with the oldest again.
    async fn read_due(self: &Arc<Self>, now: Instant) {
        let due = self.held.due(now, READ_AGAIN);
        if due.is_empty() {
            return;
        }
        let due = Arc::new(Mutex::new(due.into_iter()));
        let mut readers = JoinSet::new();
        for _ in 0..AT_THE_SAME_TIME {
            let (this, due) = (Arc::clone(self), Arc::clone(&due));
            readers.spawn(async move {
                loop {
                    let next = due.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some(id) = next else { return };
                    if this.look_up(&id).await.is_err() {
                        return;
                    }
                }
            });
        }
        readers.join_all().await;
    }
}
