//! The refresher's last results for an issuer, for operators: counts, the last error, the time of the next fetch.

use tokio::time::Instant;
use url::Url;

use crate::jose::key_set::Skipped;

/// Written only by the refresher.
#[derive(Debug, Default)]
pub(crate) struct RefreshProgress {
    /// The URL at which the keys were last found.
    pub(crate) jwks_uri: Option<Url>,
    /// Unusable keys of the last set.
    pub(crate) left_aside: Vec<Skipped>,
    /// Seconds by which the issuer's clock is ahead of the gateway's.
    pub(crate) clock_skew: Option<i64>,
    pub(crate) last_error: Option<LastError>,
    /// True if the last attempt failed.
    pub(crate) out_of_reach: bool,
    pub(crate) next: Option<Instant>,
    counts: [u64; FetchResult::ALL.len()],
}

#[derive(Clone, Debug)]
pub(crate) struct LastError {
    pub(crate) text: String,
    pub(crate) at: Instant,
}

/// The result of an attempt to fetch, as labelled in the metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FetchResult {
    Ok,
    /// No connection, a failed TLS handshake, or no complete response in time.
    Unreachable,
    /// A status other than 200.
    Status,
    TooLarge,
    /// Malformed metadata, metadata of another issuer, or an unsafe `jwks_uri`.
    Metadata,
    /// Not a JWK Set, or a set without usable keys.
    Keys,
    /// An error in the gateway's own setup.
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

impl RefreshProgress {
    pub(crate) fn count(&mut self, result: FetchResult) {
        self.counts[result as usize] += 1;
    }

    /// Every result with its count.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (FetchResult, u64)> {
        FetchResult::ALL.into_iter().zip(self.counts)
    }
}
