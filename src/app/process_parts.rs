//! The parts of the process that outlast every configuration.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::runtime::Handle;

use super::certificates::Certificates;
use super::shared_stores::SharedStores;
use crate::issuer::authorization_server::Offloads;
use crate::server::connection_limiter::ConnectionLimiter;
use crate::server::inherited_sockets::InheritedSockets;
use crate::trust::published_revocations::PublishedRevocations;
use crate::trust::replay::Replay;
use crate::trust::revoker::Revoker;

#[derive(Clone, Debug)]
pub(super) struct ProcessParts {
    pub(super) revocations: Arc<PublishedRevocations>,
    pub(super) revoker: Revoker,
    pub(super) replay: Replay,
    pub(super) shared: SharedStores,
    pub(super) offloads: Offloads,
    pub(super) certificates: Certificates,
    pub(super) limiter: Arc<ConnectionLimiter>,
    pub(super) memory_is_short: Arc<AtomicBool>,
    pub(super) inherited: Arc<InheritedSockets>,
    /// The runtime of the control plane.
    pub(super) control: Handle,
}
