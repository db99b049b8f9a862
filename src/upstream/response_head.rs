//! The head of an upstream's response: which responses are refused, and which framing is forwarded.

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::fault::UpstreamFault;
use crate::http1::fault::WireFault;
use crate::http1::framing::BodyLength;
use crate::http1::response_head::ResponseHead;

/// The head of a response over HTTP/1.1.
pub(super) fn http1_head(head: ResponseHead) -> Result<Response<()>, UpstreamFault> {
    let mut response = Response::new(());
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    let is_plain = |length: &HeaderValue| is_plain_number(length.as_bytes());
    match head.body {
        // One statement of the length, and no transfer coding.
        BodyLength::Exact(_) if response.headers().get(CONTENT_LENGTH).is_some_and(is_plain) => {}
        BodyLength::Exact(_) | BodyLength::None | BodyLength::Chunked | BodyLength::UntilClose => {
            normalize(&mut response)?;
        }
    }
    Ok(response)
}

/// Refuses responses that the gateway cannot forward, and leaves one statement of the body's length
/// (RFC 9112 §6.3).
pub(super) fn normalize<B>(response: &mut Response<B>) -> Result<(), UpstreamFault> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(UpstreamFault::Unasked("a protocol switch"));
    }
    let without_length = response.status() == StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        if !coding.as_bytes().eq_ignore_ascii_case(b"chunked") || codings.next().is_some() {
            return Err(UpstreamFault::Protocol(WireFault::Coding.into()));
        }
        headers.remove(CONTENT_LENGTH);
    } else if without_length {
        // A 204 may not have a length (RFC 9110 §8.6), and HTTP/2 clients would wait for the body or reset the stream.
        headers.remove(CONTENT_LENGTH);
    } else {
        let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
        match (lengths.next(), lengths.next()) {
            (None, _) => {}
            (Some(only), None) if is_plain_number(only.as_bytes()) => {}
            (Some(_), _) => {
                let length = agreed_length(headers).ok_or(UpstreamFault::Length)?;
                headers.insert(CONTENT_LENGTH, length.into());
            }
        }
    }
    Ok(())
}

/// Digits without a leading zero that fit into 64 bits.
fn is_plain_number(text: &[u8]) -> bool {
    matches!(text, [b'0'] | [b'1'..=b'9', ..]) && text.len() < 20 && text.iter().all(u8::is_ascii_digit)
}

/// The length, if all values are numbers and equal (RFC 9112 §6.3).
fn agreed_length(headers: &HeaderMap) -> Option<u64> {
    let values = headers.get_all(CONTENT_LENGTH).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let mut lengths = values.map(|text| {
        let text = text.trim_ascii();
        let digits = text.iter().all(u8::is_ascii_digit);
        std::str::from_utf8(text).ok().filter(|_| digits)?.parse::<u64>().ok()
    });
    let first = lengths.next()??;
    lengths.all(|length| length == Some(first)).then_some(first)
}
