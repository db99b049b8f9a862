//! HTTP/2, written frame by frame: for clients that send what no library would send.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::{Client, Gateway};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;
pub(crate) const PRIORITISED: u8 = 0x20;
/// A head in one frame.
pub(crate) const OPEN: u8 = END_HEADERS;
/// A head in one frame that is the whole request.
pub(crate) const WHOLE: u8 = END_HEADERS | END_STREAM;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Longer than any test has to wait. A test that expects no answer waits this long.
const SILENCE: Duration = Duration::from_secs(2);
/// For the end of a connection, on a busy machine too.
const FLOOD_TIMEOUT: Duration = Duration::from_secs(60);

/// A frame as it is on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// The next event from the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Frame(Frame),
    /// An orderly close: all bytes that were sent before it have arrived.
    Closed,
    /// A reset by the kernel: bytes that were sent before it may be lost.
    Reset,
    Silence,
}

/// The client's end of an HTTP/2 connection.
pub(crate) struct Framed {
    pub(crate) stream: TlsStream<TcpStream>,
    unread: Vec<u8>,
    heard: VecDeque<Frame>,
}

/// The result of a flood.
#[derive(Debug)]
pub(crate) struct Flooded {
    /// The gateway has read this number of bytes.
    pub(crate) said: usize,
    /// The gateway has closed the connection.
    pub(crate) ended: bool,
}

impl Framed {
    /// A TLS session that has negotiated HTTP/2, before its first byte.
    pub(crate) async fn silent(gateway: &Gateway) -> Self {
        let stream = Client::http2(gateway).tls().await.unwrap();
        Self { stream, unread: Vec::new(), heard: VecDeque::new() }
    }

    /// A connection after both prefaces: both ends have sent and acknowledged settings.
    pub(crate) async fn open(gateway: &Gateway) -> Self {
        Self::open_with(gateway, &[(4, 65_535)]).await
    }

    pub(crate) async fn open_with(gateway: &Gateway, values: &[(u16, u32)]) -> Self {
        let mut framed = Self::silent(gateway).await;
        framed.say(&[PREFACE, &settings(values)].concat()).await;
        let (mut theirs, mut confirmed) = (false, false);
        while !(theirs && confirmed) {
            let Heard::Frame(frame) = framed.next().await else { panic!("no settings") };
            match (frame.kind, frame.flags) {
                (SETTINGS, ACK) => confirmed = true,
                (SETTINGS, _) => theirs = true,
                _ => {}
            }
        }
        framed.say(&frame(SETTINGS, ACK, 0, b"")).await;
        framed
    }

    /// A disconnect is found by reading.
    pub(crate) async fn say(&mut self, bytes: &[u8]) {
        let _ = self.try_say(bytes).await;
    }

