//! The bytes of a request that are still to be written.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use tokio::io::AsyncWrite;

/// Small pieces are copied, so that they are written together; a large one is not.
#[derive(Debug, Default)]
pub(super) struct OutputBuffer {
    bytes: Vec<u8>,
    /// How many of `bytes` are written.
    written: usize,
    /// Follows `bytes`.
    large: Bytes,
    /// Follows `large`.
    tail: &'static [u8],
}

/// Larger pieces are not copied.
const MAX_COPIED: usize = 4 * 1024;
/// With so many bytes, the buffer is written before more is added: one TLS record has as many.
const FULL: usize = 16 * 1024;

impl OutputBuffer {
    pub(super) fn is_empty(&self) -> bool {
        self.written == self.bytes.len() && self.large.is_empty() && self.tail.is_empty()
    }

    /// Whether more may be added.
    pub(super) fn has_room(&self) -> bool {
        self.large.is_empty() && self.tail.is_empty() && self.bytes.len() - self.written < FULL
    }

    /// To append to. Only while the buffer has room.
    pub(super) fn bytes(&mut self) -> &mut Vec<u8> {
        debug_assert!(self.has_room(), "bytes would be written before earlier ones");
        &mut self.bytes
    }

    /// Appends `data` and then `tail`. Only while the buffer has room, which the size of a chunk may just have filled.
    pub(super) fn push(&mut self, data: Bytes, tail: &'static [u8]) {
        debug_assert!(self.large.is_empty() && self.tail.is_empty(), "data would be written before earlier data");
        if data.len() <= MAX_COPIED {
            self.bytes.extend_from_slice(&data);
            self.bytes.extend_from_slice(tail);
        } else {
            (self.large, self.tail) = (data, tail);
        }
    }

    /// Writes once. The buffer must not be empty.
    pub(super) fn poll_write<S>(&mut self, stream: &mut S, context: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        S: AsyncWrite + Unpin,
    {
        let bytes = &self.bytes[self.written..];
        let stream = Pin::new(stream);
        let count = if self.large.is_empty() && self.tail.is_empty() {
            ready!(stream.poll_write(context, bytes))?
        } else {
            let slices = [IoSlice::new(bytes), IoSlice::new(&self.large), IoSlice::new(self.tail)];
            let first = usize::from(bytes.is_empty());
            let end = if self.tail.is_empty() { 2 } else { 3 };
            ready!(stream.poll_write_vectored(context, &slices[first..end]))?
        };
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.advance(count);
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, count: usize) {
        let of_bytes = count.min(self.bytes.len() - self.written);
        self.written += of_bytes;
        if self.written == self.bytes.len() {
            self.bytes.clear();
            self.written = 0;
            // A large head is rare.
            if self.bytes.capacity() > FULL {
                self.bytes = Vec::new();
            }
        }
        let of_large = (count - of_bytes).min(self.large.len());
        if of_large == self.large.len() {
            // An empty slice would keep the whole allocation.
            self.large = Bytes::new();
        } else {
            self.large.advance(of_large);
        }
        self.tail = self.tail.get(count - of_bytes - of_large..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, duplex};

    use super::*;

    #[test]
    fn a_chunk_size_that_fills_the_buffer_is_followed_by_its_data() {
        let mut output = OutputBuffer::default();
        output.bytes().resize(FULL - 1, b'x');
        output.bytes().extend_from_slice(b"1\r\n");
        assert!(!output.has_room());
        output.push(Bytes::from_static(b"a"), b"\r\n");
        assert!(output.bytes.ends_with(b"x1\r\na\r\n"));
    }

    /// Every part is written in its place, however few bytes the stream takes at once.
    #[tokio::test]
    async fn interrupted_writes_lose_and_repeat_nothing() {
        for capacity in [1, 2, 7, 4096, 1 << 20] {
            let (mut near, mut far) = duplex(capacity);
            let large = Bytes::from(vec![b'x'; MAX_COPIED + 1]);
            let mut expected = b"headsmall\r\n".to_vec();
            expected.extend_from_slice(&large);
            expected.extend_from_slice(b"\r\nend");
            let length = expected.len();
            let reading = async {
                let mut read = vec![0; length];
                far.read_exact(&mut read).await.unwrap();
                read
            };
            let mut output = OutputBuffer::default();
            output.bytes().extend_from_slice(b"head");
            output.push(Bytes::from_static(b"small"), b"\r\n");
            assert!(output.has_room());
            output.push(large, b"\r\n");
            assert!(!output.has_room());
            let writing = async {
                while !output.is_empty() {
                    poll_fn(|context| output.poll_write(&mut near, context)).await.unwrap();
                }
                output.push(Bytes::from_static(b"end"), b"");
                while !output.is_empty() {
                    poll_fn(|context| output.poll_write(&mut near, context)).await.unwrap();
                }
            };
            let (read, ()) = tokio::join!(reading, writing);
            assert_eq!(read, expected, "{capacity}");
        }
    }
}
