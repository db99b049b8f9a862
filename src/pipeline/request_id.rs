//! Names of requests: in the answer, in the audit log, and sent to the upstream.

use std::cell::Cell;

use http::HeaderValue;

/// 32 characters, unlike any other of this process or another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestId([u8; 32]);

/// Makes request ids: half random, drawn once, half counted.
#[derive(Debug)]
pub(crate) struct RequestIds {
    prefix: u64,
    next: Cell<u64>,
}

impl RequestIds {
    pub(crate) fn new() -> Self {
        let mut prefix = [0; 8];
        // Without randomness ids are still unlike each other within a worker.
        let _ = aws_lc_rs::rand::fill(&mut prefix);
        Self { prefix: u64::from_le_bytes(prefix), next: Cell::new(0) }
    }

    pub(crate) fn next(&self) -> RequestId {
        let number = self.next.get();
        self.next.set(number.wrapping_add(1));
        let mut text = [0; 32];
        hex(self.prefix, &mut text[..16]);
        hex(number, &mut text[16..]);
        RequestId(text)
    }
}

impl RequestId {
    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    pub(crate) fn header(&self) -> HeaderValue {
        HeaderValue::from_bytes(&self.0).unwrap_or(HeaderValue::from_static(""))
    }
}

fn hex(number: u64, text: &mut [u8]) {
    for (index, digit) in text.iter_mut().enumerate() {
        let nibble = number >> (60 - 4 * index) & 15;
        *digit = b"0123456789abcdef"[nibble as usize];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_32_characters_and_never_the_same() {
        let ids = RequestIds::new();
        let (first, second) = (ids.next(), ids.next());
        assert_eq!(first.as_str().len(), 32);
        assert_ne!(first.as_str(), second.as_str());
        assert!(second.as_str().ends_with("0000000000000001"));
        assert_ne!(RequestIds::new().next().as_str(), first.as_str());
    }
}
