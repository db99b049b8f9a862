//! Active health checks, on the control plane: one task for each server.
//!
//! The first check decides alone, so that a gateway that starts while a server is down knows at once; later changes
//! take several results in a row. Each check has a connection of its own, a timeout, and a limit on the bytes read.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tracing::{error, info, warn};

use super::connect::open::open;
use super::http1_probe::{self, ProbeFault, ProbeResponse, ProbeRules};
use super::http2_probe;
use super::protocol::UpstreamProtocol;
use super::server::Server;
use super::service::Upstream;
use super::settings::{HealthCheck, MAX_PROBE_BODY, Probe, UpstreamSettings};

/// Why a check failed.
#[derive(Debug, thiserror::Error)]
enum CheckFailure {
    #[error("no response in time")]
    Timeout,
    #[error("no connection: {0}")]
    Connect(#[from] io::Error),
    #[error("no HTTP response: {0}")]
    Http1(#[from] ProbeFault),
    #[error("no HTTP response: {0}")]
    Http2(#[from] hyper::Error),
    #[error("status {0}")]
    Status(StatusCode),
    #[error("the response does not contain the configured text")]
    Body,
}

/// The state of one server by its checks.
#[derive(Debug, Default)]
struct CheckHistory {
    is_healthy: Option<bool>,
    /// Results in a row that contradict it.
    contradictions: u32,
}

/// The response of a healthy server.
struct ExpectedResponse<'p> {
    /// Empty: any 2xx.
    statuses: &'p [StatusCode],
    /// In the body.
    text: Option<&'p str>,
}

/// Searches a text in the beginning of a body. An empty text is found at once.
struct TextSearch<'t> {
    text: &'t [u8],
    read: Vec<u8>,
}

const RESTART_AFTER: Duration = Duration::from_secs(1);

/// Checks the servers of an upstream, until it is dropped. `None` without health checks.
pub(crate) fn keep_checking(upstream: &Arc<Upstream>) -> Option<impl Future<Output = ()> + use<>> {
    let rules = upstream.settings.health_check.clone()?;
    let upstream = Arc::clone(upstream);
    Some(async move {
        let mut checks = JoinSet::new();
        for index in 0..upstream.servers.len() {
            checks.spawn(keep_checking_one(Arc::clone(&upstream), rules.clone(), index));
        }
        checks.join_all().await;
    })
}

/// Restarts the checks after a panic: a server must not keep its last state for ever.
async fn keep_checking_one(upstream: Arc<Upstream>, rules: HealthCheck, index: usize) {
    loop {
        let checks = check_repeatedly(Arc::clone(&upstream), rules.clone(), index);
        let ended = JoinSet::from_iter([checks]).join_next().await;
        error!(
            upstream.name = &*upstream.name,
            server = &*upstream.servers[index].name(),
            ?ended,
            "the health checks of a server stopped unexpectedly: its state stays as it is until they start again in a \
             second; please report this"
        );
        sleep(RESTART_AFTER).await;
    }
}

async fn check_repeatedly(upstream: Arc<Upstream>, rules: HealthCheck, index: usize) {
    let server = &upstream.servers[index];
    let mut history = CheckHistory::default();
    loop {
        let host = upstream.settings.host.without_caller(server);
        let result = timeout(rules.timeout, check(server, host, &rules.probe, &upstream.settings))
            .await
            .unwrap_or(Err(CheckFailure::Timeout));
        if let Some(is_healthy) = history.update(result.is_ok(), &rules) {
            let is_change = upstream.statuses[index].set_healthy(is_healthy, upstream.millis(Instant::now()));
            let (name, server) = (&*upstream.name, &*server.name());
            match result {
                Err(reason) => warn!(
                    upstream.name = name,
                    server,
                    %reason,
                    "server is unhealthy: its health checks fail; it gets no requests while another server is healthy; \
                     check the server"
                ),
                Ok(()) if is_change => info!(upstream.name = name, server, "server is healthy again: it gets requests"),
                Ok(()) => {}
            }
        }
        // With a jitter, so that gateways that were started together do not check at the same time.
        sleep(rules.interval.mul_f64(0.9 + 0.2 * fastrand::f64())).await;
    }
}

async fn check(
    server: &Server,
    host: &HeaderValue,
    probe: &Probe,
    settings: &UpstreamSettings,
) -> Result<(), CheckFailure> {
    let (stream, _) = open(server).await?;
    let Probe::Http { path, statuses, body } = probe else {
        return Ok(());
    };
    let expected = ExpectedResponse { statuses, text: body.as_deref() };
    match server.protocol {
        UpstreamProtocol::Http1 => {
            let rules = ProbeRules { limits: settings.answers, credential: settings.authorization.as_ref() };
            let response = http1_probe::request(stream, Method::GET, host.clone(), path, rules).await?;
            expected.check_http1(response).await
        }
        UpstreamProtocol::Http2 => {
            let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
            let request = http2_probe::request(server, Method::GET, host, path, settings.authorization.as_ref());
            let request = request.map_err(io::Error::other)?;
            let mut exchange =
                std::pin::pin!(async { expected.check_http2(sender.send_request(request).await?).await });
            tokio::select! {
                done = &mut exchange => done,
                // The connection may end before the response is read.
                _ = connection => exchange.await,
            }
        }
    }
}

impl ExpectedResponse<'_> {
    async fn check_http1(&self, mut response: ProbeResponse) -> Result<(), CheckFailure> {
        self.check_status(response.status)?;
        let mut search = TextSearch::new(self.text);
        while !search.is_over() {
            let Some(data) = response.data().await? else { break };
            search.add(&data);
        }
        search.result()
    }

