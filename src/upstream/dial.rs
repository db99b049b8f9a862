//! One connection to a server and one request over it, for `check --connect`.
//!
//! It is opened as every other connection is. The request is `HEAD`, for the path of the health check or `/`.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{Method, Version};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ProtocolVersion;
use tokio::time::{Instant, timeout};

use super::connect::open::open;
use super::connect::stream::Stream;
use super::host::HostRule;
use super::http1_probe::{self, ProbeFault, ProbeRules};
use super::http2_probe;
use super::protocol::UpstreamProtocol;
use super::server::{Server, ServerAddress};
use super::service_credential::ServiceCredential;
use super::settings::AnswerLimits;
use super::tls_fault::TlsFault;
use crate::jose::certificate_facts::CertificateFacts;
use crate::telemetry::error_chain::reason;

/// How a server is dialled.
#[derive(Clone, Debug)]
pub(crate) struct DialRules {
    pub(crate) host: HostRule,
    pub(crate) path: PathAndQuery,
    pub(crate) connect_timeout: Duration,
    pub(crate) limits: AnswerLimits,
    pub(crate) credential: Option<ServiceCredential>,
}

/// A server that has answered.
#[derive(Debug)]
pub(crate) struct DialledServer {
    /// The one of its addresses that was reached.
    pub(crate) address: String,
    /// `None` in clear text.
    pub(crate) tls: Option<TlsFacts>,
    pub(crate) http: Version,
    /// From the beginning of the connection to the head of the answer.
    pub(crate) took: Duration,
}

#[derive(Debug)]
pub(crate) struct TlsFacts {
    pub(crate) version: &'static str,
    pub(crate) certificate: Option<CertificateFacts>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum DialFault {
    #[error("no connection within {} s", .0.as_secs_f64())]
    ConnectTimeout(Duration),
    #[error("{}", reason(.0))]
    Connect(io::Error),
    #[error("it accepts connections, but sends no HTTP answer within {} s", ANSWER_TIMEOUT.as_secs())]
    AnswerTimeout,
    #[error("it sends no HTTP answer: {0}")]
    Http1(ProbeFault),
    #[error("it sends no HTTP/2 answer: {0}")]
    Http2(hyper::Error),
}

const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

impl DialFault {
    /// The key to correct, and how.
    pub(crate) fn remedy(&self) -> &'static str {
        match self {
            Self::ConnectTimeout(_) => "check the host and the port of `servers`, and the firewalls between",
            Self::Connect(error) | Self::Http1(ProbeFault::Stream(error)) => match TlsFault::within(error) {
                Some(fault) => fault.remedy(),
                None if error.kind() == io::ErrorKind::NotFound => "check the name in `servers`, and `dns.servers`",
                None => "check that the server runs, and the host and the port of `servers`",
            },
            Self::AnswerTimeout | Self::Http1(ProbeFault::Rule(_)) => {
                "check the port of `servers`; write `https://` if the server speaks TLS, or set `protocol: http2`"
            }
            Self::Http2(_) => {
                "check the port of `servers`; write `https://` if the server speaks TLS, or remove `protocol: http2`"
            }
        }
    }
}

pub(crate) async fn dial(server: &Server, rules: &DialRules) -> Result<DialledServer, DialFault> {
    let begun = Instant::now();
    let opened = timeout(rules.connect_timeout, open(server)).await;
    let opened = opened.map_err(|_| DialFault::ConnectTimeout(rules.connect_timeout))?;
    let (stream, address) = opened.map_err(DialFault::Connect)?;
    let tls = tls_facts(&stream);
    let answered = timeout(ANSWER_TIMEOUT, answer(stream, server, rules)).await;
    let http = answered.map_err(|_| DialFault::AnswerTimeout)??;
    Ok(DialledServer { address: reached(&server.place, address), tls, http, took: begun.elapsed() })
}

/// The version of the answer.
async fn answer(stream: Stream, server: &Server, rules: &DialRules) -> Result<Version, DialFault> {
    let host = rules.host.without_caller(server).clone();
    match server.protocol {
        UpstreamProtocol::Http1 => {
            let probe = ProbeRules { limits: rules.limits, credential: rules.credential.as_ref() };
            let answer = http1_probe::request(stream, Method::HEAD, host, &rules.path, probe).await;
            answer.map(|answer| answer.version).map_err(DialFault::Http1)
        }
        UpstreamProtocol::Http2 => {
            let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
            let (mut sender, connection) = handshake.map_err(DialFault::Http2)?;
            let request = http2_probe::request(server, Method::HEAD, &host, &rules.path, rules.credential.as_ref());
            let request = request.map_err(|error| DialFault::Connect(io::Error::other(error)))?;
            let mut answered = std::pin::pin!(sender.send_request(request));
            let answer = tokio::select! {
                answer = &mut answered => answer,
                // The connection may end before the answer is read.
                _ = connection => answered.await,
            };
            answer.map(|answer| answer.version()).map_err(DialFault::Http2)
        }
    }
}

fn tls_facts(stream: &Stream) -> Option<TlsFacts> {
    let Stream::Tls(stream) = stream else { return None };
    let session = stream.get_ref().1;
    let version = match session.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "TLS 1.3",
        Some(ProtocolVersion::TLSv1_2) => "TLS 1.2",
        Some(_) | None => "TLS",
    };
    let certificate = session.peer_certificates().and_then(|chain| CertificateFacts::read(chain.first()?));
    Some(TlsFacts { version, certificate })
}

fn reached(place: &ServerAddress, address: Option<IpAddr>) -> String {
    match (place, address) {
        (ServerAddress::Name(_, port), Some(address)) => SocketAddr::new(address, *port).to_string(),
        (ServerAddress::Name(..) | ServerAddress::Address(_) | ServerAddress::Socket(_), _) => place.to_string(),
    }
}
