//! Refusals by rate limits, by rule, limit and client.
//!
//! The number of clients of other issuers has no bound, so the number of counts has one: beyond it, clients share a
//! count.

use foldhash::{HashMap, HashMapExt as _};

use crate::oauth::caller::IssuerName;
use crate::oauth::identity::Identity;
use crate::pipeline::routing::rate_limit::CountedLimit;
use crate::pipeline::routing::series::SeriesId;

#[derive(Debug)]
pub(super) struct LimitRefusals {
    counts: HashMap<RefusalKey, u64>,
    max_by_client: usize,
    by_client: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct RefusalKey {
    series: SeriesId,
    limit: CountedLimit,
    client: LimitedClient,
}

/// The client whose request was refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum LimitedClient {
    /// Not known, or not proven.
    Unknown,
    Known(IssuerName, Identity),
    /// One of the clients without a count of their own.
    Other,
}

/// Counts of known clients, in each worker.
const MAX_BY_CLIENT: usize = 1000;

impl LimitRefusals {
    pub(super) fn count(&mut self, series: SeriesId, limit: CountedLimit, client: LimitedClient) {
        let mut key = RefusalKey { series, limit, client };
        if matches!(key.client, LimitedClient::Known(..)) && !self.counts.contains_key(&key) {
            if self.by_client >= self.max_by_client {
                key.client = LimitedClient::Other;
            } else {
                self.by_client += 1;
            }
        }
        *self.counts.entry(key).or_default() += 1;
    }

    /// Forgets the counts of the series that had this number.
    pub(super) fn forget(&mut self, number: u32) {
        self.counts.retain(|key, _| key.series.number != number);
        self.by_client = self.counts.keys().filter(|key| matches!(key.client, LimitedClient::Known(..))).count();
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SeriesId, CountedLimit, &LimitedClient, u64)> {
        self.counts.iter().map(|(key, count)| (key.series, key.limit, &key.client, *count))
    }
}

impl Default for LimitRefusals {
    fn default() -> Self {
        Self { counts: HashMap::new(), max_by_client: MAX_BY_CLIENT, by_client: 0 }
    }
}

impl LimitedClient {
    /// As access rules name it: `ID` is one of our own, `NAME/ID` one of issuer NAME.
    pub(super) fn label(&self) -> String {
        match self {
            Self::Unknown => String::new(),
            Self::Known(issuer, client) if issuer.as_str() == IssuerName::OWN => client.as_str().to_owned(),
            Self::Known(issuer, client) => format!("{}/{}", issuer.as_str(), client.as_str()),
            Self::Other => "(others)".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(issuer: &str, id: &str) -> LimitedClient {
        LimitedClient::Known(IssuerName::new(issuer), Identity::parse(id).unwrap())
    }

    #[test]
    fn clients_beyond_the_bound_share_a_count() {
        let mut refusals = LimitRefusals { max_by_client: 2, ..LimitRefusals::default() };
        let (rule, limit) = (SeriesId { number: 0, epoch: 0 }, CountedLimit::OfRule(0));
        for id in ["a", "b", "c", "d", "a", "c"] {
            refusals.count(rule, limit, client("corp", id));
        }
        refusals.count(rule, limit, LimitedClient::Unknown);
        let mut found: Vec<_> = refusals.iter().map(|(_, _, client, count)| (client.label(), count)).collect();
        found.sort();
        let expected = [("", 1), ("(others)", 3), ("corp/a", 2), ("corp/b", 1)];
        assert_eq!(found, expected.map(|(label, count)| (label.to_owned(), count)));
    }

    #[test]
    fn our_own_clients_are_labelled_by_their_id_alone() {
        assert_eq!(client(IssuerName::OWN, "app").label(), "app");
    }
}
