//! Which server of an upstream a request goes to, which servers are left out, and how often a request may be sent again.

pub(crate) mod breaker;
pub(crate) mod ejection;
pub(crate) mod retry_budget;
pub(crate) mod status;
