//! Everything that decides a request, compiled once and never changed: a request uses one snapshot from beginning to
//! end.

use std::rc::Rc;
use std::sync::Arc;

use super::limit_store::LimitStore;
use super::rate_limit::{ClientLimits, RateLimit};
use super::table::RouteTable;
use crate::issuer::authorization_server::AuthorizationServer;
use crate::network::Networks;
use crate::oauth::identity::Identity;
use crate::server::limits::Limits;
use crate::trust::revocation_keeper::Revoker;
use crate::trust::verify::Trust;
use crate::upstream::service::Upstream;

/// A worker's own handle to the current snapshot: cloning it touches no other core.
pub(crate) type SharedSnapshot = Rc<Arc<Snapshot>>;

#[derive(Debug)]
pub(crate) struct Snapshot {
    /// Identifies the configuration in audit lines.
    pub(crate) config: String,
    pub(crate) limits: Limits,
    pub(crate) trusted_proxies: Networks,
    pub(crate) upstreams: Vec<Arc<Upstream>>,
    pub(crate) routes: RouteTable,
    /// Counts by the rate limits of the routes and of the token endpoint.
    pub(crate) limit_store: LimitStore,
    pub(crate) trust: Trust,
    pub(crate) oauth: Option<OwnIssuer>,
}

/// Our authorization server with the limits of its token endpoint.
#[derive(Debug)]
pub(crate) struct OwnIssuer {
    /// Shared with the task that rotates its keys.
    pub(crate) server: Arc<AuthorizationServer>,
    /// Shared by the token and the revocation endpoint, because secrets can be guessed at both.
    pub(crate) token_limits: Vec<RateLimit>,
    pub(crate) client_limits: ClientLimits,
    pub(crate) revoker: Revoker,
}

/// An endpoint of the gateway, on every listener and any host. Takes precedence over routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum BuiltIn {
    Token,
    Revocation,
    Jwks,
    Metadata,
}

impl Snapshot {
    /// `path` is decoded. As with routes, a trailing slash makes no difference.
    pub(crate) fn built_in(&self, path: &str) -> Option<(&OwnIssuer, BuiltIn)> {
        let oauth = self.oauth.as_ref()?;
        let path = path.strip_suffix('/').unwrap_or(path);
        let endpoints = oauth.server.endpoints();
        let built_in = if path == endpoints.token {
            BuiltIn::Token
        } else if path == endpoints.revocation {
            BuiltIn::Revocation
        } else if path == endpoints.jwks {
            BuiltIn::Jwks
        } else if endpoints.metadata.iter().any(|place| path == place) {
            BuiltIn::Metadata
        } else {
            return None;
        };
        Some((oauth, built_in))
    }

    /// The limits of one of our own clients.
    pub(crate) fn limits_of_client(&self, client: &Identity) -> &[RateLimit] {
        let limits = self.oauth.as_ref().map(|oauth| &oauth.client_limits).filter(|limits| !limits.is_empty());
        limits.and_then(|limits| limits.get(client)).map_or(&[], Vec::as_slice)
    }
}

impl BuiltIn {
    /// The name in audit lines and metrics, in place of a route's.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Token => "(token)",
            Self::Revocation => "(revocation)",
            Self::Jwks => "(jwks)",
            Self::Metadata => "(metadata)",
        }
    }
}
