//! Elements of DER, one after the other (X.690 §8.1). Reads the short tags that certificates have.

/// The bytes that are left to be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct DerReader<'d>(&'d [u8]);

pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OBJECT_ID: u8 = 0x06;
pub(super) const UTC_TIME: u8 = 0x17;
pub(super) const GENERALIZED_TIME: u8 = 0x18;
pub(super) const BMP_STRING: u8 = 0x1e;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;

impl<'d> DerReader<'d> {
    pub(super) fn new(bytes: &'d [u8]) -> Self {
        Self(bytes)
    }

    /// The tag and the content of the next element. `None` at the end, and for anything that is no element.
    pub(super) fn next(&mut self) -> Option<(u8, &'d [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            short if short < 0x80 => (usize::from(short), rest),
            // No certificate has 4 GiB.
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    /// The content of the next element, which has this tag.
    pub(super) fn content(&mut self, wanted: u8) -> Option<&'d [u8]> {
        self.next().filter(|(tag, _)| *tag == wanted).map(|(_, content)| content)
    }

    /// The elements within the next element, which has this tag.
    pub(super) fn enter(&mut self, wanted: u8) -> Option<Self> {
        self.content(wanted).map(Self)
    }

    /// Skips the next element if it has this tag.
    pub(super) fn skip_optional(&mut self, tag: u8) {
        if self.0.first() == Some(&tag) {
            self.next();
        }
    }

    /// The elements within the next element with this tag, wherever it is.
    pub(super) fn find(&mut self, wanted: u8) -> Option<Self> {
        loop {
            let (tag, content) = self.next()?;
            if tag == wanted {
                return Some(Self(content));
            }
        }
    }
}
