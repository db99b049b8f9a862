//! `rate_limits`: of routes, of the token endpoint, of clients, and those that routes share.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::Duration;

use super::super::decode::{Named, Required};
use super::super::lint::Lint;
use super::super::raw::rate_limit::{RawClientLimit, RawLimitUse, RawRateLimit};
use super::super::source::{At, Span};
use super::super::values::{PositiveCount, RatePerPeriod};
use super::Resolver;
use crate::pipeline::routing::rate_limit::{LimitPlace, LimitRate, MAX_LIMITS, RateLimit, client_limit_name};
use crate::trust::request_key::RequestKey;

/// Within the range of the arithmetic of limits.
const LONGEST_REFILL: Duration = Duration::from_secs(3650 * 24 * 3600);

/// The limits of the top level.
#[derive(Debug, Default)]
pub(in crate::config) struct SharedLimits {
    /// In the order of the file.
    limits: Vec<SharedLimit>,
    by_name: HashMap<String, usize>,
    /// False if a name could not be read. Then an unknown name is not reported.
    are_complete: bool,
}

#[derive(Debug)]
struct SharedLimit {
    name: At<String>,
    /// `None` if it could not be resolved. The fault has been reported.
    resolved: Option<(LimitRate, RequestKey, LimitPlace)>,
    is_used: bool,
}

/// Where a limit counts, which decides the keys that it can count by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CountedAt {
    ProtectedRoute,
    /// There is no caller.
    PublicRoute,
    /// The client is not known yet.
    TokenEndpoint,
}

impl CountedAt {
    /// Why a limit cannot count by this key here.
    fn objection(self, key: &RequestKey) -> Option<&'static str> {
        match self {
            Self::PublicRoute if key.needs_caller() => {
                Some("a public route has no caller: count by `address`, `route` or `header:NAME`")
            }
            Self::TokenEndpoint if *key != RequestKey::Address => {
                Some("expected `address`: the client of a token request is not known yet")
            }
            Self::ProtectedRoute | Self::PublicRoute | Self::TokenEndpoint => None,
        }
    }
}

