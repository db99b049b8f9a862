//! An upstream: a named service, its servers, its settings, and the state of both that all workers share.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;
use tracing::{info, warn};

use super::balancing::breaker::{Breaker, BreakerChange};
use super::balancing::ejection::{OutcomeCounts, OutlierEjection};
use super::balancing::outcome::ServerOutcome;
use super::balancing::status::ServerStatus;
use super::names::Name;
use super::protocol::UpstreamProtocol;
use super::server::{Server, ServerAddress};
use super::settings::UpstreamSettings;

#[derive(Debug)]
pub(crate) struct Upstream {
    /// Unique in the process, those of earlier configurations included.
    pub(crate) number: u64,
    pub(crate) name: Arc<str>,
    /// At least one, and [`MAX_SERVERS`] at most.
    pub(crate) servers: Vec<Server>,
    /// One for each server, in their order; shared by all workers and the control plane.
    pub(crate) statuses: Arc<[ServerStatus]>,
    /// If configured.
    pub(crate) breaker: Option<Breaker>,
    /// If configured; never for a single server.
    ejection: Option<OutlierEjection>,
    pub(crate) settings: UpstreamSettings,
    /// The start of [`millis`](Self::millis).
    epoch: Instant,
}

/// A set of servers fits into one `u128`.
pub(crate) const MAX_SERVERS: usize = 128;

impl Upstream {
    pub(crate) fn new(name: &str, servers: Vec<Server>, settings: UpstreamSettings) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            name: name.into(),
            statuses: servers.iter().map(|_| ServerStatus::default()).collect(),
            breaker: settings.breaker.map(Breaker::new),
            ejection: settings.ejection.filter(|_| servers.len() > 1).map(OutlierEjection::new),
            servers,
            settings,
            epoch: Instant::now(),
        }
    }

    /// Whether both are configured alike. Their state may differ.
    pub(crate) fn is_defined_as(&self, other: &Self) -> bool {
        self.name == other.name && self.servers == other.servers && self.settings == other.settings
    }

    /// The same, with the known names of servers in place of its own; `None` if it has no such name.
    pub(crate) fn with_names(&self, known: impl Fn(&str) -> Option<Arc<Name>>) -> Option<Self> {
        let mut servers = self.servers.clone();
        let mut is_changed = false;
        for server in &mut servers {
            if let ServerAddress::Name(name, _) = &mut server.place
                && let Some(known) = known(name.as_str())
            {
                *name = known;
                is_changed = true;
            }
        }
        is_changed.then(|| Self::new(&self.name, servers, self.settings.clone()))
    }

    /// The names of its servers.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Arc<Name>> {
        self.servers.iter().filter_map(|server| match &server.place {
            ServerAddress::Name(name, _) => Some(name),
            ServerAddress::Address(_) | ServerAddress::Socket(_) => None,
        })
    }

    /// All servers of an upstream have the same protocol.
    pub(crate) fn speaks_http2(&self) -> bool {
        self.servers.first().is_some_and(|server| server.protocol == UpstreamProtocol::Http2)
    }

    /// Milliseconds since the upstream was configured, never 0.
    pub(crate) fn millis(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.epoch).as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// Records how an exchange with a server ended. `recent` are the counts of this worker.
    pub(super) fn observe(&self, index: usize, outcome: ServerOutcome, recent: &Cell<OutcomeCounts>, now: u64) {
        let upstream = &*self.name;
        match self.breaker.as_ref().and_then(|breaker| breaker.observe(outcome, now)) {
            Some(BreakerChange::Opened) => warn!(
                upstream.name = upstream,
                "circuit breaker opened: too many requests to the upstream failed in a row; its requests are refused \
                 with 503 until a trial request succeeds; check its servers"
            ),
            Some(BreakerChange::Closed) => {
                info!(upstream.name = upstream, "circuit breaker closed: the upstream takes requests again")
            }
            None => {}
        }
        let Some(ejection) = &self.ejection else { return };
        if let Some(period_ms) = ejection.observe(&self.statuses, index, outcome, recent, now) {
            let server = &*self.servers[index].name();
            warn!(
                upstream.name = upstream,
                server,
                period_ms,
                "server ejected: it failed too often; it gets no requests for `period_ms`; check the server"
            );
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::super::server::ServerOrigin;
    use super::*;

    /// An upstream with servers of these weights, at addresses without a listener.
    pub(in super::super) fn upstream(weights: &[u32], change: impl FnOnce(&mut UpstreamSettings)) -> Upstream {
        let server = |(number, weight): (usize, &u32)| {
            let origin = ServerOrigin::parse(&format!("http://10.0.0.{number}:9")).unwrap();
            Server { weight: *weight, ..Server::tcp(origin, None, UpstreamProtocol::Http1) }
        };
        let mut settings = UpstreamSettings::new(Duration::from_secs(1), Duration::from_secs(1));
        change(&mut settings);
        Upstream::new("many", weights.iter().enumerate().map(server).collect(), settings)
    }
}
