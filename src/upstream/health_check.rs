//! Asks servers how they are, from the control plane: one task for each, at its own pace.
//!
//! The first answer decides alone, so that a gateway that starts while a server is down knows at once; later it takes some in a row.
//! Each check has a connection of its own, a deadline, and a bound on what is read.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, USER_AGENT};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tracing::{error, info, warn};

use crate::upstream::http1::connection::open;
use crate::upstream::service::{Server, Upstream, UpstreamProtocol};

/// An upstream's rules.
#[derive(Clone, Debug)]
pub(crate) struct HealthCheck {
    pub(crate) probe: Probe,
    /// Between two checks, give or take a tenth.
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    /// In a row.
    pub(crate) unhealthy_after: u32,
    pub(crate) healthy_after: u32,
}

#[derive(Clone, Debug)]
pub(crate) enum Probe {
    /// A connection is enough.
    Connect,
    Http {
        path: PathAndQuery,
        /// Empty: any 2xx.
        statuses: Vec<StatusCode>,
        /// Within the first [`MAX_BODY`] bytes.
        body: Option<String>,
    },
}

/// Why a check found a server wanting.
#[derive(Debug, thiserror::Error)]
enum CheckFailure {
    #[error("no answer in time")]
    Late,
    #[error("no connection: {0}")]
    Connect(#[from] io::Error),
    #[error("no HTTP answer: {0}")]
    Http(#[from] hyper::Error),
    #[error("status {0}")]
    Status(StatusCode),
    #[error("the answer does not hold the text that is looked for")]
    Body,
}

/// What the checks of one server have come to.
#[derive(Debug, Default)]
struct CheckHistory {
    is_healthy: Option<bool>,
    /// Checks in a row that said otherwise.
    against: u32,
}

pub(crate) const MAX_BODY: usize = 64 * 1024;
const RESTART_AFTER: Duration = Duration::from_secs(1);
const OURSELVES: HeaderValue = HeaderValue::from_static("portcullis");
const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// Checks, until dropped, the servers of all upstreams that say how.
pub(crate) async fn keep_checking(upstreams: Vec<Arc<Upstream>>) {
    let mut checks = JoinSet::new();
    for upstream in upstreams {
        if let Some(rules) = &upstream.settings.health_check {
            for index in 0..upstream.servers.len() {
                checks.spawn(keep_checking_one(Arc::clone(&upstream), rules.clone(), index));
            }
        }
    }
    checks.join_all().await;
}

/// Begins again should the checks ever die: a server must not stay what it was for ever.
async fn keep_checking_one(upstream: Arc<Upstream>, rules: HealthCheck, index: usize) {
    loop {
        let checks = check_on(Arc::clone(&upstream), rules.clone(), index);
        let died = JoinSet::from_iter([checks]).join_next().await;
        error!(upstream.name = &*upstream.name, ?died, "the checks of a server died; starting them again");
        sleep(RESTART_AFTER).await;
    }
}

async fn check_on(upstream: Arc<Upstream>, rules: HealthCheck, index: usize) {
    let server = &upstream.servers[index];
    let mut record = CheckHistory::default();
    loop {
        let result = timeout(rules.timeout, check(server, &rules.probe)).await.unwrap_or(Err(CheckFailure::Late));
        if let Some(is_healthy) = record.hear(result.is_ok(), &rules) {
            let is_news = upstream.statuses[index].set_healthy(is_healthy, upstream.millis(Instant::now()));
            let (name, server) = (&*upstream.name, &*server.name());
            match result {
                Err(reason) => warn!(upstream.name = name, server, %reason, "a server is unhealthy"),
                Ok(()) if is_news => info!(upstream.name = name, server, "a server is healthy again"),
                Ok(()) => {}
            }
        }
        // Gateways that were started together should not ask together.
        sleep(rules.interval.mul_f64(0.9 + 0.2 * fastrand::f64())).await;
    }
}

async fn check(server: &Server, probe: &Probe) -> Result<(), CheckFailure> {
    let (stream, _) = open(server).await?;
    let Probe::Http { path, statuses, body } = probe else {
        return Ok(());
    };
    let mut request = Request::new(Empty::<Bytes>::new());
    request.headers_mut().insert(USER_AGENT, OURSELVES);
    let io = TokioIo::new(stream);
    match server.protocol {
        UpstreamProtocol::Http1 => {
            let (mut sender, connection) = http1::handshake(io).await?;
            *request.uri_mut() = Uri::from(path.clone());
            request.headers_mut().extend([(HOST, server.authority.clone()), (CONNECTION, CLOSE)]);
            judged(sender.send_request(request), connection, statuses, body.as_deref()).await
        }
        UpstreamProtocol::Http2 => {
            let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
            let scheme = if server.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
            let uri = Uri::builder().scheme(scheme).authority(server.authority.as_bytes()).path_and_query(path.clone());
            *request.uri_mut() = uri.build().map_err(io::Error::other)?;
            judged(sender.send_request(request), connection, statuses, body.as_deref()).await
        }
    }
}

async fn judged(
    answer: impl Future<Output = hyper::Result<Response<Incoming>>>,
    connection: impl Future<Output = hyper::Result<()>>,
    statuses: &[StatusCode],
    body: Option<&str>,
) -> Result<(), CheckFailure> {
    let exchange = async {
        let response = answer.await?;
        let status = response.status();
        let is_expected = if statuses.is_empty() { status.is_success() } else { statuses.contains(&status) };
        if !is_expected {
            return Err(CheckFailure::Status(status));
        }
        match body {
            Some(text) => holds(response.into_body(), text.as_bytes()).await,
            None => Ok(()),
        }
    };
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        done = &mut exchange => done,
        // Its end may come before what it has brought is read.
        _ = connection => exchange.await,
    }
}

async fn holds(mut body: Incoming, text: &[u8]) -> Result<(), CheckFailure> {
    let mut read = Vec::new();
    let found = |read: &[u8]| memchr::memmem::find(&read[..read.len().min(MAX_BODY)], text).is_some();
    while read.len() < MAX_BODY && !found(&read) {
        let Some(frame) = body.frame().await else { break };
        if let Ok(data) = frame?.into_data() {
            read.extend_from_slice(&data);
        }
    }
    if found(&read) { Ok(()) } else { Err(CheckFailure::Body) }
}

impl CheckHistory {
    /// What the server is from now on, where that changes.
    fn hear(&mut self, is_good: bool, rules: &HealthCheck) -> Option<bool> {
        if self.is_healthy == Some(is_good) {
            self.against = 0;
            return None;
        }
        self.against += 1;
        let enough = match self.is_healthy {
            None => 1,
            Some(true) => rules.unhealthy_after,
            Some(false) => rules.healthy_after,
        };
        if self.against < enough {
            return None;
        }
        *self = Self { is_healthy: Some(is_good), against: 0 };
        self.is_healthy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_check_decides_and_later_some_in_a_row() {
        let rules = HealthCheck {
            probe: Probe::Connect,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            unhealthy_after: 3,
            healthy_after: 2,
        };
        let becomes = |checks: &str| {
            let mut record = CheckHistory::default();
            let hear = |check| match record.hear(check == '.', &rules) {
                None => '-',
                Some(true) => 'H',
                Some(false) => 'U',
            };
            checks.chars().map(hear).collect::<String>()
        };
        assert_eq!(becomes("x..x.."), "U-H---");
        assert_eq!(becomes(".xx.xxx.x.."), "H-----U---H");
        assert_eq!(becomes("......"), "H-----");
    }
}
