//! How a connection ended, and the times that its end may take.

use std::time::Duration;

use super::watch::TimeoutKind;

/// The reason for which a connection ended, if it has to be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionEnd {
    /// Closed by either side. Requests that were refused or cut have their own records.
    Closed,
    /// Closed by the gateway: the input is not HTTP/2.
    Malformed,
    /// Closed by the gateway: a request head over HTTP/2 exceeds the limits.
    TooLarge,
    /// Closed by the gateway: the client flooded it with frames that request nothing.
    Flooded,
    /// Closed by the gateway after a timeout.
    Overdue(TimeoutKind),
}

/// For the graceful close of a connection.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
