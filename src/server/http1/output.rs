//! The bytes that wait to be written to a client.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::AsyncWrite as _;

use super::super::client_stream::ClientStream;
use super::super::watch::Watch;

/// A buffer of small pieces, and perhaps one large piece behind it, which is not copied.
#[derive(Debug, Default)]
pub(super) struct Output {
    buffer: Vec<u8>,
    /// Bytes of `buffer` that have been written.
    written: usize,
    piece: Bytes,
    /// Follows `piece`.
    piece_end: &'static [u8],
    /// TLS may hold bytes that the socket has not accepted.
    is_unflushed: bool,
}

/// The room for a head, in bytes.
const USUAL_HEAD: usize = 1024;
/// Smaller pieces are copied, in bytes: that is cheaper than a list of buffers.
const LARGE_PIECE: usize = 8 * 1024;
/// With this many bytes, the buffer is written before anything is added.
const FULL: usize = 16 * 1024;

impl Output {
    /// Nothing may be added before something has been written.
    pub(super) fn is_full(&self) -> bool {
        self.has_piece() || self.buffer.len() - self.written >= FULL
    }

    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_empty() && !self.has_piece() && !self.is_unflushed
    }

    /// For a head, or for the frame of a piece.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        if self.buffer.capacity() == 0 {
            self.buffer.reserve(USUAL_HEAD);
        }
        &mut self.buffer
    }

    /// Adds a piece of a body and the bytes behind it.
    pub(super) fn push(&mut self, piece: Bytes, piece_end: &'static [u8]) {
        if piece.len() < LARGE_PIECE {
            self.buffer.extend_from_slice(&piece);
            self.buffer.extend_from_slice(piece_end);
        } else {
            (self.piece, self.piece_end) = (piece, piece_end);
        }
    }

    /// Replaces the bytes behind a piece that has not been written; false if there is none.
    pub(super) fn end_piece(&mut self, piece_end: &'static [u8]) -> bool {
        let has_piece = !self.piece.is_empty();
        if has_piece {
            self.piece_end = piece_end;
        }
        has_piece
    }

    /// Ready when everything has been written.
    pub(super) fn poll_write(
        &mut self,
        stream: &mut ClientStream,
        watch: &Watch,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.buffer.is_empty() || self.has_piece() {
            let result = self.poll_write_some(stream, context);
            watch.wrote(result.is_pending());
            let count = ready!(result)?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.is_unflushed = true;
            self.advance(count);
        }
        if self.is_unflushed {
            let result = Pin::new(stream).poll_flush(context);
            watch.wrote(result.is_pending());
            ready!(result)?;
            self.is_unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write_some(&self, stream: &mut ClientStream, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let buffered = &self.buffer[self.written..];
        if !self.has_piece() {
            return Pin::new(stream).poll_write(context, buffered);
        }
        let slices = [buffered, &self.piece, self.piece_end].map(io::IoSlice::new);
        let slices = if buffered.is_empty() { &slices[1..] } else { &slices };
        Pin::new(stream).poll_write_vectored(context, slices)
    }

    fn advance(&mut self, mut count: usize) {
        let buffered = count.min(self.buffer.len() - self.written);
        self.written += buffered;
        if self.written == self.buffer.len() {
            self.buffer.clear();
            self.written = 0;
        }
        count -= buffered;
        let from_piece = count.min(self.piece.len());
        if from_piece > 0 {
            let _ = self.piece.split_to(from_piece);
        }
        self.piece_end = &self.piece_end[count - from_piece..];
        if self.piece.is_empty() {
            // An empty slice would keep the whole allocation.
            self.piece = Bytes::new();
        }
    }

    #[cfg(test)]
    pub(super) fn has_buffer(&self) -> bool {
        self.buffer.capacity() > 0
    }

    fn has_piece(&self) -> bool {
        !self.piece.is_empty() || !self.piece_end.is_empty()
    }
}
