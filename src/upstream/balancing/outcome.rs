//! The outcome of an exchange, as far as it is evidence of the server's health.

use http::StatusCode;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::upstream) enum ServerOutcome {
    Success,
    /// No connection, broken off, timed out, not HTTP, or the status of a gateway (502, 503, 504).
    Failure,
}

impl ServerOutcome {
    pub(in crate::upstream) fn of(status: StatusCode) -> Self {
        match status {
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => Self::Failure,
            _ => Self::Success,
        }
    }
}
