//! Which server of an upstream a request goes to, which servers are left out, and how often a request may be sent
//! again.

pub(in crate::upstream) mod outcome;
pub(crate) mod status;
pub(crate) mod breaker;
pub(in crate::upstream) mod ejection;
pub(in crate::upstream) mod retry_budget;
pub(in crate::upstream) mod balancer;
