//! The stream of a connection with its buffers. The connection and the body of its current request share it.

use std::error::Error;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use tokio::io::AsyncReadExt as _;

use super::super::client_stream::ClientStream;
use super::super::watch::Watch;
use super::output::Output;
use crate::http1::body_reader::{BodyPiece, BodyReader, TrailerLimits};
use crate::http1::fault::WireFault;
use crate::http1::framing::BodyLength;
use crate::http1::head_scan::HeadScan;
use crate::http1::request_head::{HeadLimits, RequestHead, read_request};

pub(super) struct ClientWire {
    stream: ClientStream,
    watch: Rc<Watch>,
    limits: HeadLimits,
    input: BytesMut,
    scan: HeadScan,
    pub(super) output: Output,
    upload: Upload,
    /// The answer to the current request has begun: only the connection's task writes.
    is_answering: bool,
    /// The end of the connection is that of the present answer, which the client does not have whole yet.
    pub(super) is_open_ended: bool,
    /// The size of the next read of a body, in bytes.
    read_size: usize,
    /// The task that waits for the body, if it is another one than that of the connection.
    body_task: Option<Waker>,
}

/// The body of the current request.
enum Upload {
    /// Read whole, or there is none.
    Complete,
    Open {
        reader: BodyReader,
        /// The client is told to go on when the body is polled for the first time.
        awaits_continue: bool,
    },
    /// Its end has not been and will not be read, so no further request can be.
    Unreadable,
}

/// The next request of a connection.
#[expect(clippy::large_enum_variant, reason = "it is taken apart at once")]
pub(super) enum NextRequest {
    Head(RequestHead),
    Fault(WireFault),
    /// The client has closed the connection.
    End,
}

type PolledFrame = Poll<Option<Result<Frame<Bytes>, Box<dyn Error + Send + Sync>>>>;

/// The size of a read between bodies, in bytes, and the number of bytes that are kept of later requests.
const READ: usize = 8 * 1024;
const MAX_READ: usize = 64 * 1024;
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

impl ClientWire {
    pub(super) fn new(stream: ClientStream, watch: Rc<Watch>, limits: HeadLimits) -> Self {
        Self {
            stream,
            watch,
            limits,
            input: BytesMut::new(),
            scan: HeadScan::default(),
            output: Output::default(),
            upload: Upload::Complete,
            is_answering: false,
            is_open_ended: false,
            read_size: READ,
            body_task: None,
        }
    }

    /// Ready when a connection at rest has input or a signal; false when the client has closed it. The buffer exists
    /// only as long as there is input.
    pub(super) fn poll_activity(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        match self.poll_fill(READ, context) {
            Poll::Ready(result) => Poll::Ready(matches!(result, Ok(1..))),
            Poll::Pending => {
                self.input = BytesMut::new();
                self.watch.poll_has_signal(context).map(|()| true)
            }
        }
    }

    /// Frees the buffers of a connection between two requests. False if it is not between two requests.
    pub(super) fn rest(&mut self) -> bool {
        let rests = matches!(self.upload, Upload::Complete) && self.input.is_empty() && self.output.is_empty();
        if rests {
            self.input = BytesMut::new();
            self.scan = HeadScan::default();
            self.output = Output::default();
        }
        rests
    }

    /// Reads the next head. The output is written first, unless the head is there already.
    pub(super) fn poll_request(&mut self, context: &mut Context<'_>) -> Poll<NextRequest> {
        if self.output.is_full() && ready!(self.poll_output(context)).is_err() {
            return Poll::Ready(NextRequest::End);
        }
        loop {
            if !self.input.is_empty() {
                match read_request(&mut self.scan, &mut self.input, &self.limits) {
                    Ok(Some(head)) => {
                        self.is_answering = false;
                        return Poll::Ready(NextRequest::Head(head));
                    }
                    Ok(None) => self.watch.read(),
                    Err(fault) => {
                        self.upload = Upload::Unreadable;
                        return Poll::Ready(NextRequest::Fault(fault));
                    }
                }
            }
            if let Poll::Ready(Err(_)) = self.poll_output(context) {
                return Poll::Ready(NextRequest::End);
            }
            if !matches!(ready!(self.poll_fill(READ, context)), Ok(1..)) {
                return Poll::Ready(NextRequest::End);
            }
        }
    }

    /// The body of a request whose head has been read follows; false if there is none. Must not be called while another
    /// one is open.
    pub(super) fn open_upload(&mut self, length: BodyLength, awaits_continue: impl FnOnce() -> bool) -> bool {
        if matches!(length, BodyLength::None | BodyLength::Exact(0)) {
            return false;
        }
        let limits = TrailerLimits { bytes: self.limits.bytes, fields: self.limits.fields };
        let reader = BodyReader::new(length, limits);
        self.read_size = READ;
        self.upload = Upload::Open { reader, awaits_continue: awaits_continue() };
        true
    }

    pub(super) fn is_upload_open(&self) -> bool {
        matches!(self.upload, Upload::Open { .. })
    }

    /// Whether nothing of the current request is left to be read.
    pub(super) fn is_upload_complete(&self) -> bool {
        matches!(self.upload, Upload::Complete)
    }

    /// A final answer begins: `100 Continue` must not follow. True if the connection cannot read another request.
    pub(super) fn begin_answer(&mut self) -> bool {
        self.is_answering = true;
        if let Upload::Open { awaits_continue, .. } = &mut self.upload {
            *awaits_continue = false;
        }
        matches!(self.upload, Upload::Unreadable)
    }

