//! The listeners of a configuration: their sockets, and the settings that their new connections get.
//!
//! A listener is known by its configured address. As long as it has that address its sockets stay, and its settings
//! change for new connections. Of several listeners with port 0, the first is the first again.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

use super::certificates::CertificateSet;
use super::start_error::StartError;
use super::workers::{WorkerChange, WorkerSocket};
use crate::config::types::{Listener, ListenerKind};
use crate::pipeline::connection::ListenerRuntime;
use crate::pipeline::request::peer::ListenerMode;
use crate::server::accept;
use crate::server::connection::ListenerTransport;
use crate::server::inherited_sockets::{InheritedSockets, ListenSockets, QueueOwner};
use crate::server::listener::{ListenError, ListenerId};
use crate::server::tls::ListenerTls;

/// A listener that is served.
#[derive(Clone, Debug)]
pub(super) struct ListenerInUse {
    id: ListenerId,
    configured: Listener,
    runtime: Arc<ArcSwap<ListenerRuntime>>,
}

/// The listeners of a configuration, before they are served.
#[derive(Debug, Default)]
pub(super) struct OpenedListeners {
    all: Vec<OpenedListener>,
    removed: Vec<ListenerInUse>,
}

#[derive(Debug)]
struct OpenedListener {
    listener: ListenerInUse,
    /// For connections from now on.
    runtime: ListenerRuntime,
    /// One for each worker. Empty: those of the configuration before go on.
    sockets: Vec<TcpListener>,
    queue: QueueOwner,
}

impl OpenedListeners {
    /// Opens certificates, and takes or binds the addresses that the listeners `before` do not have.
    pub(super) fn open(
        listeners: &[Listener],
        workers: usize,
        before: &[ListenerInUse],
        inherited: &InheritedSockets,
        certificates: &mut CertificateSet,
    ) -> Result<Self, StartError> {
        let mut removed = before.to_vec();
        let mut all = Vec::new();
        for listener in listeners {
            let same = removed.iter().position(|known| known.configured.address == listener.address);
            let same = same.map(|at| removed.remove(at));
            let open_sockets = || inherited.open(listener.address, workers);
            all.push(OpenedListener::open(listener, open_sockets, same, certificates)?);
        }
        Ok(Self { all, removed })
    }

    /// The addresses of new listeners. Port 0 of the configuration is replaced by the actual port.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.all.iter().filter_map(|opened| opened.sockets.first()?.local_addr().ok()).collect()
    }

    /// Serves them. Gives the listeners in use, and the changes of each worker.
    pub(super) fn serve(self, workers: usize) -> (Vec<ListenerInUse>, Vec<Vec<WorkerChange>>) {
        let mut changes: Vec<Vec<WorkerChange>> = (0..workers).map(|_| Vec::new()).collect();
        let mut in_use = Vec::new();
        for OpenedListener { listener, runtime, sockets, queue } in self.all {
            listener.runtime.store(Arc::new(runtime));
            let handoffs = accept::handoff_channels(sockets.len());
            for ((socket, handoff_channels), changes) in sockets.into_iter().zip(handoffs).zip(&mut changes) {
                let (listener, runtime) = (listener.id, Arc::clone(&listener.runtime));
                changes.push(WorkerChange::Listen(WorkerSocket { listener, socket, queue, handoff_channels, runtime }));
            }
            in_use.push(listener);
        }
        for removed in self.removed {
            changes.iter_mut().for_each(|changes| changes.push(WorkerChange::Close(removed.id)));
        }
        (in_use, changes)
    }
}

impl OpenedListener {
    fn open(
        listener: &Listener,
        open_sockets: impl FnOnce() -> Result<ListenSockets, ListenError>,
        same: Option<ListenerInUse>,
        certificates: &mut CertificateSet,
    ) -> Result<Self, StartError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = same.as_ref().map_or_else(|| ListenerId(NEXT.fetch_add(1, Ordering::Relaxed)), |same| same.id);
        // The same configuration of TLS resumes the sessions that it has begun.
        let unchanged = same.as_ref().filter(|same| same.configured.kind == listener.kind);
        let unchanged = unchanged.and_then(|same| same.runtime.load().transport.tls.clone());
        let runtime = listener_runtime(id, listener, unchanged, certificates)?;
        let Some(same) = same else {
            let ListenSockets { sockets, queue } = open_sockets()?;
            let in_use = Arc::new(ArcSwap::from_pointee(runtime.clone()));
            let listener = ListenerInUse { id, configured: listener.clone(), runtime: in_use };
            return Ok(Self { listener, runtime, sockets, queue });
        };
        let listener = ListenerInUse { id, configured: listener.clone(), runtime: same.runtime };
        Ok(Self { listener, runtime, sockets: Vec::new(), queue: QueueOwner::default() })
    }
}

fn listener_runtime(
    id: ListenerId,
    listener: &Listener,
    unchanged: Option<Arc<ListenerTls>>,
    certificates: &mut CertificateSet,
) -> Result<ListenerRuntime, StartError> {
    let (tls, listener_mode) = match &listener.kind {
        ListenerKind::Tls { certificates: files, min_version, mutual_tls } => {
            let tls = match unchanged {
                Some(tls) => certificates.keep_tls(files, &tls).map(|()| tls),
                None => certificates.tls(files, *min_version, mutual_tls.as_ref()),
            };
            (Some(tls?), ListenerMode::Tls)
        }
        ListenerKind::Plain => (None, ListenerMode::Plain { loopback: listener.address.ip().is_loopback() }),
        ListenerKind::Redirect { origin } => (None, ListenerMode::Redirect { origin: origin.clone() }),
    };
    let transport = ListenerTransport { listener: id, tls, proxy_protocol: listener.proxy_protocol };
    Ok(ListenerRuntime { transport, listener_mode, believed: listener.believed })
}