impl Resolver<'_> {
    pub(super) fn shared_limits(&mut self, raw: Named<RawRateLimit>) {
        self.shared_limits.are_complete = raw.complete;
        for (name, limit) in raw.entries {
            if !is_limit_name(&name.value) {
                let message = "expected a name of printable ASCII without spaces, quotes and backslashes that does not begin with `(`";
                self.faults.at(name.span, message);
            }
            let resolved = limit.ok().and_then(|limit| {
                let RawRateLimit { rate, burst, shared, .. } = &limit.value;
                let rate = self.rate(rate, burst.as_ref(), shared.as_ref())?;
                let per = limit.value.per.ok()?.value;
                Some((rate, per, self.place(rate)))
            });
            let shared = &mut self.shared_limits;
            shared.by_name.insert(name.value.clone(), shared.limits.len());
            shared.limits.push(SharedLimit { name, resolved, is_used: false });
        }
    }

    /// To be called when all uses have been resolved.
    pub(super) fn warn_of_unused_limits(&mut self) {
        let unused = self.shared_limits.limits.iter().filter(|limit| !limit.is_used);
        let names: Vec<At<String>> = unused.map(|limit| limit.name.clone()).collect();
        for name in names {
            let message = format!("no route names the rate limit `{}`: it limits nothing", name.value);
            self.warn(Lint::UnusedRateLimit, name.span, message);
        }
    }

    pub(super) fn rate_limits(&mut self, raw: &[At<RawLimitUse>], counted_at: CountedAt) -> Vec<RateLimit> {
        self.at_most_limits(raw);
        let mut limits: Vec<RateLimit> = Vec::new();
        for item in raw {
            let limit = match &item.value {
                RawLimitUse::Own(limit) => self.own_limit(limit, counted_at, &limits),
                RawLimitUse::Shared(name) => self.shared_limit(name, item.span, counted_at, &limits),
            };
            limits.extend(limit);
        }
        limits
    }

    /// The limits of a client. Each has one bucket.
    pub(super) fn client_limits(&mut self, raw: &[At<RawClientLimit>]) -> Vec<RateLimit> {
        self.at_most_limits(raw);
        let mut rate = |limit: &At<RawClientLimit>| {
            let RawClientLimit { rate, burst, shared } = &limit.value;
            self.rate(rate, burst.as_ref(), shared.as_ref())
        };
        let rates: Vec<LimitRate> = raw.iter().filter_map(&mut rate).collect();
        let limit = |(index, rate)| self.rate_limit(client_limit_name(index), rate, RequestKey::Route);
        rates.into_iter().enumerate().map(limit).collect()
    }

    pub(super) fn rate_limit(&mut self, name: String, rate: LimitRate, per: RequestKey) -> RateLimit {
        let place = self.place(rate);
        RateLimit::new(name, rate, per, place)
    }

    fn own_limit(&mut self, raw: &RawRateLimit, counted_at: CountedAt, others: &[RateLimit]) -> Option<RateLimit> {
        let key = raw.per.as_ref().ok()?;
        if let Some(objection) = counted_at.objection(&key.value) {
            self.faults.at(key.span, objection);
        }
        let rate = self.rate(&raw.rate, raw.burst.as_ref(), raw.shared.as_ref())?;
        Some(self.rate_limit(unique_name(&key.value.to_string(), others), rate, key.value.clone()))
    }

    /// All routes that name it count in the same buckets.
    fn shared_limit(
        &mut self,
        name: &str,
        span: Span,
        counted_at: CountedAt,
        others: &[RateLimit],
    ) -> Option<RateLimit> {
        let shared = &mut self.shared_limits;
        let Some(limit) = shared.by_name.get(name).and_then(|index| shared.limits.get_mut(*index)) else {
            if shared.are_complete {
                let known: Vec<String> = shared.limits.iter().map(|limit| limit.name.value.clone()).collect();
                self.unknown("rate limit", &At { value: name.to_owned(), span }, &known);
            }
            return None;
        };
        limit.is_used = true;
        let (rate, per, place) = limit.resolved.clone()?;
        if others.iter().any(|other| other.place == place) {
            self.faults.at(span, "this limit is listed twice");
        }
        if let Some(objection) = counted_at.objection(&per) {
            self.faults.at(span, format!("this limit counts by `{per}`: {objection}"));
        }
        Some(RateLimit { shared: Some(name.into()), ..RateLimit::new(unique_name(name, others), rate, per, place) })
    }

    fn at_most_limits<T>(&mut self, raw: &[At<T>]) {
        if let Some(beyond) = raw.get(MAX_LIMITS) {
            self.faults.at(beyond.span, format!("expected at most {MAX_LIMITS} rate limits"));
        }
    }

    fn rate(
        &mut self,
        rate: &Required<RatePerPeriod>,
        burst: Option<&At<PositiveCount>>,
        shared: Option<&At<bool>>,
    ) -> Option<LimitRate> {
        if let Some(shared) = shared.filter(|shared| shared.value && !self.has_shared_store) {
            let message = "there is no `shared.redis` by which replicas could count together: remove this, or add it";
            self.faults.at(shared.span, message);
        }
        let over_replicas = shared.map_or(self.has_shared_store, |shared| shared.value);
        let rate = rate.as_ref().ok()?;
        let RatePerPeriod { count, per } = rate.value;
        let size = burst.and_then(|burst| NonZeroU32::new(burst.value.get())).unwrap_or(count);
        let refill = per.as_secs_f64() / f64::from(count.get()) * f64::from(size.get());
        if refill > LONGEST_REFILL.as_secs_f64() {
            self.faults.at(
                burst.map_or(rate.span, |burst| burst.span),
                "at this rate the bucket would take more than 3650d to fill: raise the rate, or lower `burst`",
            );
            return None;
        }
        Some(LimitRate { amount: count, period: per, burst: size, over_replicas })
    }

    fn place(&mut self, rate: LimitRate) -> LimitPlace {
        let place = LimitPlace(self.limit_rates.len());
        self.limit_rates.push(rate);
        place
    }
}

/// Printable in a `RateLimit` field, and different from the names of the gateway's own limits.
fn is_limit_name(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\') && !name.starts_with('(')
}

/// The name of the limit in responses: printable ASCII without quotes, and unique in its list.
fn unique_name(text: &str, others: &[RateLimit]) -> String {
    let legal = |c: char| if c.is_ascii_graphic() && c != '"' && c != '\\' { c } else { '?' };
    let name: String = text.chars().map(legal).collect();
    let taken = |name: &str| others.iter().any(|other| other.name == name);
    if !taken(&name) {
        return name;
    }
    (2..).map(|number| format!("{name}-{number}")).find(|name| !taken(name)).unwrap_or(name)
}
