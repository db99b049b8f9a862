//! Opens the store of revocations before the gateway serves, and runs it on its own thread. Records revocations in the
//! audit log.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use tracing::{error, warn};

use super::background::RESTART_AFTER;
use super::start_error::StartError;
use crate::audit::batch::Batch;
use crate::audit::ledger::LineSender;
use crate::audit::record::{Event, Revocation};
use crate::clock;
use crate::config::types::Config;
use crate::issuer::ring_store;
use crate::pipeline::routing::snapshot::Snapshot;
use crate::store::redis_store::RedisStore;
use crate::telemetry::error_chain::ErrorChain;
use crate::trust::issuer::TrustedIssuer;
use crate::trust::revocation::{RevocationEntry, RevocationTarget};
use crate::trust::revocation_exchange::RevocationExchange;
use crate::trust::revocation_keeper::Keeper;
use crate::trust::revoker::Revoker;

/// The number of lines in one batch.
const LINES: usize = 500;

pub(super) fn open(config: &Config) -> Result<(Keeper, Revoker), StartError> {
    let (mut keeper, revoker) = Keeper::open(&config.state_directory, &config.revoked, clock::now())?;
    if let Some(oauth) = &config.oauth
        && !keeper.has_file()
        && ring_store::has_been_used(&oauth.ring)
    {
        warn!(
            path = %keeper.path().display(),
            "the file of revocations is missing although signing keys were made before: revoked tokens are accepted again \
             until they expire; restore the file, or retire the keys with `portcullis keys retire`"
        );
    }
    match (keeper.make_file(), config.oauth.is_some()) {
        (Ok(()), _) => {}
        (Err(error), true) => return Err(error.into()),
        // A gateway that only validates has no revocation endpoint, and its disk may be read-only.
        (Err(error), false) => {
            warn!(error = %ErrorChain(&error), "cannot create the file of revocations: `portcullis token revoke` cannot be used here")
        }
    }
    Ok((keeper, revoker))
}

/// The exchange with the other replicas.
pub(super) fn exchange(
    keeper: &mut Keeper,
    revoker: &Revoker,
    (store, heartbeat): (&RedisStore, Duration),
) -> RevocationExchange {
    let published = Arc::clone(keeper.published());
    let exchange = RevocationExchange::new(store.clone(), revoker.clone(), published, heartbeat, keeper.has_copy());
    keeper.share(Arc::clone(exchange.outbox()));
    exchange
}

pub(super) fn start(mut keeper: Keeper, snapshot: Arc<ArcSwap<Snapshot>>, lines: LineSender) -> io::Result<()> {
    let mut record = move |entries: &[RevocationEntry]| {
        let snapshot = snapshot.load();
        for entries in entries.chunks(LINES) {
            let mut batch = Batch::default();
            for entry in entries {
                let described = describe(entry, snapshot.trust.issuers());
                Event::Revocation(described).write(clock::now(), &snapshot.config, &mut batch);
            }
            lines.hand_over_within(batch);
        }
    };
    let run = move || {
        // Started again if it dies: revocations by operators must not be missed.
        while catch_unwind(AssertUnwindSafe(|| keeper.run(&mut record))).is_err() {
            error!("the thread of revocations ended because of a panic; it is started again");
            thread::park_timeout(RESTART_AFTER);
        }
    };
    thread::Builder::new().name("revocations".to_owned()).spawn(run).map(drop)
}

fn describe<'e>(entry: &'e RevocationEntry, issuers: &'e [Arc<TrustedIssuer>]) -> Revocation<'e> {
    let mut of_issuer = issuers.iter().filter(|issuer| issuer.settings.issuer.as_str() == entry.issuer);
    let known = of_issuer.next().filter(|_| of_issuer.next().is_none());
    let mut described = Revocation {
        // An issuer that is not configured, or has several entries, is named by its `iss`.
        issuer: known.map_or(&entry.issuer, |issuer| issuer.settings.name.as_str()),
        issued_before: entry.issued_before,
        ..Revocation::default()
    };
    match &entry.target {
        RevocationTarget::Token(digest) => described.token_digest = Some(digest),
        RevocationTarget::Client(client) => described.client = Some(client),
        RevocationTarget::Subject(subject) => described.subject = Some(subject),
        RevocationTarget::Issuer => {}
        RevocationTarget::Learned(rule) => described.learned = Some(rule.digest),
    }
    described
}
