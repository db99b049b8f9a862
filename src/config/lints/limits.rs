//! `limit-never-reached`
//!
//! A request is counted by the limits of a list in their order, those by address first, until one refuses it. So a limit
//! sees only requests that the limits before it let through.

use super::LintInput;
use crate::config::lint::Lint;
use crate::config::source::Span;
use crate::config::warning::Warning;
use crate::pipeline::routing::rate_limit::{LimitRate, RateLimit};
use crate::trust::request_key::RequestKey;

pub(super) fn never_reached(input: &LintInput<'_>) -> Vec<Warning> {
    let routes = input.config.routes.routes().iter().zip(&input.places.routes);
    let of_routes = routes.flat_map(|(route, parts)| in_list(input, &route.limits, &parts.limits));
    let oauth = input.config.oauth.as_ref();
    let of_endpoint =
        oauth.into_iter().flat_map(|oauth| in_list(input, &oauth.token_limits, &input.places.token_limits));
    let clients = oauth.into_iter().flat_map(|oauth| oauth.clients.iter().map(move |client| (oauth, client)));
    let of_clients = clients.zip(&input.places.clients).flat_map(|((oauth, client), parts)| {
        let limits = oauth.client_limits.get(&client.id).map_or(&[][..], Vec::as_slice);
        in_list(input, limits, &parts.limits)
    });
    of_routes.chain(of_endpoint).chain(of_clients).collect()
}

fn in_list(input: &LintInput<'_>, limits: &[RateLimit], places: &[Span]) -> Vec<Warning> {
    let mut counted: Vec<(&RateLimit, Span)> = limits.iter().zip(places.iter().copied()).collect();
    // Stable: the order of the list otherwise.
    counted.sort_by_key(|(limit, _)| !limit.is_by_address());
    let mut found = Vec::new();
    for (at, (limit, place)) in counted.iter().enumerate() {
        // Other routes empty the buckets of a shared limit too.
        if limit.shared.is_some() {
            continue;
        }
        if let Some((stricter, before)) = counted[..at].iter().find(|(before, _)| leaves_nothing(before, limit)) {
            let key = if stricter.per == limit.per { "the same key" } else { "all requests together" };
            let message = format!(
                "this limit never refuses a request: the limit at line {} is counted before it, by {key}, and lets no more \
                 through; remove one of the two, or correct the rates",
                input.source.line(*before),
            );
            found.push(input.warning(Lint::LimitNeverReached, *place, message));
        }
    }
    found
}

/// Whether the requests that `before` lets through never exceed `limit`.
fn leaves_nothing(before: &RateLimit, limit: &RateLimit) -> bool {
    let counts_as_many = before.per == limit.per || before.per == RequestKey::Route;
    counts_as_many && interval(&before.rate) >= interval(&limit.rate) && before.rate.burst <= limit.rate.burst
}

/// Nanoseconds until one more request is let through.
fn interval(rate: &LimitRate) -> u128 {
    rate.period.as_nanos() / u128::from(rate.amount.get())
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::*;
    use crate::pipeline::routing::rate_limit::LimitPlace;

    fn limit(amount: u32, seconds: u64, burst: u32, per: &str) -> RateLimit {
        let number = |n| NonZeroU32::new(n).unwrap();
        let rate = LimitRate {
            amount: number(amount),
            period: Duration::from_secs(seconds),
            burst: number(burst),
            over_replicas: false,
        };
        RateLimit::new("l".to_owned(), rate, RequestKey::parse(per).unwrap(), LimitPlace(0))
    }

    #[test]
    fn a_limit_leaves_nothing_to_a_laxer_one_of_its_key() {
        let strict = limit(60, 60, 5, "client");
        for (laxer, expected) in [
            (limit(1, 1, 5, "client"), true),
            (limit(2, 1, 9, "client"), true),
            (limit(59, 60, 5, "client"), false),
            (limit(2, 1, 4, "client"), false),
            (limit(2, 1, 9, "address"), false),
            (limit(2, 1, 9, "route"), false),
        ] {
            assert_eq!(leaves_nothing(&strict, &laxer), expected, "{laxer:?}");
        }
        assert!(leaves_nothing(&limit(1, 1, 1, "route"), &limit(1, 1, 1, "claim:tenant")));
    }
}
