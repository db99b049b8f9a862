//! The state of the issuers, as shown by the admin listener, `portcullis issuers` and the metrics.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::issuer::TrustedIssuer;
use super::progress::{LastError, RefreshProgress};

/// All issuers, as in the response to `GET /issuers`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct IssuersReport {
    /// Identifies the configuration, as in audit lines.
    pub(crate) config: String,
    pub(crate) issuers: Vec<IssuerReport>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct IssuerReport {
    pub(crate) name: String,
    pub(crate) issuer: String,
    /// The URL at which the keys were last found.
    pub(crate) jwks_uri: Option<String>,
    pub(crate) state: KeySetState,
    /// True if the last attempt to fetch failed.
    pub(crate) out_of_reach: bool,
    pub(crate) keys: Vec<KeyReport>,
    pub(crate) left_aside: Vec<LeftAside>,
    /// Time since the set was requested.
    pub(crate) age_s: Option<u64>,
    /// Time until its tokens get 503 if every fetch fails.
    pub(crate) usable_for_s: Option<u64>,
    pub(crate) next_refresh_s: Option<u64>,
    /// Seconds by which the issuer's clock is ahead of the gateway's, from its `Date` header.
    pub(crate) clock_skew_s: Option<i64>,
    pub(crate) last_error: Option<ErrorReport>,
    /// Look-ups answered from a set older than its time to live.
    pub(crate) stale_served: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum KeySetState {
    /// The gateway's own keys, from memory.
    Own,
    /// From a file or from the configuration.
    Local,
    /// Within the time to live.
    Fresh,
    /// Older than the time to live, within `max_stale`.
    Stale,
    /// Older than `max_stale` allows: its tokens get 503.
    Expired,
    /// Never fetched: its tokens get 503.
    Missing,
    /// There are no keys: the issuer is asked about its tokens.
    Introspected,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct KeyReport {
    pub(crate) kid: Option<String>,
    pub(crate) alg: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LeftAside {
    pub(crate) kid: Option<String>,
    pub(crate) reason: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ErrorReport {
    pub(crate) error: String,
    pub(crate) ago_s: u64,
}

impl IssuerReport {
    pub(crate) fn of(issuer: &TrustedIssuer, now: Instant) -> Self {
        let (settings, keys) = (&issuer.settings, &issuer.keys);
        let times = keys.times();
        let key = |key: &crate::jose::jwk::VerifyingKey| KeyReport {
            kid: key.key_id.as_deref().map(str::to_owned),
            alg: key.algorithm.to_string(),
        };
        let mut report = Self {
            name: settings.name.as_str().to_owned(),
            issuer: settings.issuer.as_str().to_owned(),
            jwks_uri: None,
            state: KeySetState::of(issuer, now),
            out_of_reach: false,
            keys: keys.keys().keys().map(key).collect(),
            left_aside: Vec::new(),
            age_s: times.map(|times| seconds(now, times.requested_at)),
            usable_for_s: times.map(|times| seconds(times.usable_until, now)),
            next_refresh_s: None,
            clock_skew_s: None,
            last_error: None,
            stale_served: keys.stale_served(),
        };
        match &issuer.introspection {
            None => keys.with_progress(|progress| report.add(progress, now)),
            Some(introspection) => introspection.with_status(|status| {
                report.out_of_reach = status.out_of_reach;
                report.last_error = status.last_error.as_ref().map(|error| error.report(now));
            }),
        }
        report
    }

    fn add(&mut self, progress: &RefreshProgress, now: Instant) {
        self.jwks_uri = progress.jwks_uri.as_ref().map(ToString::to_string);
        self.out_of_reach = progress.out_of_reach;
        self.left_aside = progress
            .left_aside
            .iter()
            .map(|key| LeftAside { kid: key.key_id.clone(), reason: key.reason.to_string() })
            .collect();
        self.next_refresh_s = progress.next.map(|next| seconds(next, now));
        self.clock_skew_s = progress.clock_skew;
        self.last_error = progress.last_error.as_ref().map(|error| error.report(now));
    }
}

impl LastError {
    fn report(&self, now: Instant) -> ErrorReport {
        ErrorReport { error: self.text.clone(), ago_s: seconds(now, self.at) }
    }
}

impl KeySetState {
    pub(crate) fn of(issuer: &TrustedIssuer, now: Instant) -> Self {
        let keys = &issuer.keys;
        match keys.times() {
            _ if issuer.introspection.is_some() => Self::Introspected,
            None if keys.is_own() => Self::Own,
            None if !keys.is_remote() => Self::Local,
            None => Self::Missing,
            Some(times) if now < times.fresh_until => Self::Fresh,
            Some(times) if now < times.usable_until => Self::Stale,
            Some(_) => Self::Expired,
        }
    }
}

fn seconds(later: Instant, earlier: Instant) -> u64 {
    let since: Duration = later.saturating_duration_since(earlier);
    since.as_secs()
}
