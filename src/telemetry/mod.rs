//! Data for operators: logs and metrics. Any module may import it. It imports no other module of this crate.

pub(crate) mod admin;
mod audit_metrics;
pub(crate) mod error_chain;
pub(crate) mod logs;
pub(crate) mod metric_labels;
pub(crate) mod metrics;
mod process_metrics;
pub(crate) mod process_usage;
pub(crate) mod reload_counts;
pub(crate) mod shared_metrics;
mod reload_metrics;
mod static_token_metrics;
pub(crate) mod static_token_times;
