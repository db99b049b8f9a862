//! Metrics of the process and the build, with the names that all Prometheus clients use.

use std::fmt;

use prometheus_client::registry::Unit;

use super::metric_labels::BuildLabels;
use super::metrics::MetricsWriter;
use super::process_usage::ProcessUsage;

impl MetricsWriter<'_, '_> {
    pub(super) fn process(&mut self, usage: &ProcessUsage) -> fmt::Result {
        let build =
            BuildLabels { version: env!("CARGO_PKG_VERSION"), os: std::env::consts::OS, arch: std::env::consts::ARCH };
        self.gauges("portcullis_build_info", "The build that runs; always 1", None, [(&build, &1.0)])?;
        self.gauge_with_unit(
            "process_start_time",
            "Start of the process since 1970",
            Some(&Unit::Seconds),
            usage.started,
        )?;
        if let Some(seconds) = usage.cpu_seconds {
            self.counter_with_unit(
                "process_cpu",
                "Time on the processor, in user and kernel mode",
                &Unit::Seconds,
                seconds,
            )?;
        }
        for (name, help, unit, value) in [
            ("process_resident_memory", "Resident memory", Some(&Unit::Bytes), usage.resident_bytes),
            ("process_virtual_memory", "Virtual memory", Some(&Unit::Bytes), usage.virtual_bytes),
            ("process_open_fds", "Open file descriptors", None, usage.open_files),
            ("process_max_fds", "Limit on open file descriptors", None, usage.max_files),
            ("process_threads", "Threads", None, usage.threads),
        ] {
            if let Some(value) = value {
                self.gauge_with_unit(name, help, unit, value as f64)?;
            }
        }
        Ok(())
    }
}