    pub(crate) async fn try_say(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    pub(crate) async fn next(&mut self) -> Heard {
        loop {
            if let Some(frame) = self.heard.pop_front() {
                return Heard::Frame(frame);
            }
            match timeout(SILENCE, self.stream.read_buf(&mut self.unread)).await {
                Err(_) => return Heard::Silence,
                Ok(Ok(0)) => return Heard::Closed,
                // A close without `close_notify` counts as a close.
                Ok(Err(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Heard::Closed,
                Ok(Err(_)) => return Heard::Reset,
                Ok(Ok(_)) => self.take_frames(),
            }
        }
    }

    /// The first frame that matches, or the reason why there is none.
    pub(crate) async fn until(&mut self, fits: impl Fn(&Frame) -> bool) -> Result<Frame, Heard> {
        loop {
            match self.next().await {
                Heard::Frame(frame) if fits(&frame) => return Ok(frame),
                Heard::Frame(_) => {}
                end => return Err(end),
            }
        }
    }

    /// Sends piece after piece until all are sent or the gateway ends the connection, and reads meanwhile.
    pub(crate) async fn flood(self, pieces: impl Iterator<Item = Vec<u8>>) -> Flooded {
        let (mut reading, mut writing) = tokio::io::split(self.stream);
        let (mut heard, mut said) = (Vec::new(), 0);
        let listens = async { while let Ok(1..) = reading.read_buf(&mut heard).await {} };
        let says = async {
            for piece in pieces {
                if writing.write_all(&piece).await.is_err() || writing.flush().await.is_err() {
                    return;
                }
                said += piece.len();
            }
            // The gateway may still have to read them.
            std::future::pending().await
        };
        let flooding = async {
            tokio::select! {
                () = listens => {}
                () = says => {}
            }
        };
        let ended = timeout(FLOOD_TIMEOUT, flooding).await.is_ok();
        Flooded { said, ended }
    }

    fn take_frames(&mut self) {
        let mut at = 0;
        while let Some(head) = self.unread.get(at..at + 9) {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            let (kind, flags) = (head[3], head[4]);
            let Some(payload) = self.unread.get(at + 9..at + 9 + length) else { break };
            self.heard.push_back(Frame { kind, flags, stream, payload: payload.to_vec() });
            at += 9 + length;
        }
        self.unread.drain(..at);
    }
}

impl Frame {
    /// The error code of a RST_STREAM or GOAWAY frame.
    pub(crate) fn code(&self) -> Option<u32> {
        let at = match self.kind {
            RST_STREAM => 0,
            GOAWAY => 4,
            _ => return None,
        };
        Some(u32::from_be_bytes(self.payload.get(at..at + 4)?.try_into().unwrap()))
    }

    pub(crate) fn ends_stream(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }

    /// The status of an answer's head: the gateway writes the common ones by their number in the static table, the
    /// others by the number of their name. A size update may precede it.
    pub(crate) fn status(&self) -> Option<u16> {
        let block: Vec<u8> = self.payload.iter().copied().skip_while(|byte| byte & 0xe0 == 0x20).take(8).collect();
        match (self.kind, *block.first()?) {
            (HEADERS, indexed @ 0x88..=0x8e) => Some([200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)]),
            (HEADERS, 0x08 | 0x48) => Some(digits(&block[1..])),
            _ => None,
        }
    }
}

/// Three digits, plain or by Huffman's code, in which `0`, `1`, `2` are five bits long and the other digits six.
fn digits(string: &[u8]) -> u16 {
    if string[0] & 0x80 == 0 {
        return std::str::from_utf8(&string[1..4]).unwrap().parse().unwrap();
    }
    let bits = string[1..].iter().take(3).fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
    let mut left = 8 * string[1..].len().min(3);
    let mut number = 0;
    for _ in 0..3 {
        let next = |count: usize| (bits >> (left - count)) & ((1 << count) - 1);
        let (digit, length) = if next(5) <= 2 { (next(5), 5) } else { (next(6) - 0x19 + 3, 6) };
        number = number * 10 + u16::try_from(digit).unwrap();
        left -= length;
    }
    number
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

pub(crate) fn headers(stream: u32, flags: u8, block: &[u8]) -> Vec<u8> {
    frame(HEADERS, flags, stream, block)
}

pub(crate) fn continuation(stream: u32, flags: u8, block: &[u8]) -> Vec<u8> {
    frame(CONTINUATION, flags, stream, block)
}

pub(crate) fn data(stream: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    frame(DATA, flags, stream, payload)
}

pub(crate) fn settings(values: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> =
        values.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()[..]].concat()).collect();
    frame(SETTINGS, 0, 0, &payload)
}

pub(crate) fn rst_stream(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

pub(crate) fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

pub(crate) fn priority(stream: u32, depends_on: u32, weight: u8) -> Vec<u8> {
    frame(PRIORITY, 0, stream, &[&depends_on.to_be_bytes()[..], &[weight]].concat())
}

pub(crate) fn ping(flags: u8, payload: &[u8; 8]) -> Vec<u8> {
    frame(PING, flags, 0, payload)
}

/// Fields as literals that are not added to the table (RFC 7541 §6.2.2).
pub(crate) fn block<N: AsRef<[u8]>, V: AsRef<[u8]>>(fields: &[(N, V)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        string(&mut block, name.as_ref());
        string(&mut block, value.as_ref());
    }
    block
}

/// A string as it is (RFC 7541 §5.2).
pub(crate) fn string(block: &mut Vec<u8>, text: &[u8]) {
    integer(block, 0, 7, text.len());
    block.extend(text);
}

/// A number after `prefix`, with this number of bits left in the first byte (RFC 7541 §5.1).
pub(crate) fn integer(block: &mut Vec<u8>, prefix: u8, bits: u32, number: usize) {
    let most = (1 << bits) - 1;
    if number < most {
        return block.push(prefix | u8::try_from(number).unwrap());
    }
    block.push(prefix | u8::try_from(most).unwrap());
    let mut rest = number - most;
    while rest >= 128 {
        block.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    block.push(u8::try_from(rest).unwrap());
}

/// The head of a request for `/`, with these further fields.
pub(crate) fn head(method: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let pseudo = [(":method", method), (":scheme", "https"), (":path", "/"), (":authority", "localhost")];
    block(&[&pseudo[..], fields].concat())
}
