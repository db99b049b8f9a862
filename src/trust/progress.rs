//! What the refresher of an issuer last did, for operators: counts, the last error, when it fetches next.

use tokio::time::Instant;
use url::Url;

use crate::jose::key_set::Skipped;

/// Written by the refresher alone; read by who looks after the gateway.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Where the keys were last found.
    pub(crate) jwks_uri: Option<Url>,
    /// Keys of the last set that can't be used.
    pub(crate) left_aside: Vec<Skipped>,
    /// Seconds by which the issuer's clock is ahead of ours.
    pub(crate) clock_skew: Option<i64>,
    pub(crate) last_error: Option<LastError>,
    /// The last attempt failed.
    pub(crate) out_of_reach: bool,
    pub(crate) next: Option<Instant>,
    counts: [u64; FetchResult::ALL.len()],
}

#[derive(Clone, Debug)]
pub(crate) struct LastError {
    pub(crate) text: String,
    pub(crate) at: Instant,
}

/// How an attempt to fetch ended, in the words of the metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FetchResult {
    Ok,
    /// No connection, no TLS, no whole answer in time.
    Unreachable,
    /// A status other than 200.
    Status,
    TooLarge,
    /// Metadata that is none, of another issuer, or that names keys in an unsafe place.
    Metadata,
    /// No JWK Set, or one without usable keys.
    Keys,
    /// Our own doing.
    Setup,
}

impl FetchResult {
    pub(crate) const ALL: [Self; 7] =
        [Self::Ok, Self::Unreachable, Self::Status, Self::TooLarge, Self::Metadata, Self::Keys, Self::Setup];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unreachable => "unreachable",
            Self::Status => "status",
            Self::TooLarge => "too_large",
            Self::Metadata => "metadata",
            Self::Keys => "keys",
            Self::Setup => "setup",
        }
    }
}

impl Progress {
    pub(crate) fn count(&mut self, result: FetchResult) {
        self.counts[result as usize] += 1;
    }

    /// Every result with how often it came.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (FetchResult, u64)> {
        FetchResult::ALL.into_iter().zip(self.counts)
    }
}
