//! Message bodies (RFC 9112 §6, §7).

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;

use super::chunk_line::{ChunkLine, ChunkLineStep};
use super::fault::WireFault;
use super::field_lines::read_fields;
use super::framing::BodyLength;
use super::head_scan::HeadScan;

/// Bytes of all chunk extensions of a body.
const MAX_EXTENSION_BYTES: usize = 16 * 1024;

/// Takes the bytes of one body from the front of a buffer, and leaves those behind it.
#[derive(Clone, Debug)]
pub(crate) struct BodyReader {
    state: State,
    extension_bytes: usize,
    trailer_limits: TrailerLimits,
}

/// The limits of a trailer section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TrailerLimits {
    /// Of the whole section, with the empty line that ends it.
    pub(crate) bytes: usize,
    pub(crate) fields: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BodyPiece {
    /// Never empty.
    Data(Bytes),
    /// The body has ended with these fields.
    Trailers(HeaderMap),
    /// The body has ended. Returned again by every later call.
    End,
    /// More bytes are needed.
    Incomplete,
}

#[derive(Clone, Debug)]
enum State {
    /// So many bytes are still to come.
    Exact(u64),
    UntilClose,
    ChunkLine(ChunkLine),
    /// So many bytes of the chunk are still to come.
    ChunkData(u64),
    Trailers(HeadScan),
}

impl BodyReader {
    pub(crate) fn new(length: BodyLength, trailer_limits: TrailerLimits) -> Self {
        let state = match length {
            BodyLength::None => State::Exact(0),
            BodyLength::Exact(bytes) => State::Exact(bytes),
            BodyLength::Chunked => State::ChunkLine(ChunkLine::default()),
            BodyLength::UntilClose => State::UntilClose,
        };
        Self { state, extension_bytes: 0, trailer_limits }
    }

    /// The next piece. After an error the reader must not be used again.
    pub(crate) fn read(&mut self, buffer: &mut BytesMut) -> Result<BodyPiece, WireFault> {
        loop {
            match &mut self.state {
                State::Exact(0) => return Ok(BodyPiece::End),
                _ if buffer.is_empty() => return Ok(BodyPiece::Incomplete),
                State::Exact(remaining) => return Ok(take_data(remaining, buffer)),
                State::UntilClose => return Ok(BodyPiece::Data(buffer.split().freeze())),
                State::ChunkData(0) => {
                    if !takes_line_end(buffer)? {
                        return Ok(BodyPiece::Incomplete);
                    }
                    self.state = State::ChunkLine(ChunkLine::default());
                }
                State::ChunkData(remaining) => return Ok(take_data(remaining, buffer)),
                State::ChunkLine(_) => self.read_chunk_line(buffer)?,
                State::Trailers(_) => return self.read_trailers(buffer),
            }
        }
    }

    /// Whether the whole body has been read.
    pub(crate) fn is_complete(&self) -> bool {
        matches!(self.state, State::Exact(0))
    }

    /// The bytes still to come, if the length was given.
    pub(crate) fn remaining(&self) -> Option<u64> {
        match self.state {
            State::Exact(remaining) => Some(remaining),
            State::UntilClose | State::ChunkLine(_) | State::ChunkData(_) | State::Trailers(_) => None,
        }
    }

    /// Whether the end of the stream is the end of the body. If not, a body that is not complete by then is truncated.
    pub(crate) fn ends_with_stream(&self) -> bool {
        matches!(self.state, State::UntilClose)
    }

    fn read_chunk_line(&mut self, buffer: &mut BytesMut) -> Result<(), WireFault> {
        let State::ChunkLine(line) = &mut self.state else { return Ok(()) };
        for at in 0..buffer.len() {
            match line.step(buffer[at])? {
                ChunkLineStep::Size => {}
                ChunkLineStep::Extension => {
                    self.extension_bytes += 1;
                    if self.extension_bytes > MAX_EXTENSION_BYTES {
                        return Err(WireFault::ChunkOverhead);
                    }
                }
                ChunkLineStep::End { size } => {
                    buffer.advance(at + 1);
                    self.state = if size > 0 { State::ChunkData(size) } else { State::Trailers(HeadScan::default()) };
                    return Ok(());
                }
            }
        }
        buffer.clear();
        Ok(())
    }

    fn read_trailers(&mut self, buffer: &mut BytesMut) -> Result<BodyPiece, WireFault> {
        let State::Trailers(scan) = &mut self.state else { return Ok(BodyPiece::End) };
        let TrailerLimits { bytes, fields } = self.trailer_limits;
        let found = scan.find_end(buffer, bytes, fields).map_err(trailer_fault)?;
        let Some(found) = found else { return Ok(BodyPiece::Incomplete) };
        let section = buffer.split_to(found.length).freeze();
        self.state = State::Exact(0);
        if found.lines == 0 {
            return Ok(BodyPiece::End);
        }
        let (trailers, _) = read_fields(&section, found.lines).map_err(trailer_fault)?;
        Ok(BodyPiece::Trailers(trailers))
    }
}

/// As many bytes as there are. The buffer must not be empty.
fn take_data(remaining: &mut u64, buffer: &mut BytesMut) -> BodyPiece {
    let length = usize::try_from(*remaining).unwrap_or(usize::MAX).min(buffer.len());
    *remaining -= length as u64;
    BodyPiece::Data(buffer.split_to(length).freeze())
}

/// Whether the line end behind the data of a chunk has come.
fn takes_line_end(buffer: &mut BytesMut) -> Result<bool, WireFault> {
    match buffer[..] {
        [b'\r', b'\n', ..] => {
            buffer.advance(2);
            Ok(true)
        }
        [b'\r'] => Ok(false),
        [b'\r', ..] => Err(WireFault::BareCarriageReturn),
        [b'\n', ..] => Err(WireFault::BareLineFeed),
        _ => Err(WireFault::ChunkEnd),
    }
}

fn trailer_fault(fault: WireFault) -> WireFault {
    match fault {
        WireFault::HeadTooLarge | WireFault::TooManyFields => WireFault::TrailersTooLarge,
        WireFault::FieldLine | WireFault::FieldName | WireFault::FieldValue | WireFault::FoldedLine => {
            WireFault::Trailer
        }
        other => other,
    }
}

#[cfg(test)]
mod tests;
