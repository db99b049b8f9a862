//! The HTTP/1.1 codec (RFC 9112): heads and bodies from bytes, and back. It knows neither server nor upstream.
//!
//! It does no I/O. Readers take bytes from the front of a buffer and keep what they know of an incomplete message, so
//! that the way in which the bytes are cut changes neither result nor cost. A violated rule is a `WireFault`.

#![allow(dead_code, reason = "server and upstream do not use all of it yet")]

pub(crate) mod fault;
pub(crate) mod framing;
pub(crate) mod target;
pub(crate) mod head_scan;
mod field_lines;
pub(crate) mod request_head;
pub(crate) mod response_head;
mod chunk_line;
pub(crate) mod body_reader;
pub(crate) mod field_block;
pub(crate) mod head_writer;
pub(crate) mod chunk_writer;
#[cfg(test)]
mod splits;
