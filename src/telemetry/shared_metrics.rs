//! The metrics of rate limits, and of the stores that replicas share.

use std::fmt;

use super::metric_labels::{LimitModeLabels, ReplicaLabels};
use super::metrics::{MetricsWriter, Process};

impl MetricsWriter<'_, '_> {
    pub(super) fn limits(&mut self, process: &Process) -> fmt::Result {
        self.gauge("portcullis_ratelimit_keys", "Keys counted by rate limits", process.limit_keys as f64)?;
        if let Some(is_reachable) = process.database_reachable {
            let reachable = f64::from(u8::from(is_reachable));
            self.gauge("portcullis_database_reachable", "0 while the database is unreachable", reachable)?;
        }
        if let Some(rows) = process.signing_keys_left_aside {
            let help = "Signing keys of the database that are not used, because their rows do not open";
            self.gauge("portcullis_signing_keys_left_aside", help, rows as f64)?;
        }
        let Some(store) = &process.shared_store else { return Ok(()) };
        let mode = LimitModeLabels { mode: store.limit_mode };
        self.gauges("portcullis_ratelimit_mode", "How shared limits are counted; always 1", None, [(&mode, &1.0)])?;
        let reachable = f64::from(u8::from(store.is_reachable));
        self.gauge("portcullis_shared_store_reachable", "0 while Redis is unreachable", reachable)?;
        self.counter("portcullis_shared_store_failures", "Failed calls of Redis", store.failures)?;
        let [alive, known] = ["alive", "known"].map(|state| ReplicaLabels { state });
        let replicas = [(&alive, &(store.alive as f64)), (&known, &(store.known as f64))];
        self.gauges("portcullis_replicas", "Replicas that share Redis", None, replicas)?;
        let pending = store.pending_revocations as f64;
        self.gauge("portcullis_revocations_pending", "Revocations that the other replicas do not know yet", pending)
    }
}
