//! The head of an upstream's answer: what of it is passed on, and what is no answer to what was asked.

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, Response, StatusCode};
use hyper::body::Incoming;

use crate::upstream::fault::UpstreamFault;

/// A length or a coding where no body may follow (RFC 9112 §6.3). Services that send it all the same are not rare, and over a
/// connection that was used again it would be taken for the answer to the next request.
pub(super) fn announces_what_may_not_come(for_head: bool, response: &Response<Incoming>) -> bool {
    let without_body = for_head || matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let headers = response.headers();
    let some_length = || headers.get_all(CONTENT_LENGTH).iter().any(|length| length != "0");
    without_body && (headers.contains_key(TRANSFER_ENCODING) || some_length())
}

/// Refuses what hyper lets pass and we can't pass on, and leaves one opinion about the body's length (RFC 9112 §6.3).
pub(super) fn make_passable<B>(response: &mut Response<B>) -> Result<(), UpstreamFault> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(UpstreamFault::Unasked("a protocol"));
    }
    let without_length = response.status() == StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        if !coding.as_bytes().eq_ignore_ascii_case(b"chunked") || codings.next().is_some() {
            return Err(UpstreamFault::Unasked("a transfer coding"));
        }
        headers.remove(CONTENT_LENGTH);
    } else if without_length {
        // It may not have one (RFC 9110 §8.6), and over HTTP/2 clients would wait for it or reset.
        headers.remove(CONTENT_LENGTH);
    } else {
        let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
        match (lengths.next(), lengths.next()) {
            (None, _) => {}
            (Some(only), None) if is_plain_number(only.as_bytes()) => {}
            // hyper looks at it only where it expects a body, which after HEAD and with 304 it does not.
            (Some(_), _) => {
                let length = one_length(headers).ok_or(UpstreamFault::Length)?;
                headers.insert(CONTENT_LENGTH, length.into());
            }
        }
    }
    Ok(())
}

/// A number as anyone would write it, and that has room in 64 bits.
fn is_plain_number(text: &[u8]) -> bool {
    matches!(text, [b'0'] | [b'1'..=b'9', ..]) && text.len() < 20 && text.iter().all(u8::is_ascii_digit)
}

/// What all lengths say, if they are numbers and agree (RFC 9112 §6.3).
fn one_length(headers: &HeaderMap) -> Option<u64> {
    let said = headers.get_all(CONTENT_LENGTH).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let mut lengths = said.map(|text| {
        let text = text.trim_ascii();
        let digits = text.iter().all(u8::is_ascii_digit);
        std::str::from_utf8(text).ok().filter(|_| digits)?.parse::<u64>().ok()
    });
    let first = lengths.next()??;
    lengths.all(|length| length == Some(first)).then_some(first)
}
