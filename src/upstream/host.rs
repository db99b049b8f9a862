//! The `Host` that a server gets, which over HTTP/2 is `:authority` (RFC 9110 §7.2).
//!
//! The rules of the upstream and of the route give the [`RequestHost`] of a request. Each attempt reads it for its own
//! server, so that a retry, a copy and the other side of a traffic split name the server that they go to.

use std::sync::Arc;

use http::HeaderValue;
use http::header::HOST;

use super::server::Server;
use crate::http1::field_block::FieldBlock;

/// The field `Host`, rendered once.
#[derive(Clone, Debug)]
pub(crate) struct HostField {
    value: HeaderValue,
    block: FieldBlock,
}

/// As an upstream or a route is configured.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum HostRule {
    /// The server's own name.
    #[default]
    Upstream,
    /// The host that the caller has named, in its canonical form.
    Preserve,
    Name(Arc<HostField>),
}

/// The `Host` of one request, for any server that it may go to.
#[derive(Clone, Debug, Default)]
pub(crate) enum RequestHost {
    /// As the upstream is configured.
    #[default]
    Configured,
    /// The server's own name.
    Server,
    Given(Arc<HostField>),
}

impl HostField {
    pub(crate) fn new(value: HeaderValue) -> Self {
        Self { block: FieldBlock::new(vec![(HOST, value.clone())]), value }
    }

    pub(super) fn value(&self) -> &HeaderValue {
        &self.value
    }

    pub(super) fn block(&self) -> &FieldBlock {
        &self.block
    }
}

impl PartialEq for HostField {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl HostRule {
    /// The host of requests that no caller has made, such as health checks. They have no host to preserve.
    pub(super) fn without_caller<'r>(&'r self, server: &'r Server) -> &'r HeaderValue {
        match self {
            Self::Name(name) => name.value(),
            Self::Upstream | Self::Preserve => &server.own_host,
        }
    }

    /// The host of a request to this upstream. The rule of its route takes precedence. `named` is the host that the
    /// caller has named.
    pub(crate) fn for_request(
        &self,
        route: Option<&Self>,
        named: impl FnOnce() -> Option<Arc<HostField>>,
    ) -> RequestHost {
        match route.unwrap_or(self) {
            // Routes without `hosts`, which may get requests that name no host, cannot have this rule.
            Self::Preserve => named().map_or(RequestHost::Server, RequestHost::Given),
            Self::Upstream | Self::Name(_) if route.is_none() => RequestHost::Configured,
            Self::Upstream => RequestHost::Server,
            Self::Name(name) => RequestHost::Given(Arc::clone(name)),
        }
    }
}
