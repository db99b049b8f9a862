//! The request of a health check or of `check --connect` over HTTP/1.1, on a connection of its own.
//!
//! Apart from the client of requests, because checks run on the control plane, whose tasks move between threads.

use std::io;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, HOST, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::connect::stream::Stream;
use super::service_credential::ServiceCredential;
use super::settings::AnswerLimits;
use super::tls_fault::TlsFault;
use crate::http1::body_reader::{BodyPiece, BodyReader, TrailerLimits};
use crate::http1::fault::WireFault;
use crate::http1::framing::BodyLength;
use crate::http1::head_scan::HeadScan;
use crate::http1::head_writer::write_request_head;
use crate::http1::response_head::{ResponseHead, read_response};
use crate::http1::target::OriginForm;

/// A response whose body is still to be read.
#[derive(Debug)]
pub(super) struct ProbeResponse {
    pub(super) status: StatusCode,
    pub(super) version: Version,
    body: BodyReader,
    wire: Wire,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ProbeFault {
    #[error("{0}")]
    Rule(#[from] WireFault),
    #[error("{0}")]
    Stream(#[from] io::Error),
}

#[derive(Debug)]
struct Wire {
    stream: Stream,
    input: BytesMut,
}

pub(super) const PRODUCT_NAME: HeaderValue = HeaderValue::from_static("portcullis");
const CLOSE: HeaderValue = HeaderValue::from_static("close");
const MAX_INTERIM: usize = 16;

/// The settings of an upstream that its probes follow.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProbeRules<'u> {
    pub(super) limits: AnswerLimits,
    pub(super) credential: Option<&'u ServiceCredential>,
}

/// Sends a request without a body and gives its response. The caller sets the deadline.
pub(super) async fn request(
    mut stream: Stream,
    method: Method,
    host: HeaderValue,
    path: &PathAndQuery,
    rules: ProbeRules<'_>,
) -> Result<ProbeResponse, ProbeFault> {
    let target = OriginForm::from_bytes(Bytes::copy_from_slice(path.as_str().as_bytes()))?;
    let fields = [(HOST, host), (USER_AGENT, PRODUCT_NAME), (CONNECTION, CLOSE)];
    let mut head = Vec::new();
    let mut headers = HeaderMap::from_iter(fields);
    if let Some(credential) = rules.credential {
        headers.insert(credential.name().clone(), credential.value().clone());
    }
    write_request_head(&mut head, &method, &target, &headers, &[], BodyLength::None);
    stream.write_all(&head).await?;
    stream.flush().await?;
    let limits = rules.limits;
    let mut wire = Wire { stream, input: BytesMut::new() };
    for _ in 0..=MAX_INTERIM {
        let head = wire.head(&method, limits).await?;
        if !head.status.is_informational() {
            let trailers = TrailerLimits { bytes: limits.header_bytes, fields: limits.header_count };
            let (status, version) = (head.status, head.version);
            return Ok(ProbeResponse { status, version, body: BodyReader::new(head.body, trailers), wire });
        }
    }
    Err(WireFault::TooManyInterim.into())
}

impl ProbeResponse {
    /// The next piece of the body.
    pub(super) async fn data(&mut self) -> Result<Option<Bytes>, ProbeFault> {
        loop {
            match self.body.read(&mut self.wire.input)? {
                BodyPiece::Data(data) => return Ok(Some(data)),
                BodyPiece::Trailers(_) | BodyPiece::End => return Ok(None),
                BodyPiece::Incomplete => {}
            }
            if !self.wire.fill().await? {
                return if self.body.ends_with_stream() { Ok(None) } else { Err(ended_early()) };
            }
        }
    }
}

impl Wire {
    async fn head(&mut self, method: &Method, limits: AnswerLimits) -> Result<ResponseHead, ProbeFault> {
        let mut scan = HeadScan::default();
        loop {
            if let Some(head) = read_response(&mut scan, &mut self.input, &limits.head_limits(), method)? {
                return Ok(head);
            }
            if !self.fill().await? {
                return Err(ended_early());
            }
        }
    }

    /// False at the end of the stream.
    async fn fill(&mut self) -> io::Result<bool> {
        self.input.reserve(8 * 1024);
        Ok(self.stream.read_buf(&mut self.input).await.map_err(TlsFault::of_read)? > 0)
    }
}

fn ended_early() -> ProbeFault {
    io::Error::from(io::ErrorKind::UnexpectedEof).into()
}
