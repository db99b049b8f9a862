//! Logs the refusals by limits, with the keys to change, so that an operator need not search for them.
//!
//! The data plane only counts. A flood makes one log event in a period.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::oauth::identity::Identity;
use crate::pipeline::routing::rate_limit::{LimitPlace, RateLimit};
use crate::pipeline::routing::snapshot::{OwnIssuer, Snapshot};
use crate::server::connection_limiter::{ConnectionLimiter, Counts};

const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Rate limits refuse requests in normal operation too.
const CHECKS_BETWEEN_RATE_LIMITS: u32 = 10;

/// Runs as long as the gateway.
pub(super) async fn log(limiter: Arc<ConnectionLimiter>, snapshot: Arc<ArcSwap<Snapshot>>) {
    let mut connections = RefusedConnections::default();
    let mut requests = RefusedRequests { checks_since: CHECKS_BETWEEN_RATE_LIMITS };
    loop {
        sleep(CHECK_INTERVAL).await;
        if let Some(count) = connections.since_last(&limiter.counts()) {
            let last = limiter.counts().last_refused.map(|address| address.to_string());
            warn!(
                count,
                client.address = last,
                limit = "connections_per_address",
                "connections were refused: their address has as many as it may; raise `limits.connections_per_address`, \
                 or list the address in `trusted_proxies` if it is a proxy"
            );
        }
        let snapshot = snapshot.load_full();
        if let Some(RefusedByLimit { place, count, total }) =
            requests.since_last(|| snapshot.limit_store.take_refused())
        {
            let (limit, key) = name(&snapshot, place);
            info!(
                count = total,
                limit,
                limit.count = count,
                key,
                "rate limits refused requests; the most by this limit"
            );
        }
    }
}

#[derive(Debug, Default)]
struct RefusedConnections {
    logged: u64,
}

impl RefusedConnections {
    fn since_last(&mut self, counts: &Counts) -> Option<u64> {
        let before = std::mem::replace(&mut self.logged, counts.refused);
        counts.refused.checked_sub(before).filter(|count| *count > 0)
    }
}

/// The requests that rate limits have refused.
#[derive(Debug)]
struct RefusedRequests {
    checks_since: u32,
}

/// The limit that refused the most requests, and the number over all limits.
#[derive(Debug, PartialEq, Eq)]
struct RefusedByLimit {
    place: LimitPlace,
    count: u64,
    total: u64,
}

impl RefusedRequests {
    /// `None` if there are none, or if the last event is too recent: then they are in a later one.
    fn since_last<I: Iterator<Item = (LimitPlace, u64)>>(
        &mut self,
        refused: impl FnOnce() -> I,
    ) -> Option<RefusedByLimit> {
        self.checks_since = self.checks_since.saturating_add(1);
        if self.checks_since < CHECKS_BETWEEN_RATE_LIMITS {
            return None;
        }
        let mut most: Option<RefusedByLimit> = None;
        let mut total = 0;
        for (place, count) in refused() {
            total += count;
            if count > most.as_ref().map_or(0, |most| most.count) {
                most = Some(RefusedByLimit { place, count, total: 0 });
            }
        }
        let most = most?;
        self.checks_since = 0;
        Some(RefusedByLimit { total, ..most })
    }
}

/// The name of a limit, and the key that configures it.
fn name(snapshot: &Snapshot, place: LimitPlace) -> (String, String) {
    let find = |limits: &'_ [RateLimit], key: &dyn Fn() -> String| {
        let limit = limits.iter().find(|limit| limit.place == place)?;
        let key = limit.shared.as_ref().map_or_else(key, |name| format!("rate_limits.{name}"));
        Some((limit.name.clone(), key))
    };
    let of_routes = || {
        let mut routes = snapshot.routes.routes().iter();
        routes.find_map(|route| find(&route.limits, &|| format!("rate_limits of route {}", route.name)))
    };
    let of_oauth = |oauth: &OwnIssuer| {
        let endpoint = find(&oauth.token_limits, &|| "oauth.token_endpoint.rate_limits".to_owned());
        let key = |client: &Identity| format!("oauth.clients.{}.rate_limits", client.as_str());
        let mut clients = oauth.client_limits.iter();
        endpoint.or_else(|| clients.find_map(|(client, limits)| find(limits, &|| key(client))))
    };
    let of_static = || find(snapshot.static_token_failures.as_slice(), &|| "static_tokens".to_owned());
    of_routes().or_else(of_static).or_else(|| of_oauth(snapshot.oauth.as_ref()?)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_connections_are_logged_once_with_their_number() {
        let counts = |refused| Counts { taken: 0, by_worker: Vec::new(), refused, last_refused: None, shortages: 0 };
        let mut connections = RefusedConnections::default();
        let logged = [0, 3, 3, 10].map(|refused| connections.since_last(&counts(refused)));
        assert_eq!(logged, [None, Some(3), None, Some(7)]);
    }

    #[test]
    fn the_limit_that_refused_the_most_is_named_once_in_a_period() {
        let mut requests = RefusedRequests { checks_since: CHECKS_BETWEEN_RATE_LIMITS };
        let mut logged = |refused: [u64; 3]| {
            requests.since_last(|| refused.into_iter().enumerate().map(|(place, count)| (LimitPlace(place), count)))
        };
        assert_eq!(logged([0, 0, 0]), None);
        let first = RefusedByLimit { place: LimitPlace(1), count: 5, total: 7 };
        assert_eq!(logged([2, 5, 0]), Some(first));
        for _ in 1..CHECKS_BETWEEN_RATE_LIMITS {
            assert_eq!(logged([0, 0, 9]), None, "they are counted on");
        }
        let second = RefusedByLimit { place: LimitPlace(2), count: 11, total: 12 };
        assert_eq!(logged([1, 0, 11]), Some(second));
    }
}
