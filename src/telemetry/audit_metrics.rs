//! The metrics of the audit log.

use std::fmt;

use super::metrics::{MetricsWriter, Process};

impl MetricsWriter<'_, '_> {
    pub(super) fn audit_log(&mut self, process: &Process) -> fmt::Result {
        self.counter("portcullis_audit_lines", "Lines written to the audit log", process.audit_lines)?;
        self.counter(
            "portcullis_audit_dropped",
            "Lines dropped because the audit queue was full",
            process.audit_dropped,
        )?;
        self.counter(
            "portcullis_audit_folded",
            "Decisions that are counted in a folded line of the audit log",
            process.audit_folded,
        )?;
        self.counter(
            "portcullis_audit_write_failures",
            "Failed writes to the audit log, each retried",
            process.audit_failures,
        )?;
        self.gauge(
            "portcullis_audit_broken",
            "1 while the audit log cannot be written",
            f64::from(u8::from(process.audit_broken)),
        )
    }
}
