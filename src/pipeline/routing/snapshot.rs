//! Everything that decides a request, compiled once and never changed: a request uses one snapshot from beginning to
//! end.

use std::rc::Rc;
use std::sync::Arc;

use super::limit_identity::{LimitsByOwner, limit_identities};
use super::limit_store::LimitStore;
use super::own_hosts::OwnHosts;
use super::rate_limit::{ClientLimits, LimitRate, RateLimit};
use super::resource::{ProtectedResource, ProtectedResources};
use super::series::{SeriesId, SeriesNames, SeriesTable};
use super::table::RouteTable;
use crate::audit::ledger::Rules;
use crate::clock;
use crate::issuer::authorization_server::AuthorizationServer;
use crate::network::Networks;
use crate::oauth::identity::Identity;
use crate::server::limits::Limits;
use crate::server::tls::ServedCertificate;
use crate::store::leases::lease_store::LeaseStore;
use crate::store::redis_store::RedisStore;
use crate::trust::proof_rules::{DpopSettings, ProofRules};
use crate::trust::revoker::Revoker;
use crate::trust::verify::Trust;
use crate::upstream::service::Upstream;

/// A worker's own handle to the current snapshot: cloning it touches no other core.
pub(crate) type SharedSnapshot = Rc<Arc<Snapshot>>;

#[derive(Debug)]
pub(crate) struct Snapshot {
    /// Identifies the configuration in audit lines.
    pub(crate) config: String,
    /// For the streams that are open when this snapshot is published.
    pub(crate) open_streams: OpenStreamsRule,
    pub(crate) limits: Limits,
    pub(crate) audit: Rules,
    pub(crate) trusted_proxies: Networks,
    pub(crate) upstreams: Vec<Arc<Upstream>>,
    pub(crate) routes: RouteTable,
    /// Counts by the rate limits of the routes and of the token endpoint.
    pub(crate) limit_store: LimitStore,
    /// Of the rules outside the list of routes, then of the routes.
    pub(crate) series: SeriesTable,
    pub(crate) trust: Trust,
    /// Counts values that are no static tokens, by address. `None` without static tokens.
    pub(crate) static_token_failures: Option<RateLimit>,
    pub(crate) proofs: ProofRules,
    pub(crate) oauth: Option<OwnIssuer>,
    pub(crate) resources: ProtectedResources,
    pub(crate) own_hosts: OwnHosts,
}

/// The parts of a snapshot: those of a configuration, and the live ones that it uses.
#[derive(Debug)]
pub(crate) struct SnapshotParts {
    pub(crate) config: String,
    pub(crate) open_streams: OpenStreamsRule,
    pub(crate) limits: Limits,
    pub(crate) audit: Rules,
    pub(crate) trusted_proxies: Networks,
    pub(crate) upstreams: Vec<Arc<Upstream>>,
    pub(crate) routes: RouteTable,
    /// By place.
    pub(crate) limit_rates: Vec<LimitRate>,
    /// The store of the limits that are counted over replicas. `None`: all are counted in this process.
    pub(crate) leases: Option<Arc<LeaseStore>>,
    /// Where replicas note what was used. `None`: this process alone does.
    pub(crate) store: Option<RedisStore>,
    pub(crate) trust: Trust,
    pub(crate) static_token_failures: Option<RateLimit>,
    pub(crate) dpop: DpopSettings,
    pub(crate) oauth: Option<OwnIssuer>,
    pub(crate) resources: ProtectedResources,
    /// Of the listeners. `None` where none is opened.
    pub(crate) certificates: Option<Vec<Arc<ServedCertificate>>>,
}

/// The treatment of tunnels and lasting answers that are open when a configuration is taken into use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenStreamsRule {
    /// Each is judged once, and ended if it would not be let in.
    Recheck,
    /// They go on.
    Keep,
}

/// Our authorization server with the limits of its token endpoint.
#[derive(Debug)]
pub(crate) struct OwnIssuer {
    /// Shared with the task that rotates its keys.
    pub(crate) server: Arc<AuthorizationServer>,
    /// Shared by the token, the revocation and the introspection endpoint, because secrets can be guessed at each.
    pub(crate) token_limits: Vec<RateLimit>,
    pub(crate) client_limits: ClientLimits,
    pub(crate) revoker: Revoker,
}

/// An endpoint of the gateway, on every listener and any host. Takes precedence over routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BuiltIn {
    Token,
    Revocation,
    Introspection,
    Authorization,
    Jwks,
    Metadata,
    /// A resource document (RFC 9728). It needs no issuer of ours.
    Resource,
}

