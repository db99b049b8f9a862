//! The listeners of the control plane: `admin`, and `probes`, which serves the probes alone.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;

use tokio::runtime::Runtime;

use crate::config::types::{Admin, Config};
use crate::server::listener::{self, ListenError};
use crate::telemetry::admin::{self, AdminPages, AdminRules, Probes};

/// The sockets, before they are served.
#[derive(Debug)]
pub(super) struct ControlListeners {
    admin: Option<(TcpListener, Admin)>,
    probes: Option<TcpListener>,
}

impl ControlListeners {
    pub(super) fn bind(config: &Config) -> Result<Self, ListenError> {
        let admin = match &config.admin {
            Some(admin) => bind(admin.address)?.map(|socket| (socket, admin.clone())),
            None => None,
        };
        let probes = config.probes.map(bind).transpose()?.flatten();
        Ok(Self { admin, probes })
    }

    /// Port 0 of the configuration is replaced by the actual port.
    pub(super) fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref()?.0.local_addr().ok()
    }

    pub(super) fn probes_address(&self) -> Option<SocketAddr> {
        self.probes.as_ref()?.local_addr().ok()
    }

    /// Serves as long as the runtime.
    pub(super) fn serve(self, probes: &Probes, control: &Runtime) {
        let admin = self.admin.map(|(socket, admin)| (socket, admin_rules(admin)));
        for (socket, rules) in admin.into_iter().chain(self.probes.map(|socket| (socket, probe_rules()))) {
            control.spawn(serve(socket, rules, probes.clone()));
        }
    }
}

fn bind(address: SocketAddr) -> Result<Option<TcpListener>, ListenError> {
    Ok(listener::bind(address, 1)?.pop())
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

async fn serve(socket: TcpListener, rules: AdminRules, probes: Probes) {
    match tokio::net::TcpListener::from_std(socket) {
        Ok(listener) => admin::serve(listener, rules, probes).await,
        Err(error) => {
            tracing::error!(%error, "cannot start a listener of the control plane: probes or metrics are not served");
        }
    }
}
