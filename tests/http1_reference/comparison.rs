//! hyper as the reference: its server and its client read the same bytes, over a stream in memory. The fuzz targets use
//! this file too.

use std::cell::RefCell;
use std::convert::Infallible;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use portcullis::fuzzing::http1::{WireEnd, WireMessage, read_one_response, read_requests};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::runtime::{Builder, Runtime};

/// Behind the bytes under test: a reader that ends a message elsewhere finds another request, or none.
const MARKER: &[u8] = b"GET /marker HTTP/1.1\r\nhost: marker\r\n\r\n";

/// The requests of a connection. What both accept is alike. Ours may end at the violation of a rule, hyper only for a
/// known reason.
pub(crate) fn compare_requests(data: &[u8]) {
    let data = [data, MARKER].concat();
    let (ours, theirs) = (read_requests([&data[..]]), requests_of(&data));
    for (at, message) in ours.messages.iter().enumerate() {
        let Some(reference) = theirs.get(at) else {
            let reason = refused_head(message, &data);
            assert!(reason.is_some(), "hyper refuses {message:?} of {}", data.escape_ascii());
            return;
        };
        check_alike(message, reference, &ours.end, &data);
        if !message.is_whole || !reference.is_whole {
            return;
        }
    }
    let is_explained = match ours.end {
        WireEnd::Fault(_) => true,
        WireEnd::NoMore => theirs.len() == ours.messages.len(),
        WireEnd::Closed => theirs.len() == ours.messages.len() || is_closed_by_us(ours.messages.last()),
    };
    assert!(is_explained, "ours {ours:?}, hyper's {theirs:?}, of {}", data.escape_ascii());
}

/// A chunked body, with the bytes behind it.
pub(crate) fn compare_bodies(data: &[u8]) {
    compare_requests(&[b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", data].concat());
}

/// The response to requests with several methods.
pub(crate) fn compare_responses(data: &[u8]) {
    for method in [Method::GET, Method::HEAD, Method::CONNECT] {
        let ours = read_one_response(&method, [data]);
        let theirs = response_of(&method, data);
        match (ours.messages.first(), theirs) {
            (Some(message), Some(reference)) => {
                let (message, reference) = (comparable(message.clone()), comparable(reference));
                check_alike(&message, &reference, &ours.end, data);
            }
            (Some(message), None) => {
                let reason = refused_response(message, data);
                assert!(reason.is_some(), "hyper refuses {message:?} of {}", data.escape_ascii());
            }
            (None, Some(reference)) => {
                let is_fault = matches!(ours.end, WireEnd::Fault(_));
                assert!(is_fault, "only hyper accepts {reference:?} of {}", data.escape_ascii());
            }
            (None, None) => {}
        }
    }
}

#[track_caller]
fn check_alike(ours: &WireMessage, theirs: &WireMessage, end: &WireEnd, data: &[u8]) {
    let data = data.escape_ascii();
    assert_eq!((&ours.start, &ours.fields), (&theirs.start, &theirs.fields), "{data}");
    match (ours.is_whole, theirs.is_whole) {
        (true, true) => assert_eq!((&ours.body, &ours.trailers), (&theirs.body, &theirs.trailers), "{data}"),
        (true, false) => panic!("hyper refuses the body of {ours:?} of {data}"),
        (false, true) => assert!(matches!(end, WireEnd::Fault(_)), "only hyper ends {theirs:?} of {data}"),
        (false, false) => {}
    }
}

/// The reason that hyper refuses the head of a request that we accept.
fn refused_head(message: &WireMessage, data: &[u8]) -> Option<&'static str> {
    if has_later_minor_version(data) {
        return Some("it knows HTTP/1.0 and HTTP/1.1 only");
    }
    let target = message.start.split(' ').nth(1)?;
    target.parse::<Uri>().is_err().then_some("`http::Uri` has stricter rules for hosts, and for characters in queries")
}

/// The reason that hyper refuses a response that we accept.
fn refused_response(message: &WireMessage, data: &[u8]) -> Option<&'static str> {
    let is_coded = message.fields.contains_key(TRANSFER_ENCODING);
    let is_folded = data.windows(3).any(|bytes| matches!(bytes, b"\r\n " | b"\r\n\t"));
    match () {
        () if has_later_minor_version(data) => Some("it knows HTTP/1.0 and HTTP/1.1 only"),
        () if is_coded && message.start.starts_with("HTTP/1.0") => Some("it takes no chunks in HTTP/1.0"),
        () if is_folded => Some("it takes no folded lines"),
        () => None,
    }
}

