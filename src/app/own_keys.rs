//! Maintains the own signing keys while the gateway runs: rotates them on schedule, and loads changes that the command
//! line or another gateway made.

mod key_database;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use key_database::KeyDatabase;
use tokio::time::{Instant, sleep};
use tracing::{error, info, warn};

use super::process_parts::ProcessParts;
use super::start_error::StartError;
use super::tasks::{Task, TaskSubject};
use crate::audit::batch::Batch;
use crate::audit::ledger::LineSender;
use crate::audit::record::Event;
use crate::clock;
use crate::issuer::authorization_server::{AuthorizationServer, Offloads, ServerSettings};
use crate::issuer::clients::Clients;
use crate::issuer::issuer_keys::IssuerKeys;
use crate::issuer::ring::Ring;
use crate::issuer::ring_database::{self, DatabaseRingError};
use crate::issuer::ring_files::RingError;
use crate::issuer::ring_store::{self, JournalVersion, RingSettings};
use crate::issuer::rotation;
use crate::pipeline::routing::snapshot::Snapshot;
use crate::store::database::Database;
use crate::store::sql::DatabaseError;
use crate::telemetry::error_chain::ErrorChain;
use crate::trust::issuer::{IssuerSettings, TrustedIssuer};
use crate::trust::key_cache::KeyCache;
use crate::trust::replay::Replay;

/// Changes by other processes take effect within a second.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// The pause after an error.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The signing keys in use. They outlast the configuration.
#[derive(Clone, Debug)]
pub(super) struct OwnKeys {
    settings: Arc<ArcSwap<RingSettings>>,
    verifying: Arc<KeyCache>,
    signing: Arc<IssuerKeys>,
    /// Unique in the process.
    number: u64,
}

/// Keeps the ring and passes its changes on.
#[derive(Debug)]
pub(super) struct RingKeeper {
    /// The settings by which the ring was opened.
    settings: RingSettings,
    ring: Ring,
    place: RingPlace,
    keys: OwnKeys,
}

#[derive(Debug)]
enum RingPlace {
    Files(JournalVersion),
    Database(KeyDatabase),
}

/// A ring that was opened, before anything uses it.
#[derive(Debug)]
pub(super) struct OpenedRing {
    /// The ring before it was opened.
    before: Option<Ring>,
    keeper: RingKeeper,
}

impl OpenedRing {
    /// Opens the ring: makes its folder and its first key if they are missing. Blocks.
    pub(super) fn open(settings: RingSettings, parts: &ProcessParts) -> Result<Self, StartError> {
        if settings.wrapping_keys.is_some() {
            let database = parts.shared.database.clone().ok_or(StartError::NoPostgres)?;
            return parts.control.block_on(Self::open_in_database(settings, database));
        }
        let before = ring_store::peek(&settings)?;
        let (ring, version) = ring_store::open(&settings, clock::now())?;
        let keys = OwnKeys::new(&settings, &ring, Arc::new(KeyCache::own(ring.verifying_keys()?)));
        let place = RingPlace::Files(version);
        Ok(Self { before, keeper: RingKeeper { settings, ring, place, keys } })
    }

    /// If the database is unreachable, the gateway starts without keys: it answers grants and own tokens with 503.
    async fn open_in_database(settings: RingSettings, database: Database) -> Result<Self, StartError> {
        let changes = database.changes();
        let opened = match &settings.wrapping_keys {
            Some(keys) => ring_database::tend(&database, (&settings, keys), clock::now()).await,
            None => Ok(Default::default()),
        };
        let (before, ring) = match opened {
            Err(DatabaseRingError::Database(DatabaseError::Unavailable)) => {
                warn!(
                    "cannot read the signing keys: the database is unreachable, and no tokens are issued until it is reachable"
                );
                Default::default()
            }
            opened => opened?,
        };
        let verifying = Arc::new(KeyCache::in_database(ring.verifying_keys()?));
        let keys = OwnKeys::new(&settings, &ring, verifying);
        let place =
            RingPlace::Database(KeyDatabase { database, changes, next_read: Instant::now(), is_failing: false });
        Ok(Self { before: Some(before), keeper: RingKeeper { settings, ring, place, keys } })
    }

    pub(super) fn keys(&self) -> &OwnKeys {
        &self.keeper.keys
    }

    /// Records the keys that were created and retired when the ring was opened.
    pub(super) fn record_start(&self, config: &str, lines: &LineSender) {
        log_left_aside(None, &self.keeper.ring);
        record_changes((self.before.as_ref(), &self.keeper.ring), None, config, lines);
    }

    /// The task that keeps the ring. `snapshot` identifies the configuration in audit lines.
    pub(super) fn task(self, snapshot: Arc<ArcSwap<Snapshot>>, lines: LineSender) -> Task {
        let subject = self.keeper.keys.subject();
        Task::new(subject, self.keeper.keep(snapshot, lines))
    }
}

