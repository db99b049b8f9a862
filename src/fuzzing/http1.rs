//! The entry points of the HTTP/1.1 codec, and readings of whole connections for comparison with other codecs.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};

use crate::http1::body_reader::{BodyPiece, BodyReader, TrailerLimits};
use crate::http1::chunk_writer::{CHUNK_END, write_chunk_size, write_last_chunk};
use crate::http1::fault::WireFault;
use crate::http1::framing::BodyLength;
use crate::http1::head_scan::HeadScan;
use crate::http1::head_writer::{write_request_head, write_response_head};
use crate::http1::request_head::{HeadLimits, RequestHead, read_request};
use crate::http1::response_head::{ResponseHead, read_response};
use crate::http1::target::{OriginForm, RequestTarget};

/// Of heads and of trailers.
type Limits = (HeadLimits, TrailerLimits);

const USUAL: Limits = (
    HeadLimits { target_bytes: 8 * 1024, bytes: 32 * 1024, fields: 100 },
    TrailerLimits { bytes: 16 * 1024, fields: 100 },
);

/// So small that short inputs exceed them.
const SMALL: Limits = (HeadLimits { target_bytes: 12, bytes: 60, fields: 3 }, TrailerLimits { bytes: 20, fields: 2 });

/// The messages that a codec finds in the bytes of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WireReading {
    pub messages: Vec<WireMessage>,
    pub end: WireEnd,
}

/// The cause that a reading ends after its last complete message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum WireEnd {
    /// The next message is not complete, or there is none.
    #[default]
    NoMore,
    /// The name of the rule that the next message breaks.
    Fault(&'static str),
    /// No message may follow the last one.
    Closed,
}

/// A request or a response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WireMessage {
    /// `GET http://a/b?c HTTP/1.1`, with the scheme in lower case; or `HTTP/1.1 200`.
    pub start: String,
    pub fields: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: HeaderMap,
    /// False if the body has no end, because bytes are missing or break a rule.
    pub is_whole: bool,
}

/// Reads the requests of a connection, which gets its bytes in these parts.
pub fn read_requests<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> WireReading {
    requests_within(USUAL, parts)
}

/// Reads the response to one request with this method. Interim responses before it are left out.
pub fn read_one_response<'a>(method: &Method, parts: impl IntoIterator<Item = &'a [u8]>) -> WireReading {
    response_within(USUAL, method, parts)
}

fn requests_within<'a>(limits: Limits, parts: impl IntoIterator<Item = &'a [u8]>) -> WireReading {
    let mut scan = HeadScan::default();
    read_connection(parts, limits.1, |buffer| {
        let head = read_request(&mut scan, buffer, &limits.0)?;
        Ok(head.map(|head| MessageHead {
            start: format!("{} {} {:?}", head.method, target_text(&head.target), head.version),
            fields: head.headers,
            body: head.body,
            keeps_alive: head.keeps_alive && head.method != Method::CONNECT,
            is_final: true,
        }))
    })
}

fn response_within<'a>(limits: Limits, method: &Method, parts: impl IntoIterator<Item = &'a [u8]>) -> WireReading {
    let mut scan = HeadScan::default();
    read_connection(parts, limits.1, |buffer| {
        let head = read_response(&mut scan, buffer, &limits.0, method)?;
        Ok(head.map(|head| MessageHead {
            is_final: !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS,
            start: format!("{:?} {}", head.version, head.status.as_str()),
            fields: head.headers,
            body: head.body,
            keeps_alive: false,
        }))
    })
}

struct MessageHead {
    start: String,
    fields: HeaderMap,
    body: BodyLength,
    keeps_alive: bool,
    /// False for interim responses.
    is_final: bool,
}

fn read_connection<'a>(
    parts: impl IntoIterator<Item = &'a [u8]>,
    trailer_limits: TrailerLimits,
    mut read_head: impl FnMut(&mut BytesMut) -> Result<Option<MessageHead>, WireFault>,
) -> WireReading {
    let mut reading = WireReading::default();
    let (mut buffer, mut open) = (BytesMut::new(), None);
    for part in parts {
        buffer.extend_from_slice(part);
        if let Err(fault) = advance(&mut reading, &mut buffer, &mut open, trailer_limits, &mut read_head) {
            reading.end = WireEnd::Fault(fault.name());
        }
        if reading.end != WireEnd::NoMore {
            return reading;
        }
    }
    if let (Some(BodyInProgress { reader, .. }), Some(last)) = (&open, reading.messages.last_mut()) {
        last.is_whole = reader.ends_with_stream();
        reading.end = if last.is_whole { WireEnd::Closed } else { WireEnd::NoMore };
    }
    reading
}

/// The body of the last message.
struct BodyInProgress {
    reader: BodyReader,
    keeps_alive: bool,
}