fn has_later_minor_version(data: &[u8]) -> bool {
    data.windows(8).any(|bytes| bytes.starts_with(b"HTTP/1.") && matches!(bytes[7], b'2'..=b'9'))
}

/// Whether we end the connection where hyper goes on. hyper does not read options beside bytes beyond ASCII, and a
/// `CONNECT` that it has refused does not end its connection.
fn is_closed_by_us(last: Option<&WireMessage>) -> bool {
    last.is_some_and(|last| {
        last.start.starts_with("CONNECT ")
            || last.fields.get_all(CONNECTION).iter().any(|value| !value.as_bytes().is_ascii())
    })
}

/// Without lengths that we normalise and hyper leaves as they came.
fn comparable(mut message: WireMessage) -> WireMessage {
    message.fields.remove(CONTENT_LENGTH);
    message
}

/// What hyper's server reads.
fn requests_of(data: &[u8]) -> Vec<WireMessage> {
    let found = RefCell::new(Vec::new());
    let service = service_fn(async |request: Request<Incoming>| {
        let (head, body) = request.into_parts();
        let status = if head.method == Method::CONNECT { StatusCode::FORBIDDEN } else { StatusCode::OK };
        let start = format!("{} {} {:?}", head.method, target_text(&head.uri), head.version);
        found.borrow_mut().push(WireMessage { start, fields: head.headers, ..WireMessage::default() });
        let read = read_body(body).await;
        if let Some(last) = found.borrow_mut().last_mut() {
            (last.body, last.trailers, last.is_whole) = read;
        }
        Ok::<_, Infallible>(Response::builder().status(status).body(Empty::<Bytes>::new()).unwrap())
    });
    with_runtime(async {
        let (mut near, far) = duplex(data.len() + 1);
        near.write_all(data).await.unwrap();
        near.shutdown().await.unwrap();
        let connection =
            hyper::server::conn::http1::Builder::new().half_close(true).serve_connection(TokioIo::new(far), service);
        let _ = tokio::join!(connection, discard(near));
    });
    found.into_inner()
}

/// What hyper's client reads, if it gets a head.
fn response_of(method: &Method, data: &[u8]) -> Option<WireMessage> {
    with_runtime(async {
        let (near, mut far) = duplex(data.len() + 4096);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(TokioIo::new(near)).await.unwrap();
        let target = if method == Method::CONNECT { "a:1" } else { "/" };
        let request = Request::builder().method(method).uri(target).header("host", "a").body(Empty::new()).unwrap();
        let peer = async {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") && far.read_buf(&mut request).await.is_ok_and(|length| length > 0) {}
            let _ = far.write_all(data).await;
            let _ = far.shutdown().await;
        };
        let answer = async {
            let (head, body) = sender.send_request(request).await.ok()?.into_parts();
            let (body, trailers, is_whole) = read_body(body).await;
            let start = format!("{:?} {}", head.version, head.status.as_str());
            Some(WireMessage { start, fields: head.headers, body, trailers, is_whole })
        };
        let connection = async {
            let _ = connection.with_upgrades().await;
        };
        tokio::join!(connection, peer, answer).2
    })
}

async fn read_body(mut body: Incoming) -> (Vec<u8>, HeaderMap, bool) {
    let (mut data, mut trailers) = (Vec::new(), HeaderMap::new());
    while let Some(frame) = body.frame().await {
        match frame.map(hyper::body::Frame::into_data) {
            Ok(Ok(bytes)) => data.extend_from_slice(&bytes),
            Ok(Err(frame)) => trailers = frame.into_trailers().unwrap_or_default(),
            Err(_) => return (data, trailers, false),
        }
    }
    (data, trailers, true)
}

async fn discard(mut stream: DuplexStream) {
    let mut bytes = [0; 1024];
    while stream.read(&mut bytes).await.is_ok_and(|length| length > 0) {}
}

fn target_text(uri: &Uri) -> String {
    match uri.to_string().split_once("://") {
        Some((scheme, rest)) if uri.scheme().is_some() => format!("{}://{rest}", scheme.to_ascii_lowercase()),
        _ => uri.to_string(),
    }
}

fn with_runtime<T>(future: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: Runtime = Builder::new_current_thread().build().unwrap();
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}
