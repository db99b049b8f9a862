//! A body that is kept until all of it has arrived, and the bound on all such bodies of a worker.

use std::cell::Cell;

use bytes::Bytes;

/// Grows with the body. Its memory counts until the last reference to its bytes is dropped.
#[derive(Debug, Default)]
pub(super) struct BufferedBytes {
    bytes: Vec<u8>,
    counted: usize,
}

/// The worker's bodies have as many bytes as they may have together.
#[derive(Debug)]
pub(super) struct NoBufferRoom;

/// For all bodies of one worker.
const MAX_BUFFERED: usize = 64 * 1024 * 1024;
const MIN_CAPACITY: usize = 4096;

thread_local!(static BUFFERED: Cell<usize> = const { Cell::new(0) });

impl BufferedBytes {
    /// `limit` is the size of the whole body, at most.
    pub(super) fn append(&mut self, data: &[u8], limit: usize) -> Result<(), NoBufferRoom> {
        let length = self.bytes.len() + data.len();
        if length > self.counted {
            let doubled = (self.counted * 2).max(MIN_CAPACITY).min(limit);
            self.grow(doubled.max(length))?;
        }
        self.bytes.extend_from_slice(data);
        Ok(())
    }

    pub(super) fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }

    fn grow(&mut self, capacity: usize) -> Result<(), NoBufferRoom> {
        let buffered = BUFFERED.get() + (capacity - self.counted);
        if buffered > MAX_BUFFERED {
            return Err(NoBufferRoom);
        }
        BUFFERED.set(buffered);
        self.counted = capacity;
        self.bytes.reserve_exact(capacity - self.bytes.len());
        Ok(())
    }
}

impl AsRef<[u8]> for BufferedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// On the thread of its worker, like every part of a request.
impl Drop for BufferedBytes {
    fn drop(&mut self) {
        BUFFERED.set(BUFFERED.get().saturating_sub(self.counted));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_grows_to_its_limit_and_is_given_whole() {
        let mut buffered = BufferedBytes::default();
        for piece in [&[1; 3000][..], &[2; 3000], &[3; 4000]] {
            buffered.append(piece, 10_000).unwrap();
        }
        assert_eq!((buffered.counted, BUFFERED.get()), (10_000, 10_000));
        let bytes = buffered.into_bytes();
        let copy = bytes.slice(2999..3001);
        assert_eq!((bytes.len(), &copy[..]), (10_000, &[1, 2][..]));
        drop(bytes);
        assert_eq!(BUFFERED.get(), 10_000, "a part of it is still in use");
        drop(copy);
        assert_eq!(BUFFERED.get(), 0);
    }

    #[test]
    fn all_bodies_together_have_a_bound() {
        let piece = vec![0; MAX_BUFFERED / 4];
        let mut kept = Vec::new();
        for _ in 0..4 {
            let mut buffered = BufferedBytes::default();
            buffered.append(&piece, usize::MAX).unwrap();
            kept.push(buffered);
        }
        let mut another = BufferedBytes::default();
        assert!(another.append(b"x", usize::MAX).is_err());
        kept.pop();
        assert!(another.append(b"x", usize::MAX).is_ok());
    }
}