    async fn check_http2(&self, response: Response<Incoming>) -> Result<(), CheckFailure> {
        self.check_status(response.status())?;
        let mut search = TextSearch::new(self.text);
        let mut body = response.into_body();
        while !search.is_over() {
            let Some(frame) = body.frame().await else { break };
            if let Ok(data) = frame?.into_data() {
                search.add(&data);
            }
        }
        search.result()
    }

    fn check_status(&self, status: StatusCode) -> Result<(), CheckFailure> {
        let is_expected = if self.statuses.is_empty() { status.is_success() } else { self.statuses.contains(&status) };
        if is_expected { Ok(()) } else { Err(CheckFailure::Status(status)) }
    }
}

impl<'t> TextSearch<'t> {
    fn new(text: Option<&'t str>) -> Self {
        Self { text: text.unwrap_or_default().as_bytes(), read: Vec::new() }
    }

    fn is_found(&self) -> bool {
        memchr::memmem::find(&self.read[..self.read.len().min(MAX_PROBE_BODY)], self.text).is_some()
    }

    /// No more of the body is needed.
    fn is_over(&self) -> bool {
        self.read.len() >= MAX_PROBE_BODY || self.is_found()
    }

    fn add(&mut self, data: &[u8]) {
        self.read.extend_from_slice(data);
    }

    fn result(&self) -> Result<(), CheckFailure> {
        if self.is_found() { Ok(()) } else { Err(CheckFailure::Body) }
    }
}

impl CheckHistory {
    /// Whether the server is healthy from now on, if that changes.
    fn update(&mut self, is_success: bool, rules: &HealthCheck) -> Option<bool> {
        if self.is_healthy == Some(is_success) {
            self.contradictions = 0;
            return None;
        }
        self.contradictions += 1;
        let enough = match self.is_healthy {
            None => 1,
            Some(true) => rules.unhealthy_after,
            Some(false) => rules.healthy_after,
        };
        if self.contradictions < enough {
            return None;
        }
        *self = Self { is_healthy: Some(is_success), contradictions: 0 };
        self.is_healthy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_check_decides_and_later_several_in_a_row() {
        let rules = HealthCheck {
            probe: Probe::Connect,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            unhealthy_after: 3,
            healthy_after: 2,
        };
        let becomes = |checks: &str| {
            let mut history = CheckHistory::default();
            let update = |check| match history.update(check == '.', &rules) {
                None => '-',
                Some(true) => 'H',
                Some(false) => 'U',
            };
            checks.chars().map(update).collect::<String>()
        };
        assert_eq!(becomes("x..x.."), "U-H---");
        assert_eq!(becomes(".xx.xxx.x.."), "H-----U---H");
        assert_eq!(becomes("......"), "H-----");
    }
}
