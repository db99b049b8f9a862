//! `admin` and `probes`: the listeners of the control plane.

use std::net::SocketAddr;

use super::super::decode::OneOrMore;
use super::super::lint::Lint;
use super::super::raw::{RawAdmin, RawProbes};
use super::super::source::At;
use super::super::types::{Admin, Listener};
use super::Resolver;
use crate::pipeline::routing::pattern::HostPattern;
use crate::telemetry::admin::Hosts;

impl Resolver<'_> {
    pub(super) fn admin(&mut self, raw: RawAdmin, listeners: &[Listener]) -> Option<Admin> {
        let hosts = raw.hosts.as_ref().map(|list| self.admin_hosts(&list.value)).unwrap_or_default();
        let allowed = raw.allow_from.as_ref().map(|list| list.span);
        let allow_from = self.networks(raw.allow_from);
        let address = raw.address.ok()?;
        match (address.value.ip().to_canonical().is_loopback(), allowed) {
            (false, None) => {
                let message = "the admin listener has no authentication: give it a loopback address, or list the networks that may reach it in `allow_from`; for probes alone, use `probes`";
                self.faults.at(address.span, message);
            }
            (true, Some(list)) => {
                let message = "only processes of this machine can reach a loopback address: remove `allow_from`, or give the listener another address";
                self.faults.at(list, message);
            }
            (false, Some(list)) if allow_from.as_ref().is_some_and(|networks| networks.hold_everyone()) => {
                let message = "together these networks hold all public addresses of IPv4 or IPv6, so that everyone can read the metrics: list the machines that collect them only";
                self.warn(Lint::OpenAdmin, list, message);
            }
            (true, None) | (false, Some(_)) => {}
        }
        self.is_free(&address, listeners, None);
        Some(Admin { address: address.value, hosts, allow_from })
    }

    pub(super) fn probes(
        &mut self,
        raw: &RawProbes,
        listeners: &[Listener],
        admin: Option<&Admin>,
    ) -> Option<SocketAddr> {
        let address = raw.address.as_ref().ok()?;
        self.is_free(address, listeners, admin);
        Some(address.value)
    }

    fn is_free(&mut self, address: &At<SocketAddr>, listeners: &[Listener], admin: Option<&Admin>) {
        let mut taken = listeners.iter().map(|listener| listener.address).chain(admin.map(|admin| admin.address));
        if address.value.port() != 0 && taken.any(|taken| taken == address.value) {
            self.faults.at(address.span, "a listener has this address already");
        }
    }

    fn admin_hosts(&mut self, list: &OneOrMore<String>) -> Hosts {
        let mut names = Vec::new();
        for host in &list.items {
            match HostPattern::parse(&host.value) {
                Ok(HostPattern::Exact(name)) if !names.contains(&name) => names.push(name),
                Ok(HostPattern::Exact(_)) => {
                    self.faults.at(host.span, "this host is listed twice");
                }
                Ok(HostPattern::Wildcard(_)) | Err(_) => {
                    let message = "expected a host name such as `gateway.internal`, without wildcard and port";
                    self.faults.at(host.span, message);
                }
            }
        }
        Hosts(names)
    }
}
