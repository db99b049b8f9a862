//! The results of an issuer's introspection requests, for operators.

use tokio::time::Instant;

use crate::trust::progress::LastError;

#[derive(Debug, Default)]
pub(crate) struct IntrospectionStatus {
    /// True if the last request had no usable answer.
    pub(crate) out_of_reach: bool,
    pub(crate) last_error: Option<LastError>,
    counts: [u64; IntrospectionResult::ALL.len()],
}

/// The result of asking about a token, as labelled in the metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IntrospectionResult {
    Active,
    Inactive,
    /// No connection, a failed TLS handshake, or no complete response in time.
    Unreachable,
    /// A status other than 200.
    Status,
    TooLarge,
    /// No JSON object, or one without `active` as a boolean.
    Malformed,
    /// Not asked, because too many others are asked about.
    Busy,
    /// An error in the gateway's own setup.
    Setup,
}

impl IntrospectionStatus {
    /// Notes a result. Gives true if the endpoint has been lost or found again with it.
    pub(super) fn record(&mut self, result: IntrospectionResult, error: Option<&str>, now: Instant) -> bool {
        self.count(result);
        let was_out_of_reach = std::mem::replace(&mut self.out_of_reach, error.is_some());
        if let Some(text) = error {
            self.last_error = Some(LastError { text: text.to_owned(), at: now });
        }
        was_out_of_reach != self.out_of_reach
    }

    pub(super) fn count(&mut self, result: IntrospectionResult) {
        self.counts[result as usize] += 1;
    }

    /// Every result with its count.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (IntrospectionResult, u64)> {
        IntrospectionResult::ALL.into_iter().zip(self.counts)
    }
}

impl IntrospectionResult {
    pub(crate) const ALL: [Self; 8] = [
        Self::Active,
        Self::Inactive,
        Self::Unreachable,
        Self::Status,
        Self::TooLarge,
        Self::Malformed,
        Self::Busy,
        Self::Setup,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Inactive => "inactive",
            Self::Unreachable => "unreachable",
            Self::Status => "status",
            Self::TooLarge => "too_large",
            Self::Malformed => "malformed",
            Self::Busy => "busy",
            Self::Setup => "setup",
        }
    }
}