impl OwnKeys {
    fn new(settings: &RingSettings, ring: &Ring, verifying: Arc<KeyCache>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            verifying,
            signing: IssuerKeys::new(ring.clone(), settings.rules.max_age()),
            settings: Arc::new(ArcSwap::from_pointee(settings.clone())),
            number: NEXT.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// The server of a configuration that signs with these keys.
    pub(super) fn server(
        &self,
        settings: ServerSettings,
        clients: Clients,
        offloads: Offloads,
        replay: Replay,
    ) -> AuthorizationServer {
        AuthorizationServer::new(settings, Arc::new(clients), Arc::clone(&self.signing), offloads, replay)
    }

    pub(super) fn trusted(&self, settings: IssuerSettings) -> Arc<TrustedIssuer> {
        Arc::new(TrustedIssuer { settings, keys: Arc::clone(&self.verifying), introspection: None })
    }

    /// Other rules of rotation, which the keeper follows within a second.
    pub(super) fn set_settings(&self, settings: RingSettings) {
        self.settings.store(Arc::new(settings));
    }

    pub(super) fn subject(&self) -> TaskSubject {
        TaskSubject::SigningKeys(self.number)
    }
}

impl RingKeeper {
    /// Runs until it is dropped.
    async fn keep(mut self, snapshot: Arc<ArcSwap<Snapshot>>, lines: LineSender) {
        loop {
            if let RingPlace::Database(place) = &mut self.place {
                place.wait(&self.keys.verifying).await;
                self.check_database(&snapshot, &lines).await;
                continue;
            }
            sleep(CHECK_INTERVAL).await;
            if let Err(error) = self.check(&snapshot, &lines).await {
                error!(error = %ErrorChain(&error), "cannot read or rotate the signing keys: the loaded ones stay in use; trying again every 5 s");
                sleep(RETRY_AFTER).await;
            }
        }
    }

    async fn check(&mut self, snapshot: &ArcSwap<Snapshot>, lines: &LineSender) -> Result<(), RingError> {
        let RingPlace::Files(version) = &mut self.place else { return Ok(()) };
        let settings = RingSettings::clone(&self.keys.settings.load());
        // A missing folder is not made again: its keys may come back, and their tokens are still valid.
        let changed = ring_store::version(&settings.directory)? != *version || settings != self.settings;
        if !changed && rotation::next_step(self.ring.records(), &settings.rules, clock::now()).is_none() {
            return Ok(());
        }
        let by = settings.clone();
        // Blocking: making a key may take seconds.
        let opened = tokio::task::spawn_blocking(move || ring_store::open(&by, clock::now())).await;
        // It panicked, which is logged elsewhere, or the process ends.
        let Ok(opened) = opened else { return Ok(()) };
        let (ring, opened_version) = opened?;
        *version = opened_version;
        self.settings = settings;
        // The verifier gets the new keys before the signer.
        self.keys.verifying.replace_own(ring.verifying_keys().map_err(RingError::Make)?);
        self.publish(ring, None, &snapshot.load().config, lines);
        Ok(())
    }

    /// Reads the ring, and takes the steps that are due. If that fails, the known keys sign within their intervals.
    async fn check_database(&mut self, snapshot: &ArcSwap<Snapshot>, lines: &LineSender) {
        let RingPlace::Database(place) = &mut self.place else { return };
        let settings = RingSettings::clone(&self.keys.settings.load());
        let read = self.keys.verifying.begin_read();
        let checked = place.read(&settings).await;
        let checked =
            checked.and_then(|(found, ring)| Ok((ring.verifying_keys().map_err(RingError::Make)?, found, ring)));
        place.note(checked.as_ref().err(), &settings);
        match checked {
            Ok((verifying, found, ring)) => {
                self.keys.verifying.end_read(&read, Some(verifying));
                self.settings = settings;
                self.publish(ring, Some(&found), &snapshot.load().config, lines);
            }
            Err(_) => self.keys.verifying.end_read(&read, None),
        }
    }

    /// `found` is the ring of the database before this gateway changed it.
    fn publish(&mut self, ring: Ring, found: Option<&Ring>, config: &str, lines: &LineSender) {
        log_left_aside(Some(&self.ring), &ring);
        record_changes((Some(&self.ring), &ring), found, config, lines);
        // A ring that stays as it is keeps its documents.
        if self.ring != ring {
            self.keys.signing.publish(ring.clone(), self.settings.rules.max_age());
        }
        self.ring = ring;
    }
}

/// Once for each row, not at each look.
fn log_left_aside(before: Option<&Ring>, after: &Ring) {
    let known = before.map(Ring::left_aside).unwrap_or_default();
    for fault in after.left_aside().iter().filter(|fault| !known.contains(fault)) {
        error!(error = %fault, "a signing key of the database is not used: its tokens are refused; delete its row");
    }
}

/// Keys of the ring that was `found` were made by another gateway, or by the command line.
fn record_changes((before, after): (Option<&Ring>, &Ring), found: Option<&Ring>, config: &str, lines: &LineSender) {
    let (new, retired) = (only_in(Some(after), before), only_in(before, Some(after)));
    if new.is_empty() && retired.is_empty() {
        return;
    }
    let mut batch = Batch::default();
    for key_id in new {
        let event = if key_ids(found).any(|known| known == key_id) {
            info!(key.id = key_id, "a signing key was read from the database");
            Event::KeyLearned(key_id)
        } else {
            info!(key.id = key_id, "a signing key was created");
            Event::KeyMade(key_id)
        };
        event.write(clock::now(), config, &mut batch);
    }
    for key_id in retired {
        info!(key.id = key_id, "a signing key was retired");
        Event::KeyRetired(key_id).write(clock::now(), config, &mut batch);
    }
    lines.hand_over_within(batch);
}

fn only_in<'r>(ring: Option<&'r Ring>, other: Option<&Ring>) -> Vec<&'r str> {
    let known: HashSet<&str> = key_ids(other).collect();
    key_ids(ring).filter(|key_id| !known.contains(key_id)).collect()
}

fn key_ids(ring: Option<&Ring>) -> impl Iterator<Item = &str> {
    ring.into_iter().flat_map(Ring::records).map(|record| record.key_id.as_str())
}
