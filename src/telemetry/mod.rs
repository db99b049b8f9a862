//! What operators see: logs and metrics. Anyone may import it; it imports nothing of ours.

pub(crate) mod admin;
pub(crate) mod chain;
pub(crate) mod logs;
pub(crate) mod metrics;
