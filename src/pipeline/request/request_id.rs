//! Request ids: in the answer, in the audit log, and in the request to the upstream.

use std::cell::Cell;

use http::{HeaderMap, HeaderValue};

use super::headers::X_REQUEST_ID;

/// Unique with high probability, in this process and among all others.
#[derive(Clone, Debug)]
pub(crate) enum RequestId {
    Made([u8; 32]),
    /// Given by a trusted proxy, whose logs have it too.
    Given(HeaderValue),
}

/// Longer ones are not used.
const MAX_GIVEN: usize = 128;

/// Makes request ids: half random, drawn once, half counted.
#[derive(Debug)]
pub(crate) struct RequestIds {
    prefix: u64,
    next: Cell<u64>,
}

impl RequestIds {
    pub(crate) fn new() -> Self {
        let mut prefix = [0; 8];
        // Without randomness ids are still different within a worker.
        let _ = aws_lc_rs::rand::fill(&mut prefix);
        Self { prefix: u64::from_le_bytes(prefix), next: Cell::new(0) }
    }

    pub(crate) fn next(&self) -> RequestId {
        let number = self.next.get();
        self.next.set(number.wrapping_add(1));
        let mut text = [0; 32];
        hex(self.prefix, &mut text[..16]);
        hex(number, &mut text[16..]);
        RequestId::Made(text)
    }
}

impl RequestId {
    /// The id that a trusted proxy has given: one value, of characters that have no meaning in logs.
    pub(crate) fn given(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(X_REQUEST_ID).iter();
        let value = values.next().filter(|value| (1..=MAX_GIVEN).contains(&value.len()))?;
        let legal = |b: &u8| b.is_ascii_alphanumeric() || b"-._~:+/=".contains(b);
        let good = values.next().is_none() && value.as_bytes().iter().all(legal);
        // A copy: the original holds on to the buffer that it was read into.
        if good { HeaderValue::from_bytes(value.as_bytes()).ok().map(Self::Given) } else { None }
    }

    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Made(text) => std::str::from_utf8(text).unwrap_or_default(),
            Self::Given(value) => value.to_str().unwrap_or_default(),
        }
    }

    pub(crate) fn header(&self) -> HeaderValue {
        match self {
            Self::Made(text) => HeaderValue::from_bytes(text).unwrap_or(HeaderValue::from_static("")),
            Self::Given(value) => value.clone(),
        }
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

    fn given(values: &[&str]) -> Option<String> {
        let values = values.iter().map(|value| (X_REQUEST_ID, HeaderValue::from_str(value).unwrap()));
        RequestId::given(&values.collect()).map(|id| id.as_str().to_owned())
    }

    #[test]
    fn an_id_that_was_given_is_one_value_of_harmless_characters() {
        for good in ["a", "7b3c6a52-4a0e-4d61-9f63-0a6a2f5bb9f5", "Root=1-67891233:+/.~_", &"a".repeat(128)] {
            assert_eq!(given(&[good]).as_deref(), Some(good));
        }
        for bad in
            [&[][..], &[""], &["a", "a"], &["a b"], &["a\"b"], &["a,b"], &["a\tb"], &["<a>"], &[&"a".repeat(129)]]
        {
            assert_eq!(given(bad), None, "{bad:?}");
        }
    }
}
