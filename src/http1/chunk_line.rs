//! The line before the data of a chunk: its size and its extensions (RFC 9112 §7.1).

use super::fault::WireFault;

/// Hexadecimal digits of a size.
const MAX_DIGITS: u8 = 16;

/// An incomplete line, read byte by byte. Extensions are checked and dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ChunkLine {
    size: u64,
    place: Place,
}

/// The meaning of one byte of the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChunkLineStep {
    Size,
    Extension,
    End { size: u64 },
}

/// The place within `1*HEXDIG *( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] ) CRLF`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// After this number of digits.
    Digits(u8),
    BeforeSemicolon,
    BeforeName,
    Name,
    AfterName,
    BeforeValue,
    Token,
    Quoted,
    Escaped,
    AfterQuoted,
    LineFeed,
}

impl Default for Place {
    fn default() -> Self {
        Self::Digits(0)
    }
}

impl ChunkLine {
    pub(super) fn step(&mut self, byte: u8) -> Result<ChunkLineStep, WireFault> {
        if let (Place::Digits(digits @ ..MAX_DIGITS), Some(value)) = (self.place, char::from(byte).to_digit(16)) {
            self.size = self.size << 4 | u64::from(value);
            self.place = Place::Digits(digits + 1);
            return Ok(ChunkLineStep::Size);
        }
        if self.place == Place::LineFeed {
            let size = self.size;
            return if byte == b'\n' { Ok(ChunkLineStep::End { size }) } else { Err(WireFault::BareCarriageReturn) };
        }
        self.place = self.place.after(byte).ok_or_else(|| self.place.fault(byte))?;
        Ok(if self.place == Place::LineFeed { ChunkLineStep::Size } else { ChunkLineStep::Extension })
    }
}

impl Place {
    /// `None` if the byte cannot stand here.
    fn after(self, byte: u8) -> Option<Self> {
        match (self, byte) {
            (Self::Digits(1..) | Self::Name | Self::Token | Self::AfterQuoted, b'\r') => Some(Self::LineFeed),
            (Self::Digits(1..) | Self::Name | Self::AfterName | Self::Token, b';')
            | (Self::BeforeSemicolon | Self::AfterQuoted, b';') => Some(Self::BeforeName),
            (Self::Digits(1..) | Self::BeforeSemicolon | Self::Token | Self::AfterQuoted, b' ' | b'\t') => {
                Some(Self::BeforeSemicolon)
            }
            (Self::BeforeName | Self::BeforeValue, b' ' | b'\t') => Some(self),
            (Self::Name | Self::AfterName, b' ' | b'\t') => Some(Self::AfterName),
            (Self::Name | Self::AfterName, b'=') => Some(Self::BeforeValue),
            (Self::BeforeName | Self::Name, _) if is_token_byte(byte) => Some(Self::Name),
            (Self::BeforeValue, b'"') => Some(Self::Quoted),
            (Self::BeforeValue | Self::Token, _) if is_token_byte(byte) => Some(Self::Token),
            (Self::Quoted, b'"') => Some(Self::AfterQuoted),
            (Self::Quoted, b'\\') => Some(Self::Escaped),
            (Self::Quoted | Self::Escaped, _) if byte == b'\t' || !byte.is_ascii_control() => Some(Self::Quoted),
            _ => None,
        }
    }

    fn fault(self, byte: u8) -> WireFault {
        match (self, byte) {
            (_, b'\n') => WireFault::BareLineFeed,
            (_, 0) => WireFault::Nul,
            (Self::Digits(_), _) => WireFault::ChunkSize,
            _ => WireFault::ChunkExtension,
        }
    }
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
