//! The search for the end of a head.

use memchr::memchr3;

use super::fault::WireFault;

/// How far an incomplete head has been looked at. Each byte is looked at once, however the bytes are cut.
#[derive(Clone, Debug, Default)]
pub(crate) struct HeadScan {
    /// Bytes that need no second look.
    position: usize,
    line_start: usize,
    /// Complete lines.
    lines: usize,
    /// The empty line before a request line has been skipped (RFC 9112 §2.2).
    has_skipped_line: bool,
}

/// A complete head at the front of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ScannedHead {
    /// In bytes, with the empty line that ends it.
    pub(super) length: usize,
    /// Without that line.
    pub(super) lines: usize,
}

impl HeadScan {
    /// `Ok(None)`: the end has not come yet. Refuses every line end but CRLF, and NUL, as soon as it is seen. `bytes`
    /// must begin with those of the last call. Starts anew after the end.
    pub(super) fn find_end(
        &mut self,
        bytes: &[u8],
        max_bytes: usize,
        max_lines: usize,
    ) -> Result<Option<ScannedHead>, WireFault> {
        let seen = &bytes[..bytes.len().min(max_bytes)];
        while let Some(found) = memchr3(b'\r', b'\n', 0, &seen[self.position..]) {
            let at = self.position + found;
            match (seen[at], seen.get(at + 1)) {
                (b'\r', Some(b'\n')) if at == self.line_start => {
                    let end = ScannedHead { length: at + 2, lines: self.lines };
                    *self = Self::default();
                    return Ok(Some(end));
                }
                (b'\r', Some(b'\n')) => self.end_line(at + 2, max_lines)?,
                (b'\r', Some(_)) => return Err(WireFault::BareCarriageReturn),
                (b'\r', None) => {
                    self.position = at;
                    return within(bytes, max_bytes);
                }
                (b'\n', _) => return Err(WireFault::BareLineFeed),
                _ => return Err(WireFault::Nul),
            }
        }
        self.position = seen.len();
        within(bytes, max_bytes)
    }

    /// Whether an empty line at the front of `bytes` is to be removed. True once per request.
    pub(super) fn skips_line(&mut self, bytes: &[u8]) -> bool {
        let skips = !self.has_skipped_line && bytes.starts_with(b"\r\n");
        if skips {
            *self = Self { has_skipped_line: true, ..Self::default() };
        }
        skips
    }

    fn end_line(&mut self, next: usize, max_lines: usize) -> Result<(), WireFault> {
        self.lines += 1;
        (self.position, self.line_start) = (next, next);
        if self.lines > max_lines { Err(WireFault::TooManyFields) } else { Ok(()) }
    }
}

fn within(bytes: &[u8], max_bytes: usize) -> Result<Option<ScannedHead>, WireFault> {
    if bytes.len() > max_bytes { Err(WireFault::HeadTooLarge) } else { Ok(None) }
}
