//! `rate_limits`, of routes and of the token endpoint.

use std::num::NonZeroU32;
use std::time::Duration;

use super::super::raw::route::RawRateLimit;
use super::super::source::At;
use super::Resolver;
use crate::pipeline::routing::rate_limit::{LimitPlace, LimitRate, MAX_LIMITS, RateLimit};
use crate::trust::request_key::RequestKey;

/// Within the range of the arithmetic of limits.
const LONGEST_REFILL: Duration = Duration::from_secs(3650 * 24 * 3600);

impl Resolver<'_> {
    /// A public route has no caller, so its limits cannot count by one.
    pub(super) fn rate_limits(&mut self, raw: &[At<RawRateLimit>], public: bool) -> Vec<RateLimit> {
        if let Some(beyond) = raw.get(MAX_LIMITS) {
            self.faults.at(beyond.span, format!("expected at most {MAX_LIMITS} rate limits"));
        }
        let mut limits: Vec<RateLimit> = Vec::new();
        for limit in raw {
            let limit = &limit.value;
            let (Ok(rate), Ok(key)) = (&limit.rate, &limit.per) else { continue };
            let burst = match &limit.burst {
                Some(burst) => NonZeroU32::new(burst.value.get()).unwrap_or(rate.value.count),
                None => rate.value.count,
            };
            let Some(per) = self.per(key, public) else { continue };
            let refill = rate.value.per.as_secs_f64() / f64::from(rate.value.count.get()) * f64::from(burst.get());
            if refill > LONGEST_REFILL.as_secs_f64() {
                let span = limit.burst.as_ref().map_or(rate.span, |burst| burst.span);
                self.faults.at(
                    span,
                    "at this rate the bucket would take more than 3650d to fill: raise the rate, or lower `burst`",
                );
                continue;
            }
            let rate = LimitRate { amount: rate.value.count, period: rate.value.per, burst };
            let name = unique_name(&key.value, &limits);
            limits.push(self.rate_limit(name, rate, per));
        }
        limits
    }

    pub(super) fn rate_limit(&mut self, name: String, rate: LimitRate, per: RequestKey) -> RateLimit {
        let place = LimitPlace(self.limit_rates.len());
        self.limit_rates.push(rate);
        RateLimit::new(name, rate, per, place)
    }

    pub(super) fn per(&mut self, key: &At<RequestKey>, public: bool) -> Option<RequestKey> {
        if public && key.value.needs_caller() {
            self.faults.at(key.span, "a public route has no caller: count by `address`, `route` or `header:NAME`");
        }
        Some(key.value.clone())
    }
}

/// The name of the limit in responses: printable ASCII without quotes, and unique in its list.
fn unique_name(key: &RequestKey, others: &[RateLimit]) -> String {
    let legal = |c: char| if c.is_ascii_graphic() && c != '"' && c != '\\' { c } else { '?' };
    let name: String = key.to_string().chars().map(legal).collect();
    let taken = |name: &str| others.iter().any(|other| other.name == name);
    if !taken(&name) {
        return name;
    }
    (2..).map(|number| format!("{name}-{number}")).find(|name| !taken(name)).unwrap_or(name)
}