    /// Ready when the body has been read, or will not be; true in the first case. Writes the output meanwhile.
    pub(super) fn poll_upload_end(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        if !self.is_upload_open() {
            return Poll::Ready(self.is_upload_complete());
        }
        match self.poll_output(context) {
            Poll::Ready(Err(_)) => Poll::Ready(false),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
        }
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        match &self.upload {
            Upload::Open { reader, .. } => reader.remaining().map(SizeHint::with_exact).unwrap_or_default(),
            Upload::Complete | Upload::Unreadable => SizeHint::with_exact(0),
        }
    }

    /// The next frame of the body. The body must be open.
    pub(super) fn poll_upload(&mut self, context: &mut Context<'_>) -> PolledFrame {
        loop {
            let Upload::Open { reader, awaits_continue } = &mut self.upload else {
                return Poll::Ready(Some(Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())));
            };
            match reader.read(&mut self.input) {
                Ok(BodyPiece::Incomplete) => {}
                Ok(piece) => {
                    if reader.is_complete() {
                        self.end_upload(Upload::Complete, context);
                    }
                    return Poll::Ready(frame(piece).map(Ok));
                }
                Err(fault) => {
                    self.end_upload(Upload::Unreadable, context);
                    return Poll::Ready(Some(Err(fault.into())));
                }
            }
            if std::mem::take(awaits_continue) && self.input.is_empty() {
                self.output.buffer().extend_from_slice(CONTINUE);
            }
            if !self.is_answering {
                // A failed write is followed by a failed read.
                let _ = self.poll_output(context);
            }
            let read = self.poll_fill(self.read_size, context);
            let Poll::Ready(read) = read else {
                self.body_task = Some(context.waker().clone());
                return Poll::Pending;
            };
            if let Err(error) = read.and_then(|count| if count == 0 { Err(ended()) } else { Ok(()) }) {
                self.end_upload(Upload::Unreadable, context);
                return Poll::Ready(Some(Err(error.into())));
            }
        }
    }

    /// No more of the body is wanted. Bytes that have come already are discarded, perhaps to its end.
    pub(super) fn abandon_upload(&mut self) {
        let Upload::Open { reader, .. } = &mut self.upload else { return };
        let read = loop {
            match reader.read(&mut self.input) {
                Ok(BodyPiece::Data(_)) => {}
                other => break other,
            }
        };
        let is_complete = matches!(read, Ok(BodyPiece::End | BodyPiece::Trailers(_)));
        self.upload = if is_complete { Upload::Complete } else { Upload::Unreadable };
        self.body_task = None;
        self.watch.wake();
    }

    fn end_upload(&mut self, end: Upload, context: &Context<'_>) {
        self.upload = end;
        self.body_task = None;
        self.watch.wake_other(context);
    }

    pub(super) fn poll_output(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.output.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.output.poll_write(&mut self.stream, &self.watch, context)
    }

    /// Writes the output while a request is answered. Ready if the client has closed the connection. At most one
    /// buffer of later requests is read, so behind so many bytes the close is not seen.
    pub(super) fn poll_client_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Poll::Ready(Err(_)) = self.poll_output(context) {
            return Poll::Ready(());
        }
        let may_read = match &self.upload {
            Upload::Complete => true,
            // The body is read by its own task. Before it is asked for, that is not so.
            Upload::Open { awaits_continue, .. } => *awaits_continue,
            Upload::Unreadable => false,
        };
        while may_read && self.input.len() < READ {
            if !matches!(ready!(self.poll_fill(READ, context)), Ok(1..)) {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }

    /// Reads once. Zero is the end.
    fn poll_fill(&mut self, size: usize, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.input.capacity() - self.input.len() < size / 4 {
            self.input.reserve(size);
        }
        let room = self.input.capacity() - self.input.len();
        let count = ready!(pin!(self.stream.read_buf(&mut self.input)).poll(context))?;
        if count > 0 {
            self.watch.read();
        }
        if count == room {
            self.read_size = (2 * room).min(MAX_READ);
        }
        Poll::Ready(Ok(count))
    }

    /// Whether the next head is all that is awaited.
    pub(super) fn is_between_requests(&self) -> bool {
        self.is_upload_complete() && self.output.is_empty() && !matches!(self.stream, ClientStream::Closed)
    }

    pub(super) fn has_unread_input(&self) -> bool {
        !self.input.is_empty() || !self.is_upload_complete()
    }

    #[cfg(test)]
    pub(super) fn has_buffers(&self) -> bool {
        self.input.capacity() > 0 || self.output.has_buffer()
    }

    /// The stream and the bytes that were read but not used. The connection is closed for all others. A client that
    /// would take its end for that of an answer finds it reset.
    pub(super) fn take(&mut self) -> (ClientStream, Bytes) {
        let input = std::mem::take(&mut self.input).freeze();
        self.output = Output::default();
        if self.is_upload_open() {
            self.upload = Upload::Unreadable;
        }
        if let Some(task) = self.body_task.take() {
            task.wake();
        }
        let mut stream = self.stream.close();
        if self.is_open_ended {
            stream.reset_when_dropped();
        }
        (stream, input)
    }
}

fn frame(piece: BodyPiece) -> Option<Frame<Bytes>> {
    match piece {
        BodyPiece::Data(data) => Some(Frame::data(data)),
        BodyPiece::Trailers(trailers) => Some(Frame::trailers(trailers)),
        BodyPiece::End | BodyPiece::Incomplete => None,
    }
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the client closed the connection in the middle of a request body")
}
