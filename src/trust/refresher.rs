//! Keeps one issuer's keys fresh. Each issuer has one task in the control plane, so there is never more than one fetch
//! at a time.
//!
//! Fetches after 80 % of the set's time to live, and at once if a request misses a key, but never more often than every
//! [`BELIEVED_FOR`]. Otherwise, random key ids in requests could cause any number of outgoing requests.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};
use url::Url;

use super::discovery::{self, DiscoveryError};
use super::fetch::{self, DocumentKind, FetchError, Fetcher, TOTAL_TIMEOUT};
use super::issuer::IssuerSettings;
use super::key_cache::{BELIEVED_FOR, KeyCache, MAX_TTL, MIN_TTL, Times};
use super::key_file::record_fault;
use super::key_set_file::{KeySetFile, StoredKeySet, fingerprint};
use super::key_source::{FetchedKeys, IssuerCa, KeySetPlace, KeySource, LocalKeys};
use super::progress::{FetchResult, LastError};
use crate::clock;
use crate::jose::key_set::{KeySet, KeySetFault, Skipped};
use crate::telemetry::error_chain::ErrorChain;

#[derive(Debug, thiserror::Error)]
pub(crate) enum RefreshError {
    #[error("cannot discover the JWK Set")]
    Discovery(#[from] DiscoveryError),
    #[error("cannot fetch the JWK Set")]
    Fetch(#[from] FetchError),
    #[error("the JWK Set at {url} is not usable")]
    Keys {
        url: Url,
        left_aside: Vec<Skipped>,
        #[source]
        source: KeySetFault,
    },
}

const DEFAULT_TTL: Duration = Duration::from_secs(10 * 60);
const MAX_BACK_OFF: Duration = Duration::from_secs(60);

/// The cache of an external issuer. It holds the set stored by an earlier process, if that may still be used. Blocks.
pub(crate) fn restored(settings: &IssuerSettings, source: &FetchedKeys, file: &KeySetFile) -> KeyCache {
    match file.load(settings, source, clock::now()) {
        Ok(None) => KeyCache::remote(),
        Ok(Some(kept)) => {
            let (count, age) = (kept.keys.len(), Instant::now().saturating_duration_since(kept.times.requested_at));
            info!(
                issuer.name = settings.name.as_str(),
                keys.count = count,
                age_s = age.as_secs(),
                "loaded the stored JWK Set"
            );
            let cache = KeyCache::restored(kept.keys, kept.times);
            cache.with_progress(|progress| progress.jwks_uri = Some(kept.jwks_uri));
            cache
        }
        Err(error) => {
            warn!(issuer.name = settings.name.as_str(), error = %ErrorChain(&error), "ignored the stored JWK Set: tokens of the issuer get 503 until its keys are fetched");
            KeyCache::remote()
        }
    }
}

/// Runs until it is dropped. Without a file, the set is not stored.
pub(crate) async fn keep_fresh(
    settings: IssuerSettings,
    source: FetchedKeys,
    file: Option<KeySetFile>,
    cache: Arc<KeyCache>,
) {
    let mut failures = 0;
    let mut client = None;
    let mut saving = None;
    loop {
        let (earliest, next) = match attempt(&settings, &source, &mut client).await {
            Ok(fetched) => {
                failures = 0;
                let (requested_at, ttl, kept) = (fetched.requested_at, fetched.ttl, fetched.kept(&settings, &source));
                publish(&cache, &settings, &source, fetched);
                if let Some(file) = &file {
                    save(&mut saving, &settings, file, kept);
                }
                (requested_at + BELIEVED_FOR, requested_at + jittered(ttl.mul_f64(0.8)))
            }
            Err(error) => {
                failures += 1;
                let ended = Instant::now();
                publish_failure(&cache, &error, ended);
                warn!(issuer.name = settings.name.as_str(), error = %ErrorChain(&error), "cannot refresh the JWK Set: the last known good keys are used up to `max_stale`; trying again");
                (ended + BELIEVED_FOR, ended + back_off(failures))
            }
        };
        cache.with_progress(|progress| progress.next = Some(next));
        wait(&cache, earliest, next).await;
    }
}

/// The keys of any source, for command-line tools.
pub(crate) async fn load_once(settings: &IssuerSettings, source: &KeySource) -> (KeyCache, Result<(), RefreshError>) {
    match source {
        KeySource::Fetched(source) => fetch_once(settings, source).await,
        KeySource::Local(keys) => (local_once(settings, keys), Ok(())),
        KeySource::Introspected(_) => (KeyCache::local(Arc::default()), Ok(())),
    }
}

/// The keys of the configuration or of its file. A file that cannot be used is shown in the report. Blocks.
fn local_once(settings: &IssuerSettings, keys: &LocalKeys) -> KeyCache {
    match &keys.file {
        Some(file) if keys.keys.len() == 0 => match LocalKeys::read(file.clone(), &settings.algorithms) {
            Ok(read) => local(&read),
            Err(fault) => {
                let cache = local(keys);
                record_fault(&cache, fault);
                cache
            }
        },
        Some(_) | None => local(keys),
    }
}

/// The keys after one attempt to fetch them.
pub(crate) async fn fetch_once(
    settings: &IssuerSettings,
    source: &FetchedKeys,
) -> (KeyCache, Result<(), RefreshError>) {
    let cache = KeyCache::remote();
    let result = match attempt(settings, source, &mut None).await {
        Ok(fetched) => {
            publish(&cache, settings, source, fetched);
            Ok(())
        }
        Err(error) => {
            publish_failure(&cache, &error, Instant::now());
            Err(error)
        }
    };
    (cache, result)
}

/// The cache of keys that are not fetched.
pub(crate) fn local(local: &LocalKeys) -> KeyCache {
    let cache = KeyCache::local(Arc::clone(&local.keys));
    cache.with_progress(|progress| progress.left_aside.clone_from(&local.left_aside));
    cache
}

fn publish(cache: &KeyCache, settings: &IssuerSettings, source: &FetchedKeys, fetched: Fetched) {
    let (count, ttl) = (fetched.keys.len(), fetched.ttl);
    if let Some(skew) = fetched.clock_skew.filter(|skew| skew.unsigned_abs() > settings.clock_skew.as_secs()) {
        let name = settings.name.as_str();
        warn!(
            issuer.name = name,
            skew_s = skew,
            "the issuer's clock differs from the gateway's by more than `clock_skew`: tokens may be refused as expired or not yet valid"
        );
    }
    cache.with_progress(|progress| {
        progress.count(FetchResult::Ok);
        progress.jwks_uri = Some(fetched.url);
        progress.left_aside = fetched.left_aside;
        progress.clock_skew = fetched.clock_skew;
        progress.out_of_reach = false;
    });
    cache.publish(fetched.keys, Times::new(fetched.requested_at, ttl, source.max_stale));
    // Logged after publication, so that the event means that the keys are in use.
    info!(issuer.name = settings.name.as_str(), keys.count = count, ttl_s = ttl.as_secs(), "fetched the JWK Set");
}

fn publish_failure(cache: &KeyCache, error: &RefreshError, ended: Instant) {
    cache.with_progress(|progress| {
        progress.count(error.result());
        if let RefreshError::Keys { left_aside, .. } = error {
            progress.left_aside.clone_from(left_aside);
        }
        progress.last_error = Some(LastError { text: ErrorChain(error).to_string(), at: ended });
        progress.out_of_reach = true;
    });
    cache.publish_failure(ended);
}

/// Stores a set in a separate task, one at a time: a slow disk must not block fetching. A set that is skipped because
/// of this is stored after the next fetch.
fn save(saving: &mut Option<JoinHandle<()>>, settings: &IssuerSettings, file: &KeySetFile, kept: StoredKeySet) {
    let name = settings.name.clone();
    if saving.as_ref().is_some_and(|saving| !saving.is_finished()) {
        warn!(
            issuer.name = name.as_str(),
            "did not store the JWK Set: the previous write is still running; the next fetched set is stored"
        );
        return;
    }
    let file = file.clone();
    *saving = Some(spawn_blocking(move || match file.save(&kept) {
        Ok(()) => debug!(issuer.name = name.as_str(), "stored the JWK Set"),
        Err(error) => {
            warn!(issuer.name = name.as_str(), error = %ErrorChain(&error), "cannot store the JWK Set: it is used from memory, but not after a restart; check the state directory");
        }
    }));
}

/// Waits until `next`, or until `earliest` if a request has missed a key since the last attempt ended. Requests wait in
/// the cache from the moment of the miss.
async fn wait(cache: &KeyCache, earliest: Instant, next: Instant) {
    sleep_until(earliest.min(next)).await;
    tokio::select! {
        () = sleep_until(next) => {}
        () = cache.wanted() => {}
    }
}

/// A usable set and the data received with it.
struct Fetched {
    keys: KeySet,
    left_aside: Vec<Skipped>,
    url: Url,
    /// The configured certificates that verified the issuer.
    ca: Option<Arc<Vec<u8>>>,
    document: Vec<u8>,
    ttl: Duration,
    /// Taken before the request for the set itself. The duration of the discovery does not count.
    requested_at: Instant,
    requested_at_unix: u64,
    clock_skew: Option<i64>,
}

impl Fetched {
    fn kept(&self, settings: &IssuerSettings, source: &FetchedKeys) -> StoredKeySet {
        StoredKeySet {
            issuer: settings.metadata_issuer().to_owned(),
            jwks_uri: self.url.clone(),
            discovered: source.place == KeySetPlace::Discovered,
            ca: self.ca.as_ref().map(|pem| fingerprint(pem)),
            fetched_at: self.requested_at_unix,
            ttl_s: self.ttl.as_secs(),
            document: String::from_utf8_lossy(&self.document).into_owned(),
        }
    }
}

/// A fetcher, and the certificates by which it verifies servers: with others it is made again.
struct VerifyingClient {
    fetcher: Fetcher,
    ca: Option<Arc<Vec<u8>>>,
}

async fn attempt(
    settings: &IssuerSettings,
    source: &FetchedKeys,
    client: &mut Option<VerifyingClient>,
) -> Result<Fetched, RefreshError> {
    let ca = source.ca.as_ref().map(IssuerCa::pem);
    if client.as_ref().is_some_and(|client| client.ca != ca) {
        *client = None;
    }
    let client = match client {
        Some(client) => client,
        None => {
            let issuer = Url::parse(settings.metadata_issuer()).ok();
            let (pem, first) = (ca.as_ref().map(|pem| pem.as_slice()), source.place.uri().or(issuer.as_ref()));
            let fetcher = Fetcher::new(pem, source.clear_text, &source.access, first)?;
            client.insert(VerifyingClient { fetcher, ca })
        }
    };
    let fetcher = &client.fetcher;
    let url = match &source.place {
        KeySetPlace::Uri(url) => url.clone(),
        KeySetPlace::Discovered => discovery::jwks_uri(fetcher, settings.metadata_issuer()).await?,
    };
    let (requested_at, requested_at_unix) = (Instant::now(), clock::now().seconds());
    let document = fetch::get(fetcher, &url, DocumentKind::KeySet, requested_at + TOTAL_TIMEOUT).await?;
    let mut left_aside = Vec::new();
    let parsed = KeySet::parse(&document.body, &settings.algorithms, &mut left_aside);
    for key in &left_aside {
        warn!(issuer.name = settings.name.as_str(), key.id = key.key_id, reason = %key.reason, "skipped an unusable key of the JWK Set: tokens that are signed with it are refused");
    }
    let keys = match parsed {
        Ok(keys) => keys,
        Err(source) => return Err(RefreshError::Keys { url, left_aside, source }),
    };
    let ttl = document.lifetime.map_or(DEFAULT_TTL, |age| age.clamp(MIN_TTL, MAX_TTL));
    Ok(Fetched {
        keys,
        left_aside,
        url,
        ca: client.ca.clone(),
        document: document.body,
        ttl,
        requested_at,
        requested_at_unix,
        clock_skew: document.clock_skew,
    })
}

impl RefreshError {
    fn result(&self) -> FetchResult {
        match self {
            Self::Fetch(error) => error.result(),
            Self::Discovery(error) => error.result(),
            Self::Keys { .. } => FetchResult::Keys,
        }
    }
}

/// 1, 2, 4 … seconds, at most one minute.
fn back_off(failures: u32) -> Duration {
    let seconds = 1_u64 << failures.saturating_sub(1).min(6);
    jittered(Duration::from_secs(seconds).min(MAX_BACK_OFF))
}

/// ±10 %, so that several gateways do not fetch at the same time.
fn jittered(duration: Duration) -> Duration {
    let mut byte = [128];
    // Without randomness there is no jitter. That is harmless.
    let _ = rand::fill(&mut byte);
    duration.mul_f64(0.9 + 0.2 * f64::from(byte[0]) / 255.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jose::algorithm::Algorithm;
    use crate::jose::header::KeyReference;

    #[test]
    fn back_off_doubles_up_to_a_minute() {
        for (failures, expected) in [(1, 1.0), (2, 2.0), (3, 4.0), (7, 60.0), (1000, 60.0)] {
            let seconds = back_off(failures).as_secs_f64();
            assert!((0.9 * expected..=1.1 * expected).contains(&seconds), "{failures}: {seconds}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nudges_within_five_seconds_of_an_attempt_fetch_nothing() {
        let cache = Arc::new(KeyCache::remote());
        let flood = async {
            loop {
                let _ = tokio::time::timeout(
                    Duration::from_millis(10),
                    cache.find(KeyReference::Id("random"), Algorithm::Es256),
                )
                .await;
            }
        };
        let before = Instant::now();
        tokio::select! {
            () = wait(&cache, before + BELIEVED_FOR, before + Duration::from_secs(600)) => {}
            () = flood => {}
        }
        assert!(before.elapsed() >= BELIEVED_FOR, "{:?}", before.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_set_slow_to_fetch_is_refetched_as_soon_as_it_is_too_old() {
        let cache = Arc::new(KeyCache::remote());
        let started = Instant::now();
        tokio::time::advance(Duration::from_secs(3)).await;
        cache.publish(KeySet::default(), Times::new(started, Duration::from_secs(600), Duration::ZERO));
        let request = async {
            sleep_until(started + BELIEVED_FOR).await;
            cache.find(KeyReference::Id("new"), Algorithm::Es256).await
        };
        tokio::select! {
            () = wait(&cache, started + BELIEVED_FOR, started + Duration::from_secs(480)) => {}
            lookup = request => panic!("the look-up ended without the new set: {lookup:?}"),
        }
        assert_eq!(started.elapsed(), BELIEVED_FOR);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_missed_in_a_young_set_is_fetched_when_the_set_is_old() {
        let cache = KeyCache::remote();
        let started = Instant::now();
        cache.publish(KeySet::default(), Times::new(started, Duration::from_secs(600), Duration::ZERO));
        tokio::time::advance(Duration::from_millis(10)).await;
        let lookup = cache.find(KeyReference::Id("new"), Algorithm::Es256).await;
        assert!(matches!(lookup, crate::trust::key_cache::KeyLookup::Unknown), "{lookup:?}");
        wait(&cache, started + BELIEVED_FOR, started + Duration::from_secs(480)).await;
        assert_eq!(started.elapsed(), BELIEVED_FOR);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_missed_key_a_set_is_fetched_when_its_time_has_come() {
        let cache = KeyCache::remote();
        let started = Instant::now();
        let next = started + Duration::from_secs(480);
        wait(&cache, started + BELIEVED_FOR, next).await;
        assert_eq!(Instant::now(), next);
        // A retry may be due while the set is still young.
        let retry = next + Duration::from_secs(1);
        wait(&cache, next + BELIEVED_FOR, retry).await;
        assert_eq!(Instant::now(), retry);
    }
}
