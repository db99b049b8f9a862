//! Maintains the own signing keys while the gateway runs: rotates them on schedule, and loads changes that the command
//! line or another gateway made.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::time::sleep;
use tracing::{error, info};

use super::start_error::StartError;
use crate::audit::batch::Batch;
use crate::audit::ledger::LineSender;
use crate::audit::record::Event;
use crate::clock;
use crate::config::types::Oauth;
use crate::issuer::authorization_server::{AuthorizationServer, Offloads};
use crate::issuer::client::Clients;
use crate::issuer::offload::{self, Offload};
use crate::issuer::ring::Ring;
use crate::issuer::ring_files::RingError;
use crate::issuer::ring_store::{self, JournalVersion, RingSettings};
use crate::issuer::rotation;
use crate::pipeline::routing::snapshot::OwnIssuer;
use crate::telemetry::error_chain::ErrorChain;
use crate::trust::issuer::TrustedIssuer;
use crate::trust::key_cache::KeyCache;
use crate::trust::revocation_keeper::Revoker;

/// Changes by other processes take effect within a second.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// The pause after an error.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Keeps the ring and passes its changes on.
#[derive(Debug)]
pub(super) struct RingKeeper {
    settings: RingSettings,
    /// The ring before the start.
    before: Option<Ring>,
    ring: Ring,
    version: JournalVersion,
    keys: Arc<KeyCache>,
    server: Arc<AuthorizationServer>,
}

/// Opens the own issuer.
pub(super) fn open(
    oauth: Oauth,
    revoker: Revoker,
    [signatures, passwords]: &[Runtime; 2],
) -> Result<(OwnIssuer, TrustedIssuer, RingKeeper), StartError> {
    let before = ring_store::peek(&oauth.ring)?;
    let (ring, version) = ring_store::open(&oauth.ring, clock::now())?;
    let keys = Arc::new(KeyCache::own(ring.verifying_keys()?));
    let offloads = Offloads {
        signatures: Offload::new(signatures.handle().clone(), offload::SIGNATURES),
        passwords: Offload::new(passwords.handle().clone(), offload::PASSWORDS),
    };
    let clients = Arc::new(Clients::new(oauth.clients));
    let server = Arc::new(AuthorizationServer::new(oauth.server, clients, ring.clone(), offloads));
    let trusted = TrustedIssuer { settings: oauth.trust, keys: Arc::clone(&keys) };
    let keeper = RingKeeper { settings: oauth.ring, before, ring, version, keys, server: Arc::clone(&server) };
    let Oauth { token_limits, client_limits, .. } = oauth;
    Ok((OwnIssuer { server, token_limits, client_limits, revoker }, trusted, keeper))
}

impl RingKeeper {
    /// Records the keys that were created and retired when the ring was opened.
    pub(super) fn record_start(&self, config: &str, lines: &LineSender) {
        record_changes(self.before.as_ref(), &self.ring, config, lines);
    }

    /// Runs as long as the gateway. `config` identifies the configuration in audit lines.
    pub(super) async fn keep(mut self, config: String, lines: LineSender) {
        loop {
            sleep(CHECK_INTERVAL).await;
            if let Err(error) = self.check(&config, &lines).await {
                error!(error = %ErrorChain(&error), "cannot read or rotate the signing keys: the loaded ones stay in use; trying again every 5 s");
                sleep(RETRY_AFTER).await;
            }
        }
    }

    async fn check(&mut self, config: &str, lines: &LineSender) -> Result<(), RingError> {
        // A missing folder is not made again: its keys may come back, and their tokens are still valid.
        let changed = ring_store::version(&self.settings.directory)? != self.version;
        if !changed && rotation::next_step(self.ring.records(), &self.settings.rules, clock::now()).is_none() {
            return Ok(());
        }
        let settings = self.settings.clone();
        // Blocking: making a key may take seconds.
        let opened = tokio::task::spawn_blocking(move || ring_store::open(&settings, clock::now())).await;
        // It panicked, which is logged elsewhere, or the process ends.
        let Ok(opened) = opened else { return Ok(()) };
        let (ring, version) = opened?;
        self.publish(ring, version, config, lines)
    }

    /// The verifier gets the new keys before the signer.
    fn publish(
        &mut self,
        ring: Ring,
        version: JournalVersion,
        config: &str,
        lines: &LineSender,
    ) -> Result<(), RingError> {
        self.keys.replace_own(ring.verifying_keys().map_err(RingError::Make)?);
        self.server.publish(ring.clone());
        record_changes(Some(&self.ring), &ring, config, lines);
        (self.ring, self.version) = (ring, version);
        Ok(())
    }
}

fn record_changes(before: Option<&Ring>, after: &Ring, config: &str, lines: &LineSender) {
    let (made, retired) = (only_in(Some(after), before), only_in(before, Some(after)));
    if made.is_empty() && retired.is_empty() {
        return;
    }
    let mut batch = Batch::default();
    for key_id in made {
        info!(key.id = key_id, "a signing key was created");
        Event::KeyMade(key_id).write(clock::now(), config, &mut batch);
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
