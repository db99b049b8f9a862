//! Bodies: streamed, or collected where a route asks for it, with limits on their size and on the time that they take.
//!
//! The body of a response to the client is in `response_body`, because it holds the connection that it arrives by.

pub(crate) mod request_end;
pub(crate) mod drain_body;
pub(crate) mod body_timeouts;
pub(crate) mod expect_continue;
mod body_copy;
mod buffered_bytes;
pub(crate) mod upload_progress;
pub(crate) mod request_body;
