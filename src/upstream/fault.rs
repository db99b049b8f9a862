//! The faults of an exchange with an upstream that the gateway distinguishes.

use std::error::Error;
use std::io;

use super::tls_fault::TlsFault;
use crate::http1::fault::WireFault;

/// Why there is no complete response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamFault {
    #[error("every server of the upstream is at its limit of requests or connections")]
    Full,
    #[error("the circuit breaker of the upstream is open: too many requests failed in a row")]
    Open,
    #[error("cannot connect to the upstream")]
    Connect(#[source] io::Error),
    #[error("the upstream did not respond in time")]
    Timeout,
    #[error("the upstream's response is not valid HTTP")]
    Protocol(#[source] BoxError),
    #[error("the upstream's response has {0} that was not requested")]
    Unasked(&'static str),
    #[error("the upstream's response has an invalid content length, or several different ones")]
    Length,
    #[error("the upstream closed the connection before its response was complete")]
    Reset(#[source] BoxError),
    #[error("the request body could not be forwarded")]
    RequestBody(BodyFault),
}

/// Why a request body could not be forwarded to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyFault {
    #[error("the body is larger than allowed")]
    TooLarge,
    #[error("the body stopped arriving, or arrived too slowly")]
    Slow,
    #[error("the client ended the body before it was complete")]
    Broken,
    #[error("the body breaks a rule of HTTP: {0}")]
    Malformed(WireFault),
}

/// A response over HTTP/2 ended early. As text: hyper would forward the reason of the error itself to the client, and
/// clients take some reasons for a regular end.
#[derive(Debug, thiserror::Error)]
#[error("the upstream truncated its response: {0}")]
pub(super) struct TruncatedResponse(pub(super) String);

impl BodyFault {
    /// Of an error of the client's connection.
    pub(super) fn of(error: &BoxError) -> Self {
        error.downcast_ref().map_or(Self::Broken, |fault| Self::Malformed(*fault))
    }
}

impl UpstreamFault {
    /// The name of the rule of HTTP/1.1 that the response, or the request's body, breaks, or of the fault of TLS.
    pub(crate) fn rule(&self) -> Option<&'static str> {
        match self {
            Self::Connect(_) => self.tls_fault().map(TlsFault::rule),
            Self::Protocol(error) => error.downcast_ref::<WireFault>().map(|fault| fault.name()),
            Self::RequestBody(BodyFault::Malformed(fault)) => Some(fault.name()),
            Self::Length => Some(WireFault::Length.name()),
            Self::Full | Self::Open | Self::Timeout | Self::Unasked(_) | Self::Reset(_) | Self::RequestBody(_) => None,
        }
    }

    /// Why TLS with the server failed, if that is the fault.
    pub(crate) fn tls_fault(&self) -> Option<&TlsFault> {
        if let Self::Connect(error) = self { TlsFault::within(error) } else { None }
    }

    /// Of a connection that the server has ended, or has not let begin.
    pub(super) fn of_read(error: io::Error) -> Self {
        if TlsFault::within(&error).is_some() { Self::Connect(error) } else { Self::Reset(error.into()) }
    }

    /// Classifies an HTTP/2 error, other than one that says that the request was not processed.
    pub(super) fn of_http2(error: h2::Error, body: Option<BodyFault>) -> Self {
        match body {
            Some(fault) => Self::RequestBody(fault),
            // Raised by our side: the bytes received were not HTTP/2.
            None if error.is_library() => Self::Protocol(error.into()),
            None => Self::Reset(error.into()),
        }
    }
}

/// True if the peer has closed its side. The bytes that it sent before can still be read.
pub(super) fn is_disconnect(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted
    )
}

/// The error type of bodies: boxed, as hyper requires.
pub(crate) type BoxError = Box<dyn Error + Send + Sync>;
