//! The listeners of the control plane: `admin`, and `probes`, which serves the probes alone.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::config::types::{Admin, Config};
use crate::server::inherited_sockets::InheritedSockets;
use crate::server::listener::ListenError;
use crate::telemetry::admin::{self, AdminPages, AdminRules, Probes};

/// The listeners that are served. They end when they are dropped.
#[derive(Debug, Default)]
pub(super) struct ControlListeners {
    admin: Option<ControlListener>,
    probes: Option<ControlListener>,
}

/// The addresses as configured.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ControlAddresses {
    admin: Option<SocketAddr>,
    probes: Option<SocketAddr>,
}

/// The listeners of a configuration, before they are served.
#[derive(Default)]
pub(super) struct OpenedControl {
    admin: Option<OpenedListener>,
    probes: Option<OpenedListener>,
}

struct ControlListener {
    /// Port 0 is replaced by the actual port.
    actual: SocketAddr,
    rules: Arc<ArcSwap<AdminRules>>,
    serving: AbortHandle,
}

struct OpenedListener {
    address: SocketAddr,
    rules: AdminRules,
    /// `None`: the listener of the configuration before goes on.
    socket: Option<TcpListener>,
}

impl ControlAddresses {
    pub(super) fn of(config: &Config) -> Self {
        Self { admin: config.admin.as_ref().map(|admin| admin.address), probes: config.probes }
    }
}

impl OpenedControl {
    /// Takes or binds the addresses that the configuration before does not have.
    pub(super) fn open(
        config: &Config,
        before: ControlAddresses,
        inherited: &InheritedSockets,
    ) -> Result<Self, ListenError> {
        let open = |address, rules, before: Option<SocketAddr>| {
            let socket = if before == Some(address) { None } else { inherited.open(address, 1)?.sockets.pop() };
            Ok::<_, ListenError>(OpenedListener { address, rules, socket })
        };
        let admin = config.admin.clone().map(|admin| (admin.address, admin_rules(admin)));
        Ok(Self {
            admin: admin.map(|(address, rules)| open(address, rules, before.admin)).transpose()?,
            probes: config.probes.map(|address| open(address, probe_rules(), before.probes)).transpose()?,
        })
    }

    /// Serves them in place of those of the configuration before.
    pub(super) fn serve(self, before: Option<ControlListeners>, probes: &Probes, control: &Handle) -> ControlListeners {
        let (admin, probes_before) = before.map_or((None, None), ControlListeners::into_parts);
        ControlListeners {
            admin: self.admin.and_then(|opened| opened.serve(admin, probes, control)),
            probes: self.probes.and_then(|opened| opened.serve(probes_before, probes, control)),
        }
    }

    pub(super) fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref()?.socket.as_ref()?.local_addr().ok()
    }

    pub(super) fn probes_address(&self) -> Option<SocketAddr> {
        self.probes.as_ref()?.socket.as_ref()?.local_addr().ok()
    }
}

impl ControlListeners {
    fn into_parts(mut self) -> (Option<ControlListener>, Option<ControlListener>) {
        (self.admin.take(), self.probes.take())
    }
}

impl OpenedListener {
    fn serve(self, before: Option<ControlListener>, probes: &Probes, control: &Handle) -> Option<ControlListener> {
        let Some(socket) = self.socket else {
            before.as_ref()?.rules.store(Arc::new(self.rules));
            return before;
        };
        let actual = socket.local_addr().unwrap_or(self.address);
        let rules = Arc::new(ArcSwap::from_pointee(self.rules));
        let serving = control.spawn(serve(socket, Arc::clone(&rules), probes.clone())).abort_handle();
        Some(ControlListener { actual, rules, serving })
    }
}

impl Drop for ControlListener {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl std::fmt::Debug for ControlListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ControlListener").field("address", &self.actual).finish_non_exhaustive()
    }
}

/// Without `allow_from` the address is a loopback address, which only processes of this machine can reach.
fn admin_rules(admin: Admin) -> AdminRules {
    let hosts = Some(Arc::new(admin.hosts));
    match admin.allow_from {
        None => AdminRules { pages: AdminPages::All, admits: Arc::new(|_| true), hosts },
        Some(networks) => {
            let admits = move |peer: IpAddr| networks.contains(peer);
            AdminRules { pages: AdminPages::Metrics, admits: Arc::new(admits), hosts }
        }
    }
}

fn probe_rules() -> AdminRules {
    AdminRules { pages: AdminPages::Probes, admits: Arc::new(|_| true), hosts: None }
}

async fn serve(socket: TcpListener, rules: Arc<ArcSwap<AdminRules>>, probes: Probes) {
    match tokio::net::TcpListener::from_std(socket) {
        Ok(listener) => admin::serve(listener, rules, probes).await,
        Err(error) => {
            tracing::error!(%error, "cannot start a listener of the control plane: probes or metrics are not served");
        }
    }
}
