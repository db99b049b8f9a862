//! Bodies: streamed, never collected.

pub(in crate::upstream) mod body_copy;
pub(crate) mod body_timeouts;
pub(crate) mod drain_body;
pub(crate) mod expect_continue;
pub(in crate::upstream) mod incoming_response;
pub(crate) mod request_body;
pub(crate) mod request_end;
pub(crate) mod upload_progress;
