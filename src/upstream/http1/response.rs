//! The body of a response on an HTTP/1.1 connection, and the further use of the connection.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::super::fault::{BoxError, UpstreamFault};
use super::connection::Http1Connection;
use super::shared_connection::SharedConnection;
use super::upload::RequestUpload;
use crate::http1::body_reader::{BodyPiece, BodyReader, TrailerLimits};
use crate::http1::fault::WireFault;
use crate::http1::framing::BodyLength;
use crate::http1::response_head::ResponseHead;

/// If it is dropped before both bodies have ended, the connection is reset.
#[derive(Debug)]
pub(crate) struct Http1Response {
    connection: ResponseConnection,
    body: ResponseReader,
    keeps_alive: bool,
    /// The head announces a body where none may follow (RFC 9112 §6.3). Some services send that body, and on a reused
    /// connection it would be taken for the response to the next request.
    announces_forbidden_body: bool,
}

#[derive(Debug)]
enum ResponseConnection {
    Own(Box<Http1Connection>),
    /// The rest of the request has to be sent.
    Sending(Box<Http1Connection>, RequestUpload),
    /// The rest of the request is sent beside the response.
    Shared(SharedConnection),
}

#[derive(Debug)]
struct ResponseReader {
    reader: BodyReader,
    /// The piece behind the last one, read ahead to know whether the body has ended.
    ahead: Option<Box<Result<BodyPiece, WireFault>>>,
}

/// A connection whose exchange has ended.
#[derive(Debug)]
pub(crate) struct EndedExchange {
    pub(crate) connection: Box<Http1Connection>,
    /// Nothing can follow the response that would be taken for the next one.
    pub(crate) is_reusable: bool,
}

impl Http1Response {
    /// `upload` is the rest of the request, if it is not sent yet.
    pub(super) fn new(
        connection: Box<Http1Connection>,
        upload: Option<RequestUpload>,
        head: &ResponseHead,
        trailer_limits: TrailerLimits,
    ) -> Self {
        let connection = match upload {
            None => ResponseConnection::Own(connection),
            Some(upload) => ResponseConnection::Sending(connection, upload),
        };
        Self {
            connection,
            body: ResponseReader { reader: BodyReader::new(head.body, trailer_limits), ahead: None },
            keeps_alive: head.keeps_alive,
            announces_forbidden_body: head.body == BodyLength::None && head.announces_body,
        }
    }

    /// `None` once the rest of the request is sent beside the response.
    pub(crate) fn connection(&mut self) -> Option<&mut Http1Connection> {
        match &mut self.connection {
            ResponseConnection::Own(connection) | ResponseConnection::Sending(connection, _) => Some(connection),
            ResponseConnection::Shared(_) => None,
        }
    }

    /// Sends the rest of the request in a task of its own: the client may not read the response before it has sent all.
    pub(crate) fn send_rest(self) -> Self {
        let connection = match self.connection {
            ResponseConnection::Sending(connection, upload) => {
                ResponseConnection::Shared(SharedConnection::new(connection, upload))
            }
            other => other,
        };
        Self { connection, ..self }
    }

    pub(crate) fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let body = &mut self.body;
        let polled = match &mut self.connection {
            ResponseConnection::Own(connection) | ResponseConnection::Sending(connection, _) => {
                body.poll_frame(connection, context)
            }
            ResponseConnection::Shared(shared) => {
                shared.poll_with(context, |connection, context| body.poll_frame(connection, context))
            }
        };
        polled.map_err(BoxError::from)
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.body.has_ended()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        if self.body.has_ended() {
            return SizeHint::with_exact(0);
        }
        self.body.reader.remaining().map(SizeHint::with_exact).unwrap_or_default()
    }

    /// The connection, if the exchange has ended on both sides and the connection persists.
    pub(crate) fn end(self) -> Option<EndedExchange> {
        let has_ended = self.body.has_ended();
        let connection = match self.connection {
            ResponseConnection::Own(connection) => connection,
            ResponseConnection::Sending(..) => return None,
            ResponseConnection::Shared(shared) => shared.into_connection()?,
        };
        let persists = has_ended && self.keeps_alive && connection.is_at_rest();
        persists.then_some(EndedExchange { connection, is_reusable: !self.announces_forbidden_body })
    }
}

impl ResponseReader {
    fn has_ended(&self) -> bool {
        self.reader.is_complete() && self.ahead.is_none()
    }

    fn poll_frame(
        &mut self,
        connection: &mut Http1Connection,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UpstreamFault>>> {
        loop {
            let piece = match self.ahead.take() {
                Some(piece) => *piece,
                None => self.reader.read(&mut connection.input),
            };
            match piece.map_err(|fault| UpstreamFault::Protocol(fault.into()))? {
                BodyPiece::Data(data) => {
                    self.look_ahead(connection);
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                BodyPiece::Trailers(trailers) => return Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                BodyPiece::End => return Poll::Ready(None),
                BodyPiece::Incomplete => {}
            }
            match ready!(connection.poll_read(context)) {
                Ok(0) if self.reader.ends_with_stream() => {
                    self.reader = BodyReader::new(BodyLength::None, TrailerLimits { bytes: 0, fields: 0 });
                    return Poll::Ready(None);
                }
                Ok(0) => return Poll::Ready(Some(Err(reset(io::ErrorKind::UnexpectedEof.into())))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(reset(error)))),
            }
        }
    }

    /// The last chunk often comes with the data before it: the recipient is told at once that the body has ended.
    fn look_ahead(&mut self, connection: &mut Http1Connection) {
        if !self.reader.is_complete() && !connection.input.is_empty() {
            let piece = self.reader.read(&mut connection.input);
            let is_end = matches!(piece, Ok(BodyPiece::End | BodyPiece::Incomplete));
            self.ahead = (!is_end).then(|| Box::new(piece));
        }
    }
}

fn reset(error: io::Error) -> UpstreamFault {
    UpstreamFault::Reset(BoxError::from(error))
}
