//! Reads the signing keys of a database when they have changed, when a token names an unknown one, and from time to time.

use std::time::Duration;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep_until};
use tracing::{error, info};

use crate::clock;
use crate::issuer::ring::Ring;
use crate::issuer::ring_database::{self, DatabaseRingError};
use crate::issuer::ring_store::RingSettings;
use crate::issuer::rotation;
use crate::store::database::Database;
use crate::store::sql::DatabaseChange;
use crate::telemetry::error_chain::ErrorChain;
use crate::trust::key_cache::KeyCache;

#[derive(Debug)]
pub(super) struct KeyDatabase {
    pub(super) database: Database,
    pub(super) changes: broadcast::Receiver<DatabaseChange>,
    /// The time of the next read, if there is no reason to read earlier.
    pub(super) next_read: Instant,
    pub(super) is_failing: bool,
}

/// The time between two reads, so that invented key ids cause few.
const MIN_PAUSE: Duration = Duration::from_millis(100);
/// A notification may be lost.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
const RETRY_AFTER: Duration = Duration::from_secs(5);

impl KeyDatabase {
    /// Waits until there is a reason to read.
    pub(super) async fn wait(&mut self, verifying: &KeyCache) {
        tokio::time::sleep(MIN_PAUSE).await;
        loop {
            tokio::select! {
                () = sleep_until(self.next_read) => return,
                () = verifying.wanted() => return,
                change = self.changes.recv() => match change {
                    Ok(DatabaseChange::SigningKeys | DatabaseChange::Anything) | Err(RecvError::Lagged(_)) => return,
                    Ok(DatabaseChange::Client(_)) => {}
                    // The store ends with the process.
                    Err(RecvError::Closed) => return sleep_until(self.next_read).await,
                },
            }
        }
    }

    /// The rings before and after the steps that are due, which this gateway takes. Only they need the lock.
    pub(super) async fn read(&self, settings: &RingSettings) -> Result<(Ring, Ring), DatabaseRingError> {
        let Some(keys) = &settings.wrapping_keys else { return Ok(Default::default()) };
        let ring = ring_database::read(&self.database, (settings, keys)).await?;
        let lacks_certificate = settings.x5c && ring.lacks_certificate();
        if rotation::next_step(ring.records(), &settings.rules, clock::now()).is_none() && !lacks_certificate {
            return Ok((ring.clone(), ring));
        }
        ring_database::tend(&self.database, (settings, keys), clock::now()).await
    }

    /// Plans the next read, and logs the first failure and the end of failures.
    pub(super) fn note(&mut self, error: Option<&DatabaseRingError>, settings: &RingSettings) {
        // A step is due a part of the interval before a key signs.
        let often = settings.rules.rotate_every.map_or(LONGEST_PAUSE, |every| every / 20);
        let pause = if error.is_some() { RETRY_AFTER } else { LONGEST_PAUSE };
        self.next_read = Instant::now() + pause.min(often).max(MIN_PAUSE);
        match (error, self.is_failing) {
            (Some(error), false) => error!(
                error = %ErrorChain(error),
                "cannot read or rotate the signing keys of the database: known keys sign until their intervals end"
            ),
            (None, true) => info!("the signing keys of the database are read again"),
            (Some(_), true) | (None, false) => {}
        }
        self.is_failing = error.is_some();
    }
}
