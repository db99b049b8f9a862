//! gRPC calls: how they are recognised, their deadlines, and the form of a refusal.
//!
//! A gRPC client reads only `grpc-status` and guesses from any other HTTP status. So a refusal is an answer without a
//! body, its status in the header ("Trailers-Only" in gRPC's PROTOCOL-HTTP2), with the same text as other refusals.

use std::time::Duration;

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use tokio::time::Instant;

use super::content::Content;
use crate::pipeline::policy::open_streams::StreamEnd;
use crate::pipeline::record::matched::MatchedRule;
use crate::pipeline::request::headers::FieldFault;
use crate::pipeline::routing::snapshot::Snapshot;
use crate::pipeline::routing::target::RouteTarget;
use crate::server::received_request::ReceivedHead;

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// How long a retry waits, in milliseconds (gRPC's A6).
const GRPC_RETRY_PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// The status codes of gRPC that the gateway uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GrpcStatus {
    Unknown = 2,
    DeadlineExceeded = 4,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    Unauthenticated = 16,
}

/// True for a gRPC call. gRPC-Web is for browsers, which read HTTP's status codes.
pub(crate) fn is_call(head: &ReceivedHead) -> bool {
    head.version == Version::HTTP_2
        && head.method == Method::POST
        && head.headers.get(CONTENT_TYPE).is_some_and(|value| is_grpc(value.as_bytes()))
}

/// True for the answer to a gRPC call.
pub(crate) fn is_answer(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| is_grpc(value.as_bytes()))
}

/// Whether the target of a request may be a gRPC service. A service over HTTP/1.1 is not, nor are our own endpoints.
pub(crate) fn may_be_spoken(rule: MatchedRule, snapshot: &Snapshot) -> bool {
    match rule {
        MatchedRule::Nothing => true,
        MatchedRule::Route(_) => rule.target(snapshot).is_some_and(RouteTarget::may_speak_http2),
        MatchedRule::BuiltIn(_) | MatchedRule::Redirect => false,
    }
}

fn is_grpc(content_type: &[u8]) -> bool {
    let name = GRPC.len();
    content_type.get(..name).is_some_and(|start| start.eq_ignore_ascii_case(GRPC.as_bytes()))
        && matches!(content_type.get(name), None | Some(b'+' | b';' | b' '))
}

/// The deadline of a whole call; `None` for other requests, and for calls without one.
pub(crate) fn deadline(headers: &HeaderMap) -> Result<Option<Instant>, FieldFault> {
    Ok(timeout(headers)?.and_then(|timeout| Instant::now().checked_add(timeout)))
}

fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, FieldFault> {
    let mut values = headers.get_all(GRPC_TIMEOUT).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => duration(value.as_bytes()).map(Some).ok_or(FieldFault::GrpcTimeout),
        (Some(_), Some(_)) => Err(FieldFault::GrpcTimeout),
    }
}

/// At most eight digits and a unit.
fn duration(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0, |number: u64, digit| number * 10 + u64::from(digit - b'0'));
    match unit {
        b'H' => Some(Duration::from_secs(number * 3600)),
        b'M' => Some(Duration::from_secs(number * 60)),
        b'S' => Some(Duration::from_secs(number)),
        b'm' => Some(Duration::from_millis(number)),
        b'u' => Some(Duration::from_micros(number)),
        b'n' => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// Turns a refusal into the form that gRPC clients read. Other fields are kept, for proxies and people.
pub(crate) fn refuse(refusal: &mut Response<Content>, description: &str) {
    let code = GrpcStatus::of(refusal.status());
    *refusal.status_mut() = StatusCode::OK;
    *refusal.body_mut() = Content::whole("");
    let headers = refusal.headers_mut();
    headers.insert(CONTENT_TYPE, GRPC);
    code.insert_into(description, headers);
    let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if let Some(seconds) = seconds {
        headers.insert(GRPC_RETRY_PUSHBACK, seconds.saturating_mul(1000).into());
    }
}

/// The trailers of a call whose deadline passes while it is answered.
pub(crate) fn deadline_exceeded() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    GrpcStatus::DeadlineExceeded.insert_into("the call took longer than its deadline", &mut trailers);
    trailers
}

