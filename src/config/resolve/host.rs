//! `host`: the `Host` that services get.

use std::sync::Arc;

use super::super::raw::host::RawHost;
use super::super::raw::route::RawRoute;
use super::super::source::At;
use super::Resolver;
use crate::pipeline::request::authority::Authority;
use crate::pipeline::routing::mirror_rule::MirrorRule;
use crate::pipeline::routing::target::RouteTarget;
use crate::upstream::host::{HostField, HostRule};
use crate::upstream::service::Upstream;

impl Resolver<'_> {
    /// `None` if the value has a fault.
    pub(super) fn host_rule(&mut self, raw: &At<RawHost>) -> Option<HostRule> {
        let name = match &raw.value {
            RawHost::Upstream => return Some(HostRule::Upstream),
            RawHost::Preserve => return Some(HostRule::Preserve),
            RawHost::Name(name) => name.as_ref().ok()?,
        };
        match Authority::parse(name.value.as_bytes(), "").ok().and_then(|named| named.header) {
            Some(host) => Some(HostRule::Name(Arc::new(HostField::new(host)))),
            None => {
                let got = self.got(name);
                let message = format!("expected a host such as `legacy.internal` or `legacy.internal:8080`{got}");
                self.faults.at(name.span, message);
                None
            }
        }
    }

    /// Without `hosts` a caller could send any `Host` to a service that gets the caller's own.
    pub(super) fn must_name_hosts(
        &mut self,
        raw: &RawRoute,
        target: Option<&RouteTarget>,
        mirror: Option<&MirrorRule>,
    ) {
        if raw.hosts.is_some() {
            return;
        }
        if let Some(host) = &raw.host {
            if matches!(host.value, RawHost::Preserve) {
                let message = "`preserve` sends the caller's `Host`, and this route takes any: list its `hosts`";
                self.faults.at(host.span, message);
            }
            return;
        }
        let preserves = |upstream: &Arc<Upstream>| matches!(upstream.settings.host, HostRule::Preserve);
        let upstream = raw.upstream.as_ref().and_then(|upstream| upstream.as_ref().ok()).map(|upstream| upstream.span);
        let by_target = upstream.filter(|_| target.is_some_and(|target| target.upstreams().any(preserves)));
        let copies = raw.mirror.as_ref().map(|mirror| mirror.span);
        let by_mirror = copies.filter(|_| mirror.is_some_and(|mirror| preserves(&mirror.upstream)));
        for span in [by_target, by_mirror].into_iter().flatten() {
            self.faults.at(span, PRESERVING_UPSTREAM);
        }
    }
}

const PRESERVING_UPSTREAM: &str = "`host: preserve` of the upstream sends the caller's `Host`, and this route takes any: list the route's `hosts`, or \
     give the route another `host`";
