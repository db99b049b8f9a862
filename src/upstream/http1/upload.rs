//! The body of a request on an HTTP/1.1 connection.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Method;
use http_body::{Body as _, Frame};

use super::super::body::request_body::{RequestBody, has_payload};
use super::super::fault::BoxError;
use super::connection::Http1Connection;
use super::output_buffer::OutputBuffer;
use crate::http1::chunk_writer::{CHUNK_END, write_chunk_size, write_last_chunk};
use crate::http1::framing::BodyLength;

/// Moves a body into the output of a connection, and writes it.
#[derive(Debug)]
pub(super) struct RequestUpload {
    /// `None` once all of it is in the output.
    body: Option<Box<RequestBody>>,
    /// Bytes still to come, if the length was announced; else the body is sent in chunks.
    remaining: Option<u64>,
}

/// The body has another length than announced.
#[derive(Debug)]
struct WrongLength;

/// The end of the last chunk of data and of the body.
const CHUNKS_END: &[u8] = b"\r\n0\r\n\r\n";

impl std::error::Error for WrongLength {}

impl fmt::Display for WrongLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body of the request does not have the announced length")
    }
}

/// How the body of a request is announced. A length of zero is announced only with methods that usually have a body
/// (RFC 9110 §8.6).
pub(super) fn announced_length(method: &Method, body: &RequestBody) -> BodyLength {
    match body.size_hint().exact() {
        Some(0) if !has_payload(method) => BodyLength::None,
        Some(length) => BodyLength::Exact(length),
        None => BodyLength::Chunked,
    }
}

impl RequestUpload {
    pub(super) fn none() -> Self {
        Self { body: None, remaining: None }
    }

    pub(super) fn new(body: RequestBody, length: BodyLength) -> Self {
        let remaining = match length {
            BodyLength::None => Some(0),
            BodyLength::Exact(length) => Some(length),
            BodyLength::Chunked | BodyLength::UntilClose => None,
        };
        Self { body: Some(Box::new(body)), remaining }
    }

    pub(super) fn has_body(&self) -> bool {
        self.body.is_some()
    }

    /// Ready when all is sent.
    pub(super) fn poll_send(
        &mut self,
        connection: &mut Http1Connection,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), BoxError>> {
        loop {
            let taken = self.poll_take(&mut connection.output, context)?;
            match connection.poll_write(context)? {
                Poll::Ready(()) => ready!(taken),
                Poll::Pending => {
                    if taken.is_pending() {
                        // The time for which the caller is awaited does not run while the upstream takes nothing.
                        let _ = self.poll_take(&mut connection.output, context)?;
                    }
                    return Poll::Pending;
                }
            }
            if self.body.is_none() && connection.output.is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Takes from the body what is there. Ready if its end or no room for more is reached.
    fn poll_take(&mut self, output: &mut OutputBuffer, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        while let Some(body) = &mut self.body
            && output.has_room()
        {
            let frame = ready!(Pin::new(&mut **body).poll_frame(context)).transpose()?;
            let is_last = body.is_end_stream();
            match frame.map(Frame::into_data) {
                Some(Ok(data)) => self.push_data(data, is_last, output)?,
                // Trailers are not sent: a service over HTTP/1.1 cannot say that it reads them.
                Some(Err(_)) | None => self.end(output)?,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn push_data(&mut self, data: Bytes, is_last: bool, output: &mut OutputBuffer) -> Result<(), BoxError> {
        match &mut self.remaining {
            Some(remaining) => {
                *remaining = remaining.checked_sub(data.len() as u64).ok_or(WrongLength)?;
                output.push(data, b"");
            }
            // An empty chunk would end the body.
            None if data.is_empty() => {}
            None => {
                write_chunk_size(output.bytes(), data.len());
                output.push(data, if is_last { CHUNKS_END } else { CHUNK_END });
                if is_last {
                    self.body = None;
                }
                return Ok(());
            }
        }
        if is_last { self.end(output) } else { Ok(()) }
    }

    fn end(&mut self, output: &mut OutputBuffer) -> Result<(), BoxError> {
        match self.remaining {
            None => write_last_chunk(output.bytes(), None),
            Some(0) => {}
            Some(_) => return Err(WrongLength.into()),
        }
        self.body = None;
        Ok(())
    }
}
