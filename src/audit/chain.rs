//! The chain: every line holds a hash of the one before it, so that a changed, removed or moved line is found.
//!
//! A line ends with `,"hash":"…"}`: the SHA-256, in base64url, of the previous line's hash as it is written and of this
//! line up to that member. A line and the hash before it are enough to check it, without parsing JSON and without the
//! rest of the file. The first line of a file names the hash before it, `prev_hash`; for the very first line it is 43
//! `A`, which is all zeros.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;

use crate::jose::BASE64URL;

/// The hash of a line, as it is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct LineHash([u8; LENGTH]);

/// A position in a chain: a line's number and hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) sequence: u64,
    pub(crate) head: LineHash,
}

/// A parsed line. Only its form has been checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SealedLine<'l> {
    pub(crate) link: Link,
    /// The hashed part, besides the hash before.
    body: &'l [u8],
}

/// Reuses one buffer for all hashes.
#[derive(Debug, Default)]
pub(crate) struct Hasher(Vec<u8>);

const LENGTH: usize = 43;
const HASH: &[u8] = b",\"hash\":\"";
const END: &[u8] = b"\"}";
const SEQUENCE: &[u8] = b"{\"seq\":";
const PREVIOUS: &[u8] = b",\"prev_hash\":\"";

impl LineHash {
    pub(crate) const GENESIS: Self = Self([b'A'; LENGTH]);

    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        text.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')).then_some(())?;
        text.try_into().ok().map(Self)
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl Link {
    /// Before the first line of all.
    pub(crate) const GENESIS: Self = Self { sequence: 0, head: LineHash::GENESIS };

    /// Appends the next line to `out`. The second of `members` is a line of [`super::line::LineBuilder`], and the first
    /// is in all lines.
    pub(super) fn seal(
        &mut self,
        [common, members]: [&[u8]; 2],
        begins_file: bool,
        hasher: &mut Hasher,
        out: &mut Vec<u8>,
    ) {
        self.sequence += 1;
        let previous = self.head;
        self.head = hasher.hash(&previous, |body| {
            body.extend_from_slice(SEQUENCE);
            body.extend_from_slice(itoa::Buffer::new().format(self.sequence).as_bytes());
            if begins_file {
                body.extend_from_slice(PREVIOUS);
                body.extend_from_slice(&previous.0);
                body.push(b'"');
            }
            body.extend_from_slice(common);
            body.extend_from_slice(members.strip_suffix(b"}\n").unwrap_or(members));
        });
        out.extend_from_slice(hasher.body());
        out.extend_from_slice(HASH);
        out.extend_from_slice(&self.head.0);
        out.extend_from_slice(b"\"}\n");
    }
}

impl<'l> SealedLine<'l> {
    /// Reads a line without its line break.
    pub(crate) fn parse(line: &'l [u8]) -> Option<Self> {
        let rest = line.strip_suffix(END)?;
        let (rest, head) = rest.split_at_checked(rest.len().checked_sub(LENGTH)?)?;
        let body = rest.strip_suffix(HASH)?;
        Some(Self { link: Link { sequence: sequence(line)?, head: LineHash::parse(head)? }, body })
    }

    /// The hash that the line names as the one before it, if it is the first of a file.
    pub(crate) fn previous(&self) -> Option<LineHash> {
        named_previous(self.body).map(|(_, previous)| previous)
    }

    pub(crate) fn follows(&self, previous: &LineHash, hasher: &mut Hasher) -> bool {
        hasher.hash(previous, |body| body.extend_from_slice(self.body)) == self.link.head
    }
}

/// The number of a file's first line and the hash that it follows. The line need not be whole.
pub(crate) fn named_previous(line: &[u8]) -> Option<(u64, LineHash)> {
    let rest = line.strip_prefix(SEQUENCE)?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let previous = LineHash::parse(rest.get(digits..)?.strip_prefix(PREVIOUS)?.get(..LENGTH)?)?;
    Some((sequence(line)?, previous))
}

/// The number of a line, sealed or not.
pub(crate) fn sequence(line: &[u8]) -> Option<u64> {
    let rest = line.strip_prefix(SEQUENCE)?;
    let mut number: u64 = 0;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit());
    let mut count = 0;
    for digit in digits {
        number = number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
        count += 1;
    }
    (count > 0 && matches!(rest.get(count), Some(b',' | b'}'))).then_some(number)
}

impl Hasher {
    fn hash(&mut self, previous: &LineHash, write: impl FnOnce(&mut Vec<u8>)) -> LineHash {
        self.0.clear();
        self.0.extend_from_slice(&previous.0);
        write(&mut self.0);
        let mut head = LineHash::GENESIS;
        // 32 bytes always are 43 characters.
        let _ = BASE64URL.encode_slice(digest(&SHA256, &self.0), &mut head.0);
        head
    }

    fn body(&self) -> &[u8] {
        self.0.get(LENGTH..).unwrap_or_default()
    }
}

impl fmt::Debug for LineHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for LineHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(lines: &[&str]) -> Vec<u8> {
        let (mut link, mut out) = (Link::GENESIS, Vec::new());
        for (index, line) in lines.iter().enumerate() {
            link.seal([b"", format!(",{line}}}\n").as_bytes()], index == 0, &mut Hasher::default(), &mut out);
        }
        out
    }

    #[test]
    fn a_line_ends_with_the_hash_of_the_one_before_and_of_itself() {
        let text = String::from_utf8(sealed(&["\"a\":1", "\"b\":2"])).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let hash = |text: String| BASE64URL.encode(digest(&SHA256, text.as_bytes()));
        let zeros = "A".repeat(43);
        let first = format!("{{\"seq\":1,\"prev_hash\":\"{zeros}\",\"a\":1");
        let first_hash = hash(format!("{zeros}{first}"));
        assert_eq!(lines[0], format!("{first},\"hash\":\"{first_hash}\"}}"));
        let second = "{\"seq\":2,\"b\":2";
        assert_eq!(lines[1], format!("{second},\"hash\":\"{}\"}}", hash(format!("{first_hash}{second}"))));
    }

    #[test]
    fn a_parsed_line_states_its_number_and_the_hash_that_it_follows() {
        let text = sealed(&["\"a\":1", "\"b\":2"]);
        let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
        let [first, second] = [lines[0], lines[1]].map(|line| SealedLine::parse(line).unwrap());
        assert_eq!((first.link.sequence, second.link.sequence), (1, 2));
        assert_eq!((first.previous(), second.previous()), (Some(LineHash::GENESIS), None));
        let mut hasher = Hasher::default();
        assert!(first.follows(&LineHash::GENESIS, &mut hasher) && second.follows(&first.link.head, &mut hasher));
        assert!(!second.follows(&LineHash::GENESIS, &mut hasher));
        for torn in 0..lines[1].len() {
            assert!(SealedLine::parse(&lines[1][..torn]).is_none());
        }
    }

    #[test]
    fn numbers_are_read_strictly() {
        for (line, number) in [("{\"seq\":12,", Some(12)), ("{\"seq\":7}", Some(7)), ("{\"seq\":,", None)] {
            assert_eq!(sequence(line.as_bytes()), number, "{line}");
        }
        for line in ["{\"seq\":1 ,", "{\"seq\":-1,", "{\"seq\":99999999999999999999,", "{\"seq\":1"] {
            assert_eq!(sequence(line.as_bytes()), None, "{line}");
        }
    }
}