/// Reads as far as the buffer goes.
fn advance(
    reading: &mut WireReading,
    buffer: &mut BytesMut,
    open: &mut Option<BodyInProgress>,
    trailer_limits: TrailerLimits,
    read_head: &mut impl FnMut(&mut BytesMut) -> Result<Option<MessageHead>, WireFault>,
) -> Result<(), WireFault> {
    while reading.end == WireEnd::NoMore {
        let Some(body) = open else {
            let Some(head) = read_head(buffer)? else { return Ok(()) };
            if head.is_final {
                let MessageHead { start, fields, body, keeps_alive, .. } = head;
                *open = Some(BodyInProgress { reader: BodyReader::new(body, trailer_limits), keeps_alive });
                reading.messages.push(WireMessage { start, fields, ..WireMessage::default() });
            }
            continue;
        };
        let Some(message) = reading.messages.last_mut() else { return Ok(()) };
        match body.reader.read(buffer)? {
            BodyPiece::Incomplete => return Ok(()),
            BodyPiece::Data(data) => message.body.extend_from_slice(&data),
            BodyPiece::Trailers(trailers) => message.trailers = trailers,
            BodyPiece::End => {
                message.is_whole = true;
                reading.end = if body.keeps_alive { WireEnd::NoMore } else { WireEnd::Closed };
                *open = None;
            }
        }
    }
    Ok(())
}

fn target_text(target: &RequestTarget) -> String {
    match target {
        RequestTarget::Origin(form) => form.as_str().to_owned(),
        RequestTarget::Absolute { scheme, authority, path } => {
            format!("{}://{}{}", String::from_utf8_lossy(scheme), String::from_utf8_lossy(authority), path.as_str())
        }
        RequestTarget::Authority(authority) => String::from_utf8_lossy(authority).into_owned(),
        RequestTarget::Asterisk => "*".to_owned(),
    }
}

/// Requests of a connection. The reading does not depend on the cuts between the bytes, and a forwarded head is read
/// back as it was.
pub fn http1_request(data: &[u8]) {
    for limits in [USUAL, SMALL] {
        same_however_cut(data, |parts| requests_within(limits, parts.iter().copied()));
    }
    let head = read_request(&mut HeadScan::default(), &mut BytesMut::from(data), &USUAL.0);
    let Ok(Some(RequestHead { method, target: RequestTarget::Origin(target), mut headers, body, .. })) = head else {
        return;
    };
    let mut out = Vec::new();
    write_request_head(&mut out, &method, &target, &headers, &[], body);
    // The head may have become longer, by blanks behind names or a version of more digits.
    let limits = HeadLimits { bytes: 2 * USUAL.0.bytes, ..USUAL.0 };
    let again = read_request(&mut HeadScan::default(), &mut BytesMut::from(&out[..]), &limits);
    let mut again = again.ok().flatten().expect("what is written is valid");
    assert_eq!((&again.method, &again.target, again.body), (&method, &RequestTarget::Origin(target), body));
    without_framing(&mut headers);
    without_framing(&mut again.headers);
    assert_eq!(again.headers, headers);
}

/// A response. The reading does not depend on the cuts between the bytes, and a forwarded head is read back as it was.
pub fn http1_response(data: &[u8]) {
    for method in [Method::GET, Method::HEAD, Method::CONNECT] {
        for limits in [USUAL, SMALL] {
            same_however_cut(data, |parts| response_within(limits, &method, parts.iter().copied()));
        }
        let head = read_response(&mut HeadScan::default(), &mut BytesMut::from(data), &USUAL.0, &method);
        let Ok(Some(ResponseHead { status, version, headers, body, .. })) = head else { continue };
        let mut out = Vec::new();
        write_response_head(&mut out, version, status, &headers);
        let limits = HeadLimits { bytes: 2 * USUAL.0.bytes, ..USUAL.0 };
        let again = read_response(&mut HeadScan::default(), &mut BytesMut::from(&out[..]), &limits, &method);
        let again = again.ok().flatten().expect("what is written is valid");
        assert_eq!((again.status, again.version, again.body), (status, version, body));
        assert_eq!(again.headers, headers);
    }
}

/// A chunked body with the bytes behind it. The reading does not depend on the cuts between the bytes. Chunks that are
/// written again are read back as they were.
pub fn http1_body(data: &[u8]) {
    let head: &[u8] = b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";
    for limits in [USUAL, SMALL] {
        same_however_cut(data, |parts| requests_within(limits, [head].into_iter().chain(parts.iter().copied())));
    }
    let reading = read_requests([head, data]);
    let Some(message) = reading.messages.first().filter(|message| message.is_whole) else { return };
    let mut out = head.to_vec();
    write_chunks(&mut out, &[&message.body], Some(&message.trailers));
    let again = read_requests([&out[..]]);
    let mut expected = message.clone();
    without_framing(&mut expected.trailers);
    assert_eq!(again.messages, [expected]);
}