/// The trailers of a call that is not let in any more.
pub(crate) fn stream_ended(end: &StreamEnd) -> HeaderMap {
    let (code, description) = match end {
        StreamEnd::Unauthenticated | StreamEnd::UnknownClient(_) => {
            (GrpcStatus::Unauthenticated, "the credentials of the call are not accepted any more")
        }
        StreamEnd::NotAllowed | StreamEnd::WrongAddress | StreamEnd::ClientAddress(_) => {
            (GrpcStatus::PermissionDenied, "the call is not allowed any more")
        }
    };
    let mut trailers = HeaderMap::new();
    code.insert_into(description, &mut trailers);
    trailers
}

impl GrpcStatus {
    /// The codes of gRPC's "HTTP to gRPC Status Code Mapping", and more exact ones where the gateway knows more: the
    /// mapping is for statuses of unknown proxies.
    fn of(status: StatusCode) -> Self {
        match status.as_u16() {
            401 => Self::Unauthenticated,
            403 => Self::PermissionDenied,
            404 | 405 => Self::Unimplemented,
            408 | 504 => Self::DeadlineExceeded,
            413 | 414 | 429 | 431 => Self::ResourceExhausted,
            502 | 503 => Self::Unavailable,
            400..=500 => Self::Internal,
            _ => Self::Unknown,
        }
    }

    fn insert_into(self, description: &str, headers: &mut HeaderMap) {
        const ENCODED: &AsciiSet = &CONTROLS.add(b'%');
        headers.insert(GRPC_STATUS, (self as u16).into());
        let message = utf8_percent_encode(description, ENCODED).to_string();
        if let Ok(message) = HeaderValue::try_from(message) {
            headers.insert(GRPC_MESSAGE, message);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn grpc_is_recognised_by_its_content_type() {
        for yes in ["application/grpc", "application/grpc+proto", "Application/gRPC;charset=utf-8"] {
            assert!(is_grpc(yes.as_bytes()), "{yes}");
        }
        for no in ["application/grpc-web", "application/grpc-web+proto", "application/json", "", "application/grpcx"] {
            assert!(!is_grpc(no.as_bytes()), "{no}");
        }
    }

    fn of(values: &[&str]) -> Result<Option<Duration>, FieldFault> {
        timeout(&values.iter().map(|value| (GRPC_TIMEOUT, value.parse().unwrap())).collect())
    }

    #[test]
    fn a_timeout_is_digits_and_a_unit() {
        let cases = [
            ("1H", Duration::from_secs(3600)),
            ("2M", Duration::from_secs(120)),
            ("3S", Duration::from_secs(3)),
            ("250m", Duration::from_millis(250)),
            ("99999999u", Duration::from_micros(99_999_999)),
            ("0n", Duration::ZERO),
        ];
        for (text, expected) in cases {
            assert_eq!(of(&[text]), Ok(Some(expected)), "{text}");
        }
        assert_eq!(of(&[]), Ok(None));
        for bad in ["", "S", "1", "1s", "-1S", "1.5S", " 1S", "123456789S", "1SS", "+1S"] {
            assert_eq!(of(&[bad]), Err(FieldFault::GrpcTimeout), "{bad}");
        }
        assert_eq!(of(&["1S", "1S"]), Err(FieldFault::GrpcTimeout));
    }

    #[test]
    fn every_refusal_has_a_code_of_its_kind() {
        let code = |status: u16| GrpcStatus::of(StatusCode::from_u16(status).unwrap()) as u16;
        let expected = [
            (400, 13),
            (401, 16),
            (403, 7),
            (404, 12),
            (405, 12),
            (408, 4),
            (413, 8),
            (414, 8),
            (421, 13),
            (429, 8),
            (431, 8),
            (500, 13),
            (502, 14),
            (503, 14),
            (504, 4),
        ];
        for (status, grpc) in expected {
            assert_eq!(code(status), grpc, "{status}");
        }
    }

    #[test]
    fn a_message_is_percent_encoded() {
        let mut headers = HeaderMap::new();
        GrpcStatus::PermissionDenied.insert_into("100% \u{e4}\n", &mut headers);
        assert_eq!(
            (&headers["grpc-status"], &headers["grpc-message"]),
            (&"7".parse().unwrap(), &"100%25 %C3%A4%0A".parse().unwrap())
        );
    }

    proptest! {
        #[test]
        fn no_timeout_is_longer_than_it_says_or_breaks_the_parser(text in "[0-9HMSmun]{0,10}") {
            if let Ok(Some(timeout)) = of(&[&text]) {
                let number: u64 = text[..text.len() - 1].parse().unwrap();
                prop_assert!(timeout <= Duration::from_secs(number * 3600));
            }
        }
    }
}
