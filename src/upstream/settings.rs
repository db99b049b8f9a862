//! The settings of an upstream, as configured. The modules that act on them say how.

use std::time::Duration;

use http::StatusCode;
use http::uri::PathAndQuery;

use super::host::HostRule;
use super::service_credential::ServiceCredential;
use crate::http1::request_head::HeadLimits;
use crate::trust::request_key::RequestKey;

/// How an upstream is used.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct UpstreamSettings {
    /// The `Host` of requests. A route's own rule takes precedence.
    pub(crate) host: HostRule,
    pub(crate) balance: Balance,
    pub(crate) connect_timeout: Duration,
    /// To the first byte of the response.
    pub(crate) response_timeout: Duration,
    pub(crate) health_check: Option<HealthCheck>,
    pub(crate) ejection: Option<Ejection>,
    pub(crate) breaker: Option<BreakerRules>,
    pub(crate) retries: Retries,
    /// The time over which the share of a recovered server grows to its full weight.
    pub(crate) slow_start: Option<Duration>,
    pub(crate) caps: Caps,
    pub(crate) keep_alive: KeepAlive,
    pub(crate) answers: AnswerLimits,
    pub(crate) authorization: Option<ServiceCredential>,
    /// Whether requests have `Via`.
    pub(crate) via: bool,
}

/// The use of a connection for several requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeepAlive {
    /// How long a connection without a request is kept.
    pub(crate) idle: Duration,
    /// On one connection.
    pub(crate) max_requests: Option<u32>,
}

/// Limits of the heads of responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AnswerLimits {
    pub(crate) header_count: usize,
    /// Of the whole head, or of the trailers.
    pub(crate) header_bytes: usize,
}

/// The balancing policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Balance {
    /// Least requests of two servers that were drawn at random.
    LeastRequests,
    RoundRobin,
    Random,
    /// Requests with the same key go to the same server. If a server is lost, only its own keys move. Without a key:
    /// random.
    Hash(RequestKey),
}

/// Limits for each server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Caps {
    /// Connections of each worker. A limit over all workers would leave a worker without a connection while another's
    /// are idle.
    pub(crate) connections: Option<usize>,
    /// Requests of the whole process.
    pub(crate) in_flight: Option<usize>,
}

/// Active health checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HealthCheck {
    pub(crate) probe: Probe,
    /// Between two checks, with a jitter of a tenth.
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    /// Failures in a row.
    pub(crate) unhealthy_after: u32,
    /// Successes in a row.
    pub(crate) healthy_after: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    /// A connection is enough.
    Connect,
    Http {
        path: PathAndQuery,
        /// Empty: any 2xx.
        statuses: Vec<StatusCode>,
        /// A text within the first [`MAX_PROBE_BODY`] bytes.
        body: Option<String>,
    },
}

/// Outlier ejection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ejection {
    pub(crate) consecutive_failures: u32,
    /// In percent.
    pub(crate) error_rate: Option<u32>,
    /// The first time; twice as long for each ejection that follows soon.
    pub(crate) period: Duration,
    /// In percent of the servers; of two servers, one may always be ejected.
    pub(crate) max_ejected: u32,
}

/// The circuit breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BreakerRules {
    pub(crate) consecutive_failures: u32,
    pub(crate) open_for: Duration,
}

/// Retries. Off if `attempts` is 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Retries {
    /// After the first.
    pub(crate) attempts: u32,
    pub(crate) connect: bool,
    pub(crate) reset: bool,
    /// Responses with these statuses are retried.
    pub(crate) statuses: Vec<StatusCode>,
    /// The timeout of an attempt that can be followed by another.
    pub(crate) per_try_timeout: Option<Duration>,
    /// Copy the head of every request that could be sent again. Otherwise only of requests over a connection that was
    /// idle for a while, which the upstream may be closing at this moment: a busy single server costs no copies.
    pub(crate) keep_all: bool,
}

/// The bytes of a health check's response in which its text is searched.
pub(crate) const MAX_PROBE_BODY: usize = 64 * 1024;

impl UpstreamSettings {
    /// The caller's `Authorization` does not reach the upstream: it gets that of the service.
    pub(crate) fn replaces_authorization(&self) -> bool {
        self.authorization.as_ref().is_some_and(ServiceCredential::replaces_authorization)
    }
}

impl AnswerLimits {
    pub(super) fn head_limits(self) -> HeadLimits {
        HeadLimits { target_bytes: 0, bytes: self.header_bytes, fields: self.header_count }
    }
}

impl Default for AnswerLimits {
    fn default() -> Self {
        Self { header_count: 200, header_bytes: 64 * 1024 }
    }
}

impl Default for Ejection {
    fn default() -> Self {
        Self { consecutive_failures: 5, error_rate: Some(50), period: Duration::from_secs(30), max_ejected: 50 }
    }
}

impl Retries {
    pub(crate) const NONE: Self = Self {
        attempts: 0,
        connect: false,
        reset: false,
        statuses: Vec::new(),
        per_try_timeout: None,
        keep_all: false,
    };
}

impl Default for Retries {
    fn default() -> Self {
        Self { attempts: 1, connect: true, reset: true, ..Self::NONE }
    }
}

#[cfg(test)]
impl UpstreamSettings {
    /// The settings of an upstream that is configured by its URL alone.
    pub(crate) fn new(connect_timeout: Duration, response_timeout: Duration) -> Self {
        Self {
            host: HostRule::Upstream,
            balance: Balance::LeastRequests,
            connect_timeout,
            response_timeout,
            health_check: None,
            ejection: None,
            breaker: None,
            retries: Retries::default(),
            slow_start: None,
            caps: Caps::default(),
            keep_alive: KeepAlive { idle: Duration::from_secs(15), max_requests: None },
            answers: AnswerLimits::default(),
            authorization: None,
            via: true,
        }
    }
}