/// A request and a response that are made of the data: whatever the writers print, the readers read back.
pub fn http1_round_trip(data: &[u8]) {
    let mut pieces = data.split(|byte| *byte == b'\n');
    let mut next = || pieces.next().unwrap_or_default();
    let method = Method::from_bytes(next()).unwrap_or(Method::POST);
    let target = OriginForm::from_bytes(Bytes::copy_from_slice(next()));
    let target = target.unwrap_or_else(|_| OriginForm::from_bytes("/".into()).expect("a path"));
    let status = str::from_utf8(next()).ok().and_then(|status| status.parse().ok());
    let status = status.and_then(|status: u16| StatusCode::from_u16(status).ok()).unwrap_or_default();
    let (fields, trailers) = (fields_of(next()), fields_of(next()));
    let chunks: Vec<&[u8]> = pieces.filter(|piece| !piece.is_empty()).collect();
    let is_too_large = data.len() > USUAL.0.target_bytes || fields.len().max(trailers.len()) >= USUAL.0.fields;
    if method == Method::CONNECT || is_too_large {
        return;
    }
    let message = WireMessage { fields, body: chunks.concat(), trailers, is_whole: true, ..WireMessage::default() };
    for length in [BodyLength::Chunked, BodyLength::Exact(message.body.len() as u64)] {
        let mut expected = message.clone();
        if length != BodyLength::Chunked {
            expected.trailers.clear();
        }
        let mut out = Vec::new();
        write_request_head(&mut out, &method, &target, &expected.fields, &[], length);
        write_body(&mut out, &chunks, &expected.trailers, length);
        expected.start = format!("{method} {} HTTP/1.1", target.as_str());
        check_read_back(expected.clone(), read_requests([&out[..]]));

        let (name, value) = framing_field(length);
        expected.fields.insert(name, value);
        out.clear();
        write_response_head(&mut out, Version::HTTP_11, status, &expected.fields);
        write_body(&mut out, &chunks, &expected.trailers, length);
        expected.start = format!("HTTP/1.1 {}", status.as_str());
        if !status.is_informational() && ![204, 304].contains(&status.as_u16()) {
            check_read_back(expected, read_one_response(&Method::GET, [&out[..]]));
        }
    }
}

#[track_caller]
fn check_read_back(mut expected: WireMessage, mut reading: WireReading) {
    for message in reading.messages.iter_mut().chain([&mut expected]) {
        without_framing(&mut message.fields);
    }
    assert_eq!(reading.messages, [expected], "{:?}", reading.end);
}

/// `name: value` in each part between `;`, without framing fields.
fn fields_of(text: &[u8]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for field in text.split(|byte| *byte == b';') {
        let Some(at) = field.iter().position(|byte| *byte == b':') else { continue };
        // Blanks around a value are not part of it.
        let value = HeaderValue::from_bytes(field[at + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(&field[..at]), value) {
            fields.append(name, value);
        }
    }
    without_framing(&mut fields);
    fields
}

fn write_body(out: &mut Vec<u8>, chunks: &[&[u8]], trailers: &HeaderMap, length: BodyLength) {
    if length == BodyLength::Chunked {
        write_chunks(out, chunks, Some(trailers));
    } else {
        chunks.iter().for_each(|chunk| out.extend_from_slice(chunk));
    }
}

fn write_chunks(out: &mut Vec<u8>, chunks: &[&[u8]], trailers: Option<&HeaderMap>) {
    for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
        write_chunk_size(out, chunk.len());
        out.extend_from_slice(chunk);
        out.extend_from_slice(CHUNK_END);
    }
    write_last_chunk(out, trailers);
}

fn framing_field(length: BodyLength) -> (HeaderName, HeaderValue) {
    match length {
        BodyLength::Exact(bytes) => (http::header::CONTENT_LENGTH, bytes.into()),
        BodyLength::None | BodyLength::Chunked | BodyLength::UntilClose => {
            (http::header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"))
        }
    }
}

fn without_framing(fields: &mut HeaderMap) {
    fields.remove(http::header::CONTENT_LENGTH);
    fields.remove(http::header::TRANSFER_ENCODING);
}

/// Whole, byte by byte, and in two parts at places that the data chooses.
#[track_caller]
fn same_however_cut(data: &[u8], read: impl Fn(&[&[u8]]) -> WireReading) {
    let whole = read(&[data]);
    let single: Vec<&[u8]> = data.chunks(1).collect();
    assert_eq!(read(&single), whole, "byte by byte");
    let seed = data.iter().fold(data.len(), |seed, byte| seed.wrapping_mul(31).wrapping_add(usize::from(*byte)));
    for at in [seed, seed / 7, seed / 49].map(|place| place % (data.len() + 1)) {
        let (left, right) = data.split_at(at);
        assert_eq!(read(&[left, right]), whole, "cut at {at}");
    }
}

#[cfg(test)]
mod tests;