/// An endpoint of the gateway with what it serves.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BuiltInEndpoint<'s> {
    Token(&'s OwnIssuer),
    Revocation(&'s OwnIssuer),
    Introspection(&'s OwnIssuer),
    Authorization,
    Jwks(&'s OwnIssuer),
    Metadata(&'s OwnIssuer),
    Resource(&'s ProtectedResource),
}

impl Snapshot {
    /// Compiles the parts. Buckets and series of the snapshot `before` go on where they are about the same.
    pub(crate) fn new(parts: SnapshotParts, before: Option<&Self>) -> Self {
        let SnapshotParts { config, open_streams, limits, audit, trusted_proxies, upstreams, .. } = parts;
        let SnapshotParts { routes, limit_rates, trust, static_token_failures, dpop, oauth, resources, .. } = parts;
        let endpoints = oauth.as_ref().map(|oauth| oauth.server.endpoints());
        let own_hosts = OwnHosts::new(endpoints, &resources, parts.certificates);
        let none = ClientLimits::default();
        let token_limits = oauth.as_ref().map_or(&[][..], |oauth| &oauth.token_limits);
        let client_limits = oauth.as_ref().map_or(&none, |oauth| &oauth.client_limits);
        let counted = LimitsByOwner {
            routes: &routes,
            token_limits,
            client_limits,
            static_token_failures: static_token_failures.as_slice(),
        };
        let identities = limit_identities(limit_rates.len(), &counted);
        let before_limits = before.map(|before| &before.limit_store);
        let limit_store = LimitStore::following(&limit_rates, &identities, before_limits, parts.leases.as_ref());
        let rules = outside_routes(token_limits).chain(routes.routes().iter().map(|route| route.series_names()));
        let series = SeriesTable::new(rules.collect(), before.map(|before| &before.series));
        Self {
            config,
            open_streams,
            limits,
            audit,
            trusted_proxies,
            upstreams,
            routes,
            limit_store,
            series,
            trust,
            static_token_failures,
            proofs: ProofRules::following(
                dpop,
                before.map(|before| &before.proofs),
                parts.store.as_ref(),
                clock::now(),
            ),
            oauth,
            resources,
            own_hosts,
        }
    }

    /// The series of the route at this place of the list.
    pub(crate) fn series_of_route(&self, index: usize) -> SeriesId {
        self.series.of(OUTSIDE_ROUTES + index)
    }

    /// The series of requests that matched no rule.
    pub(crate) fn series_of_nothing(&self) -> SeriesId {
        self.series.of(0)
    }

    pub(crate) fn series_of_redirects(&self) -> SeriesId {
        self.series.of(1)
    }

    pub(crate) fn series_of(&self, built_in: BuiltIn) -> SeriesId {
        let place = BuiltIn::ALL.iter().position(|other| *other == built_in);
        self.series.of(2 + place.unwrap_or_default())
    }

    /// `path` is decoded. As with routes, a trailing slash makes no difference. `host` counts where several hosts have
    /// resources.
    pub(crate) fn built_in(&self, path: &str, host: &str) -> Option<BuiltInEndpoint<'_>> {
        let path = path.strip_suffix('/').unwrap_or(path);
        let of_issuer = self.oauth.as_ref().and_then(|oauth| oauth.endpoint(path));
        of_issuer.or_else(|| self.resources.at(path, host).map(BuiltInEndpoint::Resource))
    }

    /// The limits of one of our own clients.
    pub(crate) fn limits_of_client(&self, client: &Identity) -> &[RateLimit] {
        let limits = self.oauth.as_ref().map(|oauth| &oauth.client_limits).filter(|limits| !limits.is_empty());
        limits.and_then(|limits| limits.get(client)).map_or(&[], Vec::as_slice)
    }
}

impl OwnIssuer {
    fn endpoint(&self, path: &str) -> Option<BuiltInEndpoint<'_>> {
        let endpoints = self.server.endpoints();
        if path == endpoints.token {
            Some(BuiltInEndpoint::Token(self))
        } else if path == endpoints.revocation {
            Some(BuiltInEndpoint::Revocation(self))
        } else if endpoints.introspection.as_deref() == Some(path) {
            Some(BuiltInEndpoint::Introspection(self))
        } else if path == endpoints.authorization {
            Some(BuiltInEndpoint::Authorization)
        } else if path == endpoints.jwks {
            Some(BuiltInEndpoint::Jwks(self))
        } else if endpoints.metadata.iter().any(|place| path == place) {
            Some(BuiltInEndpoint::Metadata(self))
        } else {
            None
        }
    }
}

impl BuiltInEndpoint<'_> {
    pub(crate) const fn kind(self) -> BuiltIn {
        match self {
            Self::Token(_) => BuiltIn::Token,
            Self::Revocation(_) => BuiltIn::Revocation,
            Self::Introspection(_) => BuiltIn::Introspection,
            Self::Authorization => BuiltIn::Authorization,
            Self::Jwks(_) => BuiltIn::Jwks,
            Self::Metadata(_) => BuiltIn::Metadata,
            Self::Resource(_) => BuiltIn::Resource,
        }
    }
}

/// The name of the rule of listeners that redirect.
pub(crate) const REDIRECT: &str = "(redirect)";

/// Rules that are not in the list of routes.
const OUTSIDE_ROUTES: usize = 2 + BuiltIn::ALL.len();

/// Their names, in the order of their places.
fn outside_routes(token_limits: &[RateLimit]) -> impl Iterator<Item = SeriesNames> {
    let named = |rule: &str| SeriesNames { rule: rule.to_owned(), ..SeriesNames::default() };
    let limits: Vec<String> = token_limits.iter().map(|limit| limit.name.clone()).collect();
    let built_in = BuiltIn::ALL.into_iter().map(move |built_in| {
        let limits = if built_in.counts_token_limits() { limits.clone() } else { Vec::new() };
        SeriesNames { limits, ..named(built_in.name()) }
    });
    [named(""), named(REDIRECT)].into_iter().chain(built_in)
}

impl BuiltIn {
    pub(crate) const ALL: [Self; 7] = [
        Self::Token,
        Self::Revocation,
        Self::Introspection,
        Self::Authorization,
        Self::Jwks,
        Self::Metadata,
        Self::Resource,
    ];

    /// Whether its requests count by the limits of the token endpoint.
    pub(crate) const fn counts_token_limits(self) -> bool {
        match self {
            Self::Token | Self::Revocation | Self::Introspection => true,
            Self::Authorization | Self::Jwks | Self::Metadata | Self::Resource => false,
        }
    }

    /// The name in audit lines and metrics, in place of a route's.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Token => "(token)",
            Self::Revocation => "(revocation)",
            Self::Introspection => "(introspection)",
            Self::Authorization => "(authorization)",
            Self::Jwks => "(jwks)",
            Self::Metadata => "(metadata)",
            Self::Resource => "(resource)",
        }
    }
}
