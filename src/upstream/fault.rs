//! What can go wrong between us and an upstream, as far as it makes a difference.

use std::error::Error;
use std::io;

/// Why there is no whole answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamFault {
    #[error("every server of the upstream has as much as it takes")]
    Full,
    #[error("the upstream has failed too often of late")]
    Open,
    #[error("cannot connect to the upstream")]
    Connect(#[source] io::Error),
    #[error("the upstream did not answer in time")]
    Timeout,
    #[error("the upstream's answer is not HTTP as we take it")]
    Protocol(#[source] BoxError),
    #[error("the upstream's answer has {0} that nobody asked for")]
    Unasked(&'static str),
    #[error("the upstream's answer has a length that is no number, or several")]
    Length,
    #[error("the upstream broke off")]
    Reset(#[source] BoxError),
    #[error("the request body could not be passed on")]
    RequestBody(BodyFault),
}

/// Why a request body could not be passed on to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyFault {
    #[error("the body is larger than allowed")]
    TooLarge,
    #[error("the body stopped coming, or came too slowly")]
    Slow,
    #[error("the body broke off")]
    Broken,
}

/// An answer over HTTP/2 ended before its end. As text: with the error itself, its reason would be passed on to clients, and there
/// are reasons that clients take for a good end.
#[derive(Debug, thiserror::Error)]
#[error("the upstream cut its answer: {0}")]
pub(super) struct Cut(pub(super) String);

impl UpstreamFault {
    /// What hyper's error means; a body of ours that broke explains itself.
    pub(super) fn of(error: hyper::Error, body: Option<BodyFault>) -> Self {
        if let Some(fault) = body {
            return Self::RequestBody(fault);
        }
        if error.is_parse() || error.is_parse_too_large() || error.is_parse_status() {
            Self::Protocol(error.into())
        } else {
            Self::Reset(error.into())
        }
    }

    /// What an error of HTTP/2 means, where it does not mean that the request was not looked at.
    pub(super) fn of_http2(error: h2::Error, body: Option<BodyFault>) -> Self {
        match body {
            Some(fault) => Self::RequestBody(fault),
            // Ours: what came was no HTTP/2.
            None if error.is_library() => Self::Protocol(error.into()),
            None => Self::Reset(error.into()),
        }
    }
}

/// True where the peer has closed its side: what it has said before may still be read.
pub(super) fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted
    )
}

/// The error type of bodies: boxed, because hyper wants one.
pub(crate) type BoxError = Box<dyn Error + Send + Sync>;
