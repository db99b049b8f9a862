//! `upstreams`: the services behind the gateway, their servers, load balancing and failure handling.

use std::collections::HashMap;
use std::sync::Arc;

use http::StatusCode;
use http::uri::PathAndQuery;

use super::super::decode::{Named, OneOrMore};
use super::super::raw::servers::{
    OrNone, RawBalance, RawBreaker, RawEjection, RawHealthCheck, RawRetries, RawServer, RetryOn,
};
use super::super::raw::upstream::{RawAnswerLimits, RawUpstream, RawUpstreamKeys};
use super::super::source::At;
use super::super::upstream_certificates::UpstreamCertificates;
use super::super::values::{Bound, Percent, PositiveCount};
use super::transport::SharedTransport;
use super::{MAX_HEADER_BYTES, MAX_HEADER_COUNT, Resolver, deadline, number};
use crate::trust::request_key::RequestKey;
use crate::upstream::names::Name;
use crate::upstream::server::Server;
use crate::upstream::service::{MAX_SERVERS, Upstream};
use crate::upstream::settings::{
    AnswerLimits, Balance, BreakerRules, Caps, Ejection, HealthCheck, KeepAlive, MAX_PROBE_BODY, Probe, Retries,
    UpstreamSettings,
};

pub(super) type Upstreams = HashMap<String, Arc<Upstream>>;

const MAX_WEIGHT: u32 = 1000;
/// All attempts together stay within the timeout of the route, but each is a request to the upstream.
const MAX_ATTEMPTS: u32 = 5;

pub(super) fn in_order(upstreams: Upstreams) -> Vec<Arc<Upstream>> {
    let mut upstreams: Vec<_> = upstreams.into_values().collect();
    upstreams.sort_by(|one, other| one.name.cmp(&other.name));
    upstreams
}

