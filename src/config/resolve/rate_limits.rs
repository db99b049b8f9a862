//! `rate_limits`, of routes and of the token endpoint.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderName;

use super::super::raw::route::{LimitKey, RawRateLimit};
use super::super::source::At;
use super::Resolver;
use crate::oauth::per::Per;
use crate::pipeline::limits::{LimitRate, RateLimit};
use crate::pipeline::request_log::MAX_LIMITS;

/// Within the range of the arithmetic of limits.
const LONGEST_REFILL: Duration = Duration::from_secs(3650 * 24 * 3600);

impl Resolver<'_> {
    /// A public route has no caller, so its limits cannot count by one.
    pub(super) fn rate_limits(&mut self, raw: &[At<RawRateLimit>], public: bool) -> Vec<Arc<RateLimit>> {
        if let Some(beyond) = raw.get(MAX_LIMITS) {
            self.faults.at(beyond.span, format!("expected at most {MAX_LIMITS} rate limits"));
        }
        let mut limits: Vec<Arc<RateLimit>> = Vec::new();
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
            limits.push(Arc::new(RateLimit::new(name, rate, per)));
        }
        limits
    }

    pub(super) fn per(&mut self, key: &At<LimitKey>, public: bool) -> Option<Per> {
        let per = match &key.value {
            LimitKey::Client => Per::Client,
            LimitKey::Address => Per::Address,
            LimitKey::Route => Per::Route,
            LimitKey::Subject => Per::Subject,
            LimitKey::Claim(name) => Per::Claim(name.clone()),
            LimitKey::Header(name) => match name.parse::<HeaderName>() {
                Ok(name) => Per::Header(name),
                Err(_) => {
                    self.faults.at(key.span, "a header's name is made of letters, digits and `-`");
                    return None;
                }
            },
        };
        if public && matches!(per, Per::Client | Per::Subject | Per::Claim(_)) {
            self.faults.at(key.span, "a public route has no caller: count by `address`, `route` or `header:NAME`");
        }
        Some(per)
    }
}

/// The name of the limit in responses: printable ASCII without quotes, and unique in its list.
fn unique_name(key: &LimitKey, others: &[Arc<RateLimit>]) -> String {
    let name = match key {
        LimitKey::Client => "client".to_owned(),
        LimitKey::Address => "address".to_owned(),
        LimitKey::Route => "route".to_owned(),
        LimitKey::Subject => "subject".to_owned(),
        LimitKey::Claim(name) => format!("claim:{name}"),
        LimitKey::Header(name) => format!("header:{name}"),
    };
    let legal = |c: char| if c.is_ascii_graphic() && c != '"' && c != '\\' { c } else { '?' };
    let name: String = name.chars().map(legal).collect();
    let taken = |name: &str| others.iter().any(|other| other.name == name);
    if !taken(&name) {
        return name;
    }
    (2..).map(|number| format!("{name}-{number}")).find(|name| !taken(name)).unwrap_or(name)
}
