//! The head of an answer: its fields, how its body is framed (RFC 9112 §6), and whether the connection persists (§9).

use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRAILER, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, response};

use crate::http1::field_block::write_field;
use crate::http1::framing::length;
use crate::http1::head_writer::{write_content_length, write_status_line};
use crate::http1::request_head::RequestHead;

/// The facts of the request and of the connection that decide on an answer's head.
#[derive(Clone, Copy, Debug)]
pub(super) struct AnswerContext {
    pub(super) version: Version,
    pub(super) is_head: bool,
    pub(super) reads_trailers: bool,
    pub(super) keeps_alive: bool,
}

/// The length of an answer's body, as far as it is known before the body is read.
#[derive(Clone, Copy, Debug)]
pub(super) enum AnswerLength {
    /// It has ended.
    Ended,
    Exact(u64),
    Unknown,
}

/// How the end of an answer is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AnswerFraming {
    /// There is no body, whatever the fields announce.
    None,
    /// So many bytes are still to come.
    Exact(u64),
    Chunked,
    UntilClose,
}

/// The promises of a head that has been written.
#[derive(Debug)]
pub(super) struct AnswerPromise {
    pub(super) framing: AnswerFraming,
    pub(super) keeps_alive: bool,
    /// The names of the trailers that may follow.
    pub(super) trailers: Vec<HeaderName>,
}

/// The fields of an answer that have a meaning for its connection.
#[derive(Default)]
struct Noted<'h> {
    length: Option<&'h HeaderValue>,
    has_date: bool,
    has_trailer: bool,
    closes: bool,
}

impl AnswerContext {
    pub(super) fn new(head: &RequestHead) -> Self {
        Self {
            version: head.version,
            is_head: head.method == Method::HEAD,
            reads_trailers: head.reads_trailers,
            keeps_alive: head.keeps_alive,
        }
    }

    /// Of a request whose head breaks a rule.
    pub(super) fn of_fault() -> Self {
        Self { version: Version::HTTP_11, is_head: false, reads_trailers: false, keeps_alive: false }
    }

    /// Appends the head of the answer. `date` is a complete field line.
    pub(super) fn write_head(
        self,
        out: &mut Vec<u8>,
        head: &response::Parts,
        body: AnswerLength,
        date: &[u8],
    ) -> AnswerPromise {
        write_status_line(out, self.version, head.status);
        let noted = write_fields(out, head);
        let stated = noted.length.and_then(|value| length(value.as_bytes()).ok());
        let framing = self.framing(head.status, stated, body);
        match framing {
            AnswerFraming::None => {
                // Of the answer to another method, or of the stored one.
                if let Some(bytes) = stated.filter(|_| may_state_length(head.status)) {
                    write_content_length(out, bytes);
                }
            }
            AnswerFraming::Exact(bytes) => write_content_length(out, bytes),
            AnswerFraming::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
            AnswerFraming::UntilClose => {}
        }
        if !noted.has_date {
            out.extend_from_slice(date);
        }
        let keeps_alive = self.keeps_alive && !noted.closes && framing != AnswerFraming::UntilClose;
        match (keeps_alive, head.status) {
            (_, StatusCode::SWITCHING_PROTOCOLS) => {}
            (false, _) => out.extend_from_slice(b"connection: close\r\n"),
            (true, _) if self.version == Version::HTTP_10 => out.extend_from_slice(b"connection: keep-alive\r\n"),
            (true, _) => {}
        }
        out.extend_from_slice(b"\r\n");
        let has_trailers = noted.has_trailer && self.reads_trailers && framing == AnswerFraming::Chunked;
        let trailers = if has_trailers { names_of_trailers(&head.headers) } else { Vec::new() };
        AnswerPromise { framing, keeps_alive, trailers }
    }

    fn framing(self, status: StatusCode, stated: Option<u64>, body: AnswerLength) -> AnswerFraming {
        let has_none = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        match (body, stated) {
            _ if self.is_head || has_none || status.is_informational() => AnswerFraming::None,
            (AnswerLength::Ended, _) => AnswerFraming::Exact(0),
            (AnswerLength::Exact(bytes), _) | (AnswerLength::Unknown, Some(bytes)) => AnswerFraming::Exact(bytes),
            (AnswerLength::Unknown, None) if self.version == Version::HTTP_10 => AnswerFraming::UntilClose,
            (AnswerLength::Unknown, None) => AnswerFraming::Chunked,
        }
    }
}

/// RFC 9110 §8.6.
fn may_state_length(status: StatusCode) -> bool {
    status != StatusCode::NO_CONTENT && !status.is_informational()
}

/// Writes all fields but those that frame the body, and those of the connection unless it switches protocols.
fn write_fields<'h>(out: &mut Vec<u8>, head: &'h response::Parts) -> Noted<'h> {
    let mut noted = Noted::default();
    for (name, value) in &head.headers {
        if *name == CONTENT_LENGTH {
            noted.length = Some(value);
        } else if *name == CONNECTION && head.status != StatusCode::SWITCHING_PROTOCOLS {
            noted.closes |= value.as_bytes().eq_ignore_ascii_case(b"close");
        } else if *name != TRANSFER_ENCODING {
            noted.has_date |= *name == DATE;
            noted.has_trailer |= *name == TRAILER;
            write_field(out, name, value);
        }
    }
    noted
}

fn names_of_trailers(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(TRAILER).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    values.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok()).collect()
}
