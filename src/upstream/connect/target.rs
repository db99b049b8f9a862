//! The target of a pool's connections: one server, as one worker connects to it.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use http::header::CONNECTION;
use http::{HeaderValue, Version};
use tokio::time::Instant;
use tracing::warn;

use super::super::fault::UpstreamFault;
use super::super::host::{HostField, RequestHost};
use super::super::names::KnownAddresses;
use super::super::server::Server;
use super::super::service_credential::ServiceCredential;
use super::super::settings::{KeepAlive, UpstreamSettings};
use super::super::tls_fault::TlsFault;
use super::super::via::ViaFields;
use crate::http1::field_block::FieldBlock;
use crate::http1::request_head::HeadLimits;
use crate::telemetry::error_chain::ErrorChain;

/// The worker's own copy of a server: cloning a shared one is traffic between cores.
#[derive(Debug)]
pub(crate) struct DialTarget {
    upstream: Arc<str>,
    pub(crate) server: Server,
    /// The `Host` of requests to it, as the upstream is configured.
    host: HostField,
    own_host: HostField,
    /// `Connection: keep-alive`. Many servers announce their time only to requests that have it.
    pub(crate) keep_alive_field: FieldBlock,
    /// `None`: requests have no `Via`.
    via: Option<ViaFields>,
    pub(crate) credential: Option<ServiceCredential>,
    /// Of a response's head, and of its trailers.
    pub(crate) head_limits: HeadLimits,
    pub(crate) connect_timeout: Duration,
    pub(crate) keep_alive: KeepAlive,
    /// Of this worker.
    pub(crate) max_connections: Option<usize>,
    /// How often a sweep has found other addresses than the one before.
    pub(crate) address_changes: Cell<u32>,
    addresses: RefCell<KnownAddresses>,
    last_warning: Cell<Option<Instant>>,
}

const WARN_EVERY: Duration = Duration::from_secs(10);

impl DialTarget {
    pub(crate) fn new(upstream: &Arc<str>, server: &Server, settings: &UpstreamSettings) -> Self {
        Self {
            upstream: Arc::clone(upstream),
            server: server.for_worker(),
            host: HostField::new(settings.host.without_caller(server).clone()),
            own_host: HostField::new(server.own_host.clone()),
            keep_alive_field: FieldBlock::new(vec![(CONNECTION, HeaderValue::from_static("keep-alive"))]),
            via: settings.via.then(ViaFields::new),
            credential: settings.authorization.as_ref().map(ServiceCredential::for_worker),
            head_limits: settings.answers.head_limits(),
            connect_timeout: settings.connect_timeout,
            keep_alive: settings.keep_alive,
            max_connections: settings.caps.connections,
            address_changes: Cell::new(0),
            addresses: RefCell::new(server.known_addresses()),
            last_warning: Cell::default(),
        }
    }

    /// The `Host` of a request to this server.
    pub(crate) fn host<'t>(&'t self, host: &'t RequestHost) -> &'t HostField {
        match host {
            RequestHost::Configured => &self.host,
            RequestHost::Server => &self.own_host,
            RequestHost::Given(given) => given,
        }
    }

    /// The field `Via` of a request that has come by this protocol.
    pub(crate) fn via_of(&self, received_by: Option<Version>) -> Option<&FieldBlock> {
        Some(self.via.as_ref()?.of(received_by?))
    }

    /// A connection that was opened before a change is not kept after its exchange.
    pub(crate) fn check_addresses(&self) {
        let known = self.server.known_addresses();
        if self.addresses.replace(known.clone()) != known {
            self.address_changes.set(self.address_changes.get().wrapping_add(1));
        }
    }

    /// Logs why a connection failed, at most once in [`WARN_EVERY`].
    pub(crate) fn warn(&self, fault: &UpstreamFault) {
        let now = Instant::now();
        if self.last_warning.get().is_some_and(|last| now - last < WARN_EVERY) {
            return;
        }
        self.last_warning.set(Some(now));
        let server = self.server.authority.to_str().unwrap_or_default();
        let tls = fault.tls_fault();
        let remedy = tls.map_or("check its address, port and TLS settings", TlsFault::remedy);
        warn!(
            upstream.name = %self.upstream,
            server.address = server,
            rule = tls.map(TlsFault::rule),
            "cannot connect to a server of the upstream: {}; its requests fail or go to another server; {remedy}",
            ErrorChain(fault)
        );
    }
}
