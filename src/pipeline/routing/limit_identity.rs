//! What each rate limit of a configuration is about, so that a later configuration finds its buckets again.
//!
//! A limit is known by its owner, its key and its rate, never by its place in the file. Of several limits that are
//! alike in all of that, the first is the first again. A limit with another rate is another limit: its buckets begin
//! full.

use std::collections::HashMap;

use super::rate_limit::{ClientLimits, RateLimit};
use super::table::RouteTable;
use crate::oauth::caller::Digest;

/// By place. `None`: nothing counts by the limit at this place.
pub(crate) type LimitIdentities = Vec<Option<Digest>>;

/// All limits of a configuration, by their owners.
pub(crate) struct LimitsByOwner<'c> {
    pub(crate) routes: &'c RouteTable,
    pub(crate) token_limits: &'c [RateLimit],
    pub(crate) client_limits: &'c ClientLimits,
    /// At most one.
    pub(crate) static_token_failures: &'c [RateLimit],
}

/// The identities of all limits, of which there are `count`.
pub(crate) fn limit_identities(count: usize, limits: &LimitsByOwner<'_>) -> LimitIdentities {
    let LimitsByOwner { routes, token_limits, client_limits, static_token_failures } = limits;
    let mut found = FoundLimits { identities: vec![None; count], alike: HashMap::new() };
    for route in routes.routes() {
        found.add(&route.limits, ["route", &route.name]);
    }
    found.add(token_limits, ["token_endpoint", ""]);
    found.add(static_token_failures, ["static_tokens", ""]);
    for (client, limits) in *client_limits {
        found.add(limits, ["client", client.as_str()]);
    }
    found.identities
}

struct FoundLimits {
    identities: LimitIdentities,
    /// How many limits with this owner, key and rate were found so far.
    alike: HashMap<Digest, usize>,
}

impl FoundLimits {
    fn add(&mut self, limits: &[RateLimit], owner: [&str; 2]) {
        for limit in limits {
            let Some(place) = self.identities.get_mut(limit.place.0).filter(|place| place.is_none()) else { continue };
            let [kind, name] = limit.shared.as_deref().map_or(owner, |shared| ["shared", shared]);
            let rate = limit.rate_text();
            let key = limit.per.to_string();
            let number = self.alike.entry(Digest::of(&[kind, name, &key, &rate])).or_default();
            *place = Some(Digest::of(&[kind, name, &key, &rate, &number.to_string()]));
            *number += 1;
        }
    }
}
