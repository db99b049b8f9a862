//! The metrics of reloads.

use std::fmt;

use prometheus_client::registry::Unit;

use super::metric_labels::{ConfigLabels, ReloadLabels};
use super::metrics::MetricsWriter;
use super::reload_counts::ReloadCounts;

impl MetricsWriter<'_, '_> {
    pub(super) fn reloads(&mut self, reloads: &ReloadCounts) -> fmt::Result {
        let in_use = ConfigLabels { revision: reloads.revision.clone(), instance: reloads.instance.clone() };
        self.gauges("portcullis_config_info", "The configuration in use; always 1", None, [(&in_use, &1.0)])?;
        let successful = f64::from(u8::from(!reloads.is_last_refused));
        self.gauge("portcullis_config_last_reload_successful", "0 while the last reload was refused", successful)?;
        self.gauge_with_unit(
            "portcullis_config_last_reload_success_timestamp",
            "Time at which the configuration in use was taken into use",
            Some(&Unit::Seconds),
            reloads.last_success as f64,
        )?;
        let result = |result| ReloadLabels { result };
        let counts = [(result("ok"), reloads.succeeded), (result("refused"), reloads.refused)];
        self.counters("portcullis_config_reloads", "Reloads of the configuration", &counts.into())
    }
}