impl Resolver<'_> {
    /// The upstreams, the names of their servers, and their certificates.
    pub(super) fn upstreams(
        &mut self,
        raw: Named<RawUpstream>,
        workers: usize,
    ) -> (Upstreams, (Vec<Arc<Name>>, Vec<UpstreamCertificates>)) {
        let mut upstreams = HashMap::new();
        let mut shared = SharedTransport::default();
        for (name, upstream) in raw.entries {
            let Ok(upstream) = upstream else { continue };
            let keys = &upstream.value.keys;
            let servers = upstream.value.servers.ok();
            let servers = servers.and_then(|servers| self.weighted_servers(servers.value, keys, &mut shared));
            let servers = servers.unwrap_or_default();
            let mut settings = self.upstream_settings(keys, servers.len(), workers);
            let authorization = keys.authorization.as_ref();
            settings.authorization = authorization.and_then(|authorization| self.service_credential(authorization));
            if servers.is_empty() {
                continue;
            }
            let upstream = Upstream::new(&name.value, servers, settings);
            upstreams.insert(name.value, Arc::new(upstream));
        }
        (upstreams, shared.into_parts())
    }

    /// `None` if a server cannot be used.
    fn weighted_servers(
        &mut self,
        raw: OneOrMore<RawServer>,
        keys: &RawUpstreamKeys,
        shared: &mut SharedTransport,
    ) -> Option<Vec<Server>> {
        if let Some(beyond) = raw.items.get(MAX_SERVERS) {
            self.faults.at(beyond.span, format!("expected at most {MAX_SERVERS} servers"));
        }
        let (mut urls, mut weights) = (Vec::new(), Vec::new());
        for server in raw.items {
            let weight = self.count_up_to(&server.value.weight, MAX_WEIGHT) as u32;
            if let Ok(url) = server.value.url {
                urls.push(url);
                weights.push(weight);
            }
        }
        let mut servers = self.servers(&urls, keys.tls.as_ref(), keys.protocol.value, shared)?;
        for (index, server) in servers.iter().enumerate() {
            if servers[..index].iter().any(|other| other.name() == server.name()) {
                let message = "this server is listed twice: for a larger share, give it a `weight`";
                self.faults.at(urls[index].span, message);
            }
        }
        servers.iter_mut().zip(weights).for_each(|(server, weight)| server.weight = weight);
        Some(servers)
    }

    fn upstream_settings(&mut self, raw: &RawUpstreamKeys, servers: usize, workers: usize) -> UpstreamSettings {
        UpstreamSettings {
            host: raw.host.as_ref().and_then(|host| self.host_rule(host)).unwrap_or_default(),
            balance: self.balance(&raw.balance),
            connect_timeout: deadline(raw.connect_timeout.value),
            response_timeout: deadline(raw.response_timeout.value),
            health_check: raw.health_check.as_ref().and_then(|check| self.health_check(check)),
            ejection: ejection(raw.ejection.as_ref()),
            breaker: raw.circuit_breaker.as_ref().map(|raw| breaker(&raw.value)),
            retries: self.retries(raw.retries.as_ref(), servers),
            slow_start: raw.slow_start.as_ref().map(|period| period.value.get()),
            caps: Caps {
                connections: self.connections_of_each(&raw.max_connections, workers),
                in_flight: number(raw.max_in_flight.value),
            },
            keep_alive: KeepAlive {
                idle: raw.keep_alive.idle.value.get(),
                max_requests: raw.keep_alive.max_requests.value.at_most().map(PositiveCount::get),
            },
            answers: self.answer_limits(&raw.answers),
            authorization: None,
            via: raw.via.value,
        }
    }

    fn answer_limits(&mut self, raw: &RawAnswerLimits) -> AnswerLimits {
        let mut limits = AnswerLimits::default();
        if let At { value: Some(count), span } = raw.header_count {
            limits.header_count = self.count_up_to(&At { value: count, span }, MAX_HEADER_COUNT);
        }
        self.at_most(&raw.header_bytes, MAX_HEADER_BYTES);
        if let Some(size) = raw.header_bytes.value {
            limits.header_bytes = usize::try_from(size.bytes()).unwrap_or(usize::MAX);
        }
        limits
    }

    fn connections_of_each(&mut self, raw: &At<Bound<PositiveCount>>, workers: usize) -> Option<usize> {
        let all = number(raw.value)?;
        if all < workers {
            self.faults.at(raw.span, format!("expected at least {workers}: each worker has its own connections"));
        }
        Some(all / workers)
    }

    fn balance(&mut self, raw: &At<RawBalance>) -> Balance {
        let key = match &raw.value {
            RawBalance::LeastRequests => return Balance::LeastRequests,
            RawBalance::RoundRobin => return Balance::RoundRobin,
            RawBalance::Random => return Balance::Random,
            RawBalance::Hash(key) => key,
        };
        let Ok(key) = key else { return Balance::Random };
        if key.value == RequestKey::Route {
            self.faults.at(
                key.span,
                "all requests of a route would go to one server: hash by `client`, `address` or `header:NAME`",
            );
            return Balance::Random;
        }
        Balance::Hash(key.value.clone())
    }

    fn health_check(&mut self, raw: &At<RawHealthCheck>) -> Option<HealthCheck> {
        let check = &raw.value;
        let statuses = check.status.as_ref().map(|list| self.expected_statuses(&list.value)).unwrap_or_default();
        let probe = match &check.path {
            Some(path) => {
                let body = check.body.as_ref().map(|body| body.value.clone());
                if let Some(body) =
                    check.body.as_ref().filter(|body| body.value.is_empty() || body.value.len() > MAX_PROBE_BODY)
                {
                    self.faults.at(body.span, "expected text of at most `64KiB`");
                }
                match path.value.parse::<PathAndQuery>() {
                    Ok(parsed) if path.value.starts_with('/') => Probe::Http { path: parsed, statuses, body },
                    Ok(_) | Err(_) => {
                        self.faults.at(path.span, "expected a path such as `/ping`");
                        return None;
                    }
                }
            }
            None => {
                let spans = [check.status.as_ref().map(|key| key.span), check.body.as_ref().map(|key| key.span)];
                if let Some(span) = spans.into_iter().flatten().next() {
                    self.faults.at(span, "without `path` the check only connects: add `path`, or remove this");
                }
                Probe::Connect
            }
        };
        Some(HealthCheck {
            probe,
            interval: check.interval.value.get(),
            timeout: check.timeout.value.get(),
            unhealthy_after: check.unhealthy_after.value.get(),
            healthy_after: check.healthy_after.value.get(),
        })
    }

    fn expected_statuses(&mut self, list: &OneOrMore<PositiveCount>) -> Vec<StatusCode> {
        let mut statuses = Vec::new();
        for status in &list.items {
            let code = u16::try_from(status.value.get()).ok().filter(|code| (200..600).contains(code));
            match code.and_then(|code| StatusCode::from_u16(code).ok()) {
                Some(status) => statuses.push(status),
                None => {
                    self.faults.at(status.span, "expected a status from 200 to 599");
                }
            }
        }
        statuses
    }

    /// A copy of every request is kept only if retries are configured or there are several servers.
    fn retries(&mut self, raw: Option<&At<RawRetries>>, servers: usize) -> Retries {
        let rules = match raw.map(|raw| &raw.value) {
            None => return Retries { keep_all: servers > 1, ..Retries::default() },
            Some(OrNone::Nothing) => return Retries::NONE,
            Some(OrNone::Rules(rules)) => rules,
        };
        let attempts = self.count_up_to(&rules.attempts, MAX_ATTEMPTS) as u32;
        let per_try_timeout = rules.per_try_timeout.as_ref().map(|timeout| timeout.value.get());
        let Some(on) = &rules.on else {
            return Retries { attempts, per_try_timeout, keep_all: true, ..Retries::default() };
        };
        let on: Vec<RetryOn> = on.value.items.iter().map(|on| on.value).collect();
        let status = |on: &RetryOn| match on {
            RetryOn::Status(status) => StatusCode::from_u16(*status).ok(),
            RetryOn::Connect | RetryOn::Reset => None,
        };
        Retries {
            attempts,
            connect: on.contains(&RetryOn::Connect),
            reset: on.contains(&RetryOn::Reset),
            statuses: on.iter().filter_map(status).collect(),
            per_try_timeout,
            keep_all: true,
        }
    }
}

fn breaker(raw: &RawBreaker) -> BreakerRules {
    BreakerRules { consecutive_failures: raw.consecutive_failures.value.get(), open_for: raw.open_for.value.get() }
}

fn ejection(raw: Option<&At<RawEjection>>) -> Option<Ejection> {
    match raw.map(|raw| &raw.value) {
        None => Some(Ejection::default()),
        Some(OrNone::Nothing) => None,
        Some(OrNone::Rules(rules)) => Some(Ejection {
            consecutive_failures: rules.consecutive_failures.value.get(),
            error_rate: rules.error_rate.value.at_most().map(Percent::get),
            period: rules.duration.value.get(),
            max_ejected: rules.max_ejected.value.get(),
        }),
    }
}
