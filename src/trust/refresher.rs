//! Keeps one issuer's keys fresh: one task an issuer, in the control plane, single flight by construction.
//!
//! Fetches at 80 % of the set's time to live, and at once when a request misses a key, but never more often than every
//! [`BELIEVED_FOR`]: a stranger with random key ids must not choose our outgoing traffic.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use reqwest::Client;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};
use url::Url;

use super::discovery::{self, DiscoveryError};
use super::fetch::{self, FetchError};
use super::issuer::{IssuerSettings, KeySource};
use super::key_cache::{BELIEVED_FOR, KeyCache};
use crate::jose::key_set::{KeySet, KeySetFault};
use crate::telemetry::chain::Chain;

#[derive(Debug, thiserror::Error)]
pub(crate) enum RefreshError {
    #[error("cannot discover the JWK Set")]
    Discovery(#[from] DiscoveryError),
    #[error("cannot fetch the JWK Set")]
    Fetch(#[from] FetchError),
    #[error("the JWK Set at {url} can't be used")]
    Keys {
        url: Url,
        #[source]
        source: KeySetFault,
    },
}

const DEFAULT_TTL: Duration = Duration::from_secs(10 * 60);
const MIN_TTL: Duration = Duration::from_secs(60);
const MAX_TTL: Duration = Duration::from_secs(60 * 60);
const MAX_BACK_OFF: Duration = Duration::from_secs(60);

/// Refreshes for ever; ends only by being dropped.
pub(crate) async fn keep_fresh(settings: IssuerSettings, source: KeySource, cache: Arc<KeyCache>) {
    let mut failures = 0;
    let mut client = None;
    loop {
        let started = Instant::now();
        let (judged_from, next) = match attempt(&settings, &source, &mut client).await {
            Ok((keys, ttl)) => {
                failures = 0;
                let count = keys.len();
                // Who reads of it in the log may rely on it.
                cache.publish(keys, started, started + ttl + source.max_stale);
                info!(
                    issuer.name = settings.name.as_str(),
                    keys.count = count,
                    ttl_s = ttl.as_secs(),
                    "fetched the JWK Set"
                );
                (started, started + jittered(ttl.mul_f64(0.8)))
            }
            Err(error) => {
                failures += 1;
                let ended = Instant::now();
                cache.publish_failure(ended);
                warn!(issuer.name = settings.name.as_str(), error = %Chain(&error), "cannot refresh the JWK Set");
                (ended, ended + back_off(failures))
            }
        };
        wait(&cache, judged_from + BELIEVED_FOR, next).await;
    }
}

/// One attempt, for a tool that asks once.
pub(crate) async fn refresh_once(
    settings: &IssuerSettings,
    source: &KeySource,
    cache: &KeyCache,
) -> Result<(), RefreshError> {
    let now = Instant::now();
    match attempt(settings, source, &mut None).await {
        Ok((keys, ttl)) => {
            cache.publish(keys, now, now + ttl);
            Ok(())
        }
        Err(error) => {
            cache.publish_failure(now);
            Err(error)
        }
    }
}

/// Until `next`, or until a request misses a key from `earliest` on. The cache has requests wait from that very instant: one
/// that was not heard here would wait in vain.
async fn wait(cache: &KeyCache, earliest: Instant, next: Instant) {
    loop {
        tokio::select! {
            () = sleep_until(next) => return,
            () = cache.nudged() => if Instant::now() >= earliest { return },
        }
    }
}

async fn attempt(
    settings: &IssuerSettings,
    source: &KeySource,
    client: &mut Option<Client>,
) -> Result<(KeySet, Duration), RefreshError> {
    let client = match client {
        Some(client) => client,
        None => client.insert(fetch::client(source.ca.as_deref())?),
    };
    let url = match &source.jwks_uri {
        Some(url) => url.clone(),
        None => discovery::jwks_uri(client, settings.issuer.as_str()).await?,
    };
    let document = fetch::get(client, &url).await?;
    let mut skipped = Vec::new();
    let parsed = KeySet::parse(&document.body, &settings.algorithms, &mut skipped);
    for key in skipped {
        warn!(issuer.name = settings.name.as_str(), key.id = key.key_id, reason = %key.reason, "left a key of the JWK Set aside");
    }
    let keys = parsed.map_err(|source| RefreshError::Keys { url, source })?;
    Ok((keys, document.max_age.map_or(DEFAULT_TTL, |age| age.clamp(MIN_TTL, MAX_TTL))))
}

/// 1, 2, 4 … seconds, at most a minute.
fn back_off(failures: u32) -> Duration {
    let seconds = 1_u64 << failures.saturating_sub(1).min(6);
    jittered(Duration::from_secs(seconds).min(MAX_BACK_OFF))
}

/// ±10 %, so that many gateways don't ask at once.
fn jittered(duration: Duration) -> Duration {
    let mut byte = [128];
    // Without randomness there is no jitter, which is no harm.
    let _ = rand::fill(&mut byte);
    duration.mul_f64(0.9 + 0.2 * f64::from(byte[0]) / 255.0)
}

#[cfg(test)]
mod tests {
    use super::*;

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
                    cache.find(Some("random"), crate::jose::algorithm::Algorithm::Es256),
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
    async fn a_set_that_took_long_to_fetch_is_fetched_again_as_soon_as_it_is_not_believed_any_more() {
        let cache = Arc::new(KeyCache::remote());
        let started = Instant::now();
        tokio::time::advance(Duration::from_secs(3)).await;
        cache.publish(KeySet::default(), started, started + Duration::from_secs(600));
        let request = async {
            sleep_until(started + BELIEVED_FOR).await;
            cache.find(Some("new"), crate::jose::algorithm::Algorithm::Es256).await
        };
        tokio::select! {
            () = wait(&cache, started + BELIEVED_FOR, started + Duration::from_secs(480)) => {}
            lookup = request => panic!("waited in vain: {lookup:?}"),
        }
        assert_eq!(started.elapsed(), BELIEVED_FOR);
    }
}
