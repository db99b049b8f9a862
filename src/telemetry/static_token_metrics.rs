//! The metrics of static tokens.

use std::fmt;

use prometheus_client::registry::Unit;

use super::metric_labels::StaticTokenLabels;
use super::metrics::MetricsWriter;
use super::static_token_times::StaticTokenTimes;

impl MetricsWriter<'_, '_> {
    pub(super) fn static_tokens(&mut self, tokens: &[StaticTokenTimes]) -> fmt::Result {
        let labels = |token: &StaticTokenTimes| StaticTokenLabels { static_token: token.name.clone() };
        let last_used: Vec<(StaticTokenLabels, f64)> =
            tokens.iter().filter_map(|token| Some((labels(token), token.last_used? as f64))).collect();
        self.gauges(
            "portcullis_static_token_last_used_timestamp",
            "Time of the last request with a static token",
            Some(&Unit::Seconds),
            last_used.iter().map(|(labels, time)| (labels, time)),
        )?;
        let ends: Vec<(StaticTokenLabels, f64)> =
            tokens.iter().map(|token| (labels(token), token.until as f64)).collect();
        self.gauges(
            "portcullis_static_token_expiry_timestamp",
            "End of a static token",
            Some(&Unit::Seconds),
            ends.iter().map(|(labels, time)| (labels, time)),
        )
    }
}
