//! How a request is tied to the client connection that it came by, and what that means for its upstream connection.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderMap, StatusCode};
use tokio::time::Instant;

use super::connection_auth::{ConnectionAuthSign, RequestCredentials};
use super::http1::connection::Http1Connection;
use super::lease::{ConnectionFate, HeldResponse};
use super::pin_limit::PinLimit;
use super::pinned::{PinTarget, PinnedConnections};
use super::service::Upstream;

#[derive(Debug)]
pub(crate) struct ConnectionBinding<'r> {
    credentials: RequestCredentials,
    scope: Option<PinScope<'r>>,
}

/// The client connection and route that an upstream connection is pinned to. Only for a client that sends its own
/// requests only, on a connection of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PinScope<'r> {
    pub(crate) pins: &'r Rc<PinnedConnections>,
    pub(crate) route: &'r str,
    /// The address that the limit on pinned connections counts.
    pub(crate) address: IpAddr,
}

impl<'r> ConnectionBinding<'r> {
    /// `forwarded` are the header fields that the upstream gets, if they may hold credentials of the caller. Without a
    /// scope the connection is never pinned.
    pub(crate) fn new(forwarded: Option<&HeaderMap>, scope: Option<PinScope<'r>>) -> Self {
        Self { credentials: forwarded.map_or(RequestCredentials::None, RequestCredentials::of), scope }
    }

    /// The request authenticates its connection, or uses a pinned one: it is not sent twice, nor to another upstream.
    pub(crate) fn is_exclusive(&self) -> bool {
        self.credentials == RequestCredentials::ForConnection
            || self.scope.is_some_and(|scope| scope.pins.upstream_of(scope.route).is_some())
    }

    /// It needs a connection that no other request uses.
    pub(super) fn needs_own_connection(&self) -> bool {
        self.credentials == RequestCredentials::ForConnection
    }

    /// The server that it must go to.
    pub(super) fn server(&self, upstream: &Upstream) -> Option<usize> {
        let scope = self.scope?;
        scope.pins.server_of(scope.route, upstream.number)
    }

    /// The connection that is pinned for it, with the time of its last request.
    pub(super) fn take(&self, upstream: &Upstream, server: usize) -> Option<(Box<Http1Connection>, Instant)> {
        let scope = self.scope?;
        scope.pins.take(scope.route, upstream.number, server)
    }

    /// Decides on the further use of a connection on which a response with this head has arrived.
    pub(super) fn settle(
        &self,
        (status, headers): (StatusCode, &HeaderMap),
        held: &mut HeldResponse,
        upstream: &Upstream,
        limit: &Arc<PinLimit>,
    ) {
        let sign = self.credentials.response_sign(status, headers);
        match held {
            HeldResponse::Http1 { response, fate, .. } => {
                if let Some(connection) = response.connection() {
                    *fate = self.fate(sign, connection, upstream, limit);
                }
            }
            // An offer leaves the connection as it is: credentials that accept it use another one.
            HeldResponse::Http2 { slot, .. } if sign == ConnectionAuthSign::Handshake => slot.retire_connection(),
            HeldResponse::Http2 { .. } => {}
        }
    }

    fn fate(
        &self,
        sign: ConnectionAuthSign,
        connection: &mut Http1Connection,
        upstream: &Upstream,
        limit: &Arc<PinLimit>,
    ) -> ConnectionFate {
        if sign == ConnectionAuthSign::None && connection.pin_permit.is_none() {
            return ConnectionFate::Shared;
        }
        let Some(scope) = self.scope else {
            return ConnectionFate::Closed;
        };
        let has_credentials = sign == ConnectionAuthSign::Handshake && self.credentials != RequestCredentials::None;
        match &mut connection.pin_permit {
            None => {
                let permit = limit.acquire(scope.address, !has_credentials);
                connection.pin_permit = permit.map(Box::new);
            }
            Some(permit) if has_credentials => permit.accept_offer(),
            Some(_) => {}
        }
        if connection.pin_permit.is_none() {
            return ConnectionFate::Closed;
        }
        ConnectionFate::Pinned(Box::new(PinTarget {
            pins: Rc::clone(scope.pins),
            route: scope.route.into(),
            upstream: upstream.number,
        }))
    }
}
