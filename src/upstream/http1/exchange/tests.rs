use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use super::super::super::body::body_timeouts::BodyTimeouts;
use super::super::super::body::request_body::IncomingUpload;
use super::super::super::fault::BoxError;
use super::super::super::protocol::UpstreamProtocol;
use super::super::super::server::{Server, ServerOrigin};
use super::super::super::settings::UpstreamSettings;
use super::super::connection::connect;
use super::*;
use crate::http1::field_block::FieldBlock;
use crate::http1::target::OriginForm;

/// A server at its socket, and what connects to it.
struct Place {
    listener: TcpListener,
    target: DialTarget,
}

/// A request body that is sent in pieces, and ends when the sender is dropped.
struct Pieces(mpsc::Receiver<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

impl Place {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = ServerOrigin::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let server = Server::tcp(origin, None, UpstreamProtocol::Http1);
        let settings = UpstreamSettings::new(Duration::from_secs(9), Duration::from_secs(9));
        Self { listener, target: DialTarget::new(&"service".into(), &server, &settings) }
    }

    /// A connection, from both ends.
    async fn connect(&self) -> (Box<Http1Connection>, TcpStream) {
        let (near, far) = tokio::join!(connect(&self.target, None), self.listener.accept());
        let (far, _) = far.unwrap();
        far.set_nodelay(true).unwrap();
        (near.unwrap(), far)
    }

    fn begin(&self, connection: Box<Http1Connection>, mut request: UpstreamRequest) -> Http1Exchange {
        let progress = Rc::new(UploadProgress::default());
        Http1Exchange::new(connection, &self.target, &mut request, &progress)
    }
}

fn request(method: &str, incoming: Option<Pieces>) -> UpstreamRequest {
    let incoming = incoming.map(|body| Box::pin(body) as _);
    let mut upload = IncomingUpload { incoming, watcher: None, is_awaiting: false };
    let timeouts = BodyTimeouts { idle: None, min_rate: None };
    let (body, _) = RequestBody::new(&mut upload, None, timeouts, Box::new(|_| {}));
    let target = OriginForm::from_bytes(Bytes::from_static(b"/path?\"query")).unwrap();
    UpstreamRequest::new(method.parse().unwrap(), target, HeaderMap::new(), body)
}

async fn head(exchange: &mut Http1Exchange) -> Result<ResponseHead, ExchangeFailure> {
    poll_fn(|context| exchange.poll_head(None, context)).await
}

/// The response to a request with this method, in short: status, body, trailers, and the use of the connection after
/// it.
async fn outcome(exchange: &mut Option<Http1Exchange>) -> String {
    let head = match head(exchange.as_mut().unwrap()).await {
        Ok(head) => head,
        Err(ExchangeFailure::Unsent(fault)) => return format!("unsent: {}", name(&fault)),
        Err(ExchangeFailure::Sent(fault)) => return name(&fault),
    };
    let mut response = exchange.take().unwrap().into_response(&head);
    let mut text = format!("{} ", head.status.as_u16());
    while let Some(frame) = poll_fn(|context| response.poll_frame(context)).await {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => text.push_str(str::from_utf8(&data).unwrap()),
            Ok(Err(frame)) => text.push_str(&format!("+{}", frame.trailers_ref().unwrap().len())),
            Err(error) => return text + &name(error.downcast_ref().unwrap()),
        }
    }
    assert!(response.is_end_stream());
    text + match response.end() {
        Some(ended) if ended.is_reusable => " reusable",
        Some(_) => " kept",
        None => " closed",
    }
}

fn name(fault: &UpstreamFault) -> String {
    match fault {
        UpstreamFault::Protocol(_) => format!("protocol: {}", fault.rule().unwrap()),
        UpstreamFault::Reset(_) => "reset".to_owned(),
        other => other.to_string(),
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\n";
const LONG: &str = "Content-Length: 5\r\n\r\nhello";
const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";
const CHUNKS: &str = "\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n";

/// Method, the parts of the response, its outcome. The server closes the connection behind it.
const RESPONSES: &[(&str, &[&str], &str)] = &[
    ("GET", &[OK, LONG], "200 hello reusable"),
    ("GET", &[OK, "Content-Length: 0\r\n\r\n"], "200  reusable"),
    ("GET", &[OK, CHUNKED, CHUNKS], "200 hello reusable"),
    ("GET", &[OK, CHUNKED, "\r\n5\r\nhello\r\n0\r\nA: b\r\nC: d\r\n\r\n"], "200 hello+2 reusable"),
    ("GET", &["HTTP/1.1 204 \r\n\r\n"], "204  reusable"),
    ("GET", &["HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"], "304  kept"),
    ("GET", &["HTTP/1.1 204 \r\nContent-Length: 5\r\n\r\nhello"], "204  closed"),
    ("HEAD", &[OK, "Content-Length: 5\r\n\r\n"], "200  kept"),
    ("HEAD", &[OK, "Content-Length: 0\r\n\r\n"], "200  reusable"),
    ("HEAD", &[OK, LONG], "200  closed"),
    ("GET", &["HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nA: b\r\n\r\n", OK, LONG], "200 hello reusable"),
    // The connection ends with the response.
    ("GET", &[OK, "Connection: close\r\n", LONG], "200 hello closed"),
    ("GET", &["HTTP/1.0 200 OK\r\n", LONG], "200 hello closed"),
    ("GET", &[OK, "\r\nhello"], "200 hello closed"),
    ("GET", &[OK, "Content-Length: 4\r\n\r\nhello"], "200 hell closed"),
    ("GET", &[OK, LONG, OK, LONG], "200 hello closed"),
    ("GET", &[OK, CHUNKED, CHUNKS, "\r\n"], "200 hello closed"),
    // Accepted leniently.
    ("GET", &[OK, "Content-Length: 5\r\n", LONG], "200 hello closed"),
    ("GET", &[OK, "A: b\r\n c\r\n", LONG], "200 hello closed"),
    ("GET", &[OK, CHUNKED, "Content-Length: 9\r\n", CHUNKS], "200 hello closed"),
    ("GET", &["HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n", CHUNKED, CHUNKS], "200 hello closed"),
    // Truncated.
    ("GET", &[], "reset"),
    ("GET", &["HTTP/1.1 200 OK\r\nA: b"], "reset"),
    ("GET", &["HTTP/1.1 100 Continue\r\n\r\n"], "reset"),
    ("GET", &[OK, "Content-Length: 9\r\n\r\nhello"], "200 helloreset"),
    ("GET", &[OK, CHUNKED, "\r\n5\r\nhello"], "200 helloreset"),
    ("GET", &[OK, CHUNKED, "\r\n5\r\nhello\r\n0\r\n"], "200 helloreset"),
    // Refused.
    ("GET", &["HTTP/1.1 200 OK\nA: b\n\n"], "protocol: bare_line_feed"),
    ("GET", &[OK, "Content-Length: 5\r\nContent-Length: 6\r\n\r\n"], "protocol: several_lengths"),
    ("GET", &["SSH-2.0-OpenSSH_9.9\r\n"], "protocol: status_line"),
    ("GET", &["HTTP"], "reset"),
    ("GET", &[OK, CHUNKED, "\r\n5\r\nhello\r\nxx\r\n"], "200 helloprotocol: chunk_size"),
    ("GET", &["HTTP/1.1 101 Switching\r\nUpgrade: tcp\r\n\r\n"], PROTOCOL_SWITCH),
];

const PROTOCOL_SWITCH: &str = "the upstream's response has a protocol switch that was not requested";

/// The outcome of a response that comes in these parts.
async fn outcome_of(place: &Place, method: &str, parts: &[&[u8]]) -> String {
    let (connection, mut far) = place.connect().await;
    let mut exchange = Some(place.begin(connection, request(method, None)));
    let serving = async {
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            assert!(far.read_buf(&mut asked).await.unwrap() > 0);
        }
        for part in parts {
            // A response that is refused resets the connection.
            if far.write_all(part).await.is_err() {
                break;
            }
            // The client reads it before the next part comes.
            tokio::task::yield_now().await;
        }
        // Half a close, so that what was written is not lost by a reset.
        let _ = far.shutdown().await;
    };
    tokio::join!(outcome(&mut exchange), serving).0
}

#[tokio::test]
async fn responses_are_read_alike_however_they_are_cut() {
    let place = Place::new().await;
    for (method, parts, expected) in RESPONSES {
        let text = parts.concat().into_bytes();
        assert_eq!(outcome_of(&place, method, &[&text]).await, *expected, "{parts:?}");
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        let by_bytes = outcome_of(&place, method, &bytes).await;
        // Bytes behind a response that come later are found when the connection is taken again.
        let expected_later = match *expected {
            "200  closed" => "200  kept",
            "200 hell closed" => "200 hell reusable",
            "200 hello closed" if parts.len() > 2 && (parts.ends_with(&[OK, LONG]) || parts.ends_with(&["\r\n"])) => {
                "200 hello reusable"
            }
            other => other,
        };
        assert!(by_bytes == *expected || by_bytes == expected_later, "{parts:?} byte by byte: {by_bytes}");
        for at in 1..text.len() {
            let (left, right) = text.split_at(at);
            let by_two = outcome_of(&place, method, &[left, right]).await;
            assert!(by_two == *expected || by_two == expected_later, "{parts:?} cut at {at}: {by_two}");
        }
    }
}

#[tokio::test]
async fn more_than_16_interim_responses_are_refused() {
    let place = Place::new().await;
    let interim = |count| "HTTP/1.1 102 Processing\r\n\r\n".repeat(count) + OK + LONG;
    assert_eq!(outcome_of(&place, "GET", &[interim(16).as_bytes()]).await, "200 hello reusable");
    assert_eq!(outcome_of(&place, "GET", &[interim(17).as_bytes()]).await, "protocol: too_many_interim");
}

#[tokio::test]
async fn an_idle_connection_with_stray_bytes_or_an_end_is_unusable() {
    let place = Place::new().await;
    let (mut connection, far) = place.connect().await;
    assert!(connection.is_usable() && connection.is_usable());
    drop(far);
    while connection.is_usable() {
        tokio::task::yield_now().await;
    }
    let (mut connection, mut far) = place.connect().await;
    far.write_all(b"H").await.unwrap();
    while connection.is_usable() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_request_on_an_ended_connection_counts_as_unsent() {
    let place = Place::new().await;
    let (connection, far) = place.connect().await;
    far.set_zero_linger().unwrap();
    drop(far);
    let mut exchange = Some(place.begin(connection, request("GET", None)));
    assert_eq!(outcome(&mut exchange).await, "unsent: reset");
}

/// The whole request, up to its end in these bytes.
async fn sent(place: &Place, request: UpstreamRequest, end: &str) -> String {
    let (connection, mut far) = place.connect().await;
    let mut exchange = place.begin(connection, request);
    let serving = async {
        let mut read = Vec::new();
        while !read.ends_with(end.as_bytes()) {
            assert!(far.read_buf(&mut read).await.unwrap() > 0);
        }
        far.write_all([OK, LONG].concat().as_bytes()).await.unwrap();
        String::from_utf8(read).unwrap()
    };
    let (head, text) = tokio::join!(head(&mut exchange), serving);
    assert_eq!(head.unwrap().status, 200);
    text.replace(&place.listener.local_addr().unwrap().to_string(), "HOST")
}

#[tokio::test]
async fn a_head_has_host_first_then_added_fields_and_framing() {
    let place = Place::new().await;
    let plain = "/path?\"query HTTP/1.1\r\nhost: HOST\r\n";
    let expected = format!("GET {plain}connection: keep-alive\r\n\r\n");
    assert_eq!(sent(&place, request("GET", None), "\r\n\r\n").await, expected);
    let mut post = request("POST", None);
    let value = |text| HeaderValue::from_static(text);
    post.added[1] = Some(Rc::new(FieldBlock::new(vec![(http::header::VIA, value("1.1 x"))])));
    post.headers.insert("x-last", value("y"));
    post.headers.insert("content-length", value("7"));
    post.headers.insert("host", value("client.example"));
    let expected =
        format!("POST {plain}via: 1.1 x\r\nconnection: keep-alive\r\nx-last: y\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(sent(&place, post, "\r\n\r\n").await, expected);
}

#[test]
fn only_the_first_request_is_unread_after_a_refused_handshake() {
    let refused = UpstreamFault::Connect(io::Error::other("refused"));
    assert!(is_unread(&refused, 1, true) && !is_unread(&refused, 2, true) && is_unread(&refused, 2, false));
}

#[tokio::test]
async fn a_body_of_unknown_length_is_chunked_with_any_method() {
    let place = Place::new().await;
    for method in ["GET", "POST", "DELETE"] {
        let (sender, body) = mpsc::channel(3);
        for piece in ["hello", "", "world!"] {
            sender.send(Bytes::from_static(piece.as_bytes())).await.unwrap();
        }
        drop(sender);
        let text = sent(&place, request(method, Some(Pieces(body))), "0\r\n\r\n").await;
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with("\r\ntransfer-encoding: chunked"), "{head}");
        assert_eq!(body, "5\r\nhello\r\n6\r\nworld!\r\n0\r\n\r\n");
    }
}

#[tokio::test]
async fn a_large_upload_arrives_whole_at_a_slow_reader() {
    let place = Place::new().await;
    let (sender, body) = mpsc::channel(1);
    let (connection, mut far) = place.connect().await;
    let mut exchange = place.begin(connection, request("POST", Some(Pieces(body))));
    let pieces = || (0..200_usize).map(|number| Bytes::from(vec![b'a' + (number % 26) as u8; 1 + number * number]));
    let sending = async {
        for piece in pieces() {
            sender.send(piece).await.unwrap();
        }
        drop(sender);
    };
    let serving = async {
        let mut read = Vec::new();
        while !read.ends_with(b"0\r\n\r\n") {
            assert!(far.read_buf(&mut read).await.unwrap() > 0);
        }
        far.write_all([OK, LONG].concat().as_bytes()).await.unwrap();
        read
    };
    let (head, (), read) = tokio::join!(head(&mut exchange), sending, serving);
    assert!(head.is_ok());
    let start = read.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
    let mut expected = Vec::new();
    for piece in pieces() {
        expected.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        expected.extend_from_slice(&piece);
        expected.extend_from_slice(b"\r\n");
    }
    expected.extend_from_slice(b"0\r\n\r\n");
    assert!(read[start..] == expected[..]);
}

#[tokio::test]
async fn an_upload_goes_on_while_its_response_is_not_read() {
    let place = Place::new().await;
    let test = async {
        let (sender, body) = mpsc::channel(1);
        let (connection, mut far) = place.connect().await;
        let mut exchange = place.begin(connection, request("POST", Some(Pieces(body))));
        far.write_all([OK, LONG].concat().as_bytes()).await.unwrap();
        let answered = head(&mut exchange).await.unwrap();
        let mut response = exchange.into_response(&answered).send_rest();
        sender.send(Bytes::from_static(b"late")).await.unwrap();
        drop(sender);
        let mut read = Vec::new();
        while !read.ends_with(b"4\r\nlate\r\n0\r\n\r\n") {
            assert!(far.read_buf(&mut read).await.unwrap() > 0);
        }
        let frame = poll_fn(|context| response.poll_frame(context)).await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "hello");
        assert!(response.end().is_some_and(|ended| ended.is_reusable));
    };
    LocalSet::new().run_until(test).await;
}

/// TLS takes bytes that the socket does not take yet.
#[tokio::test]
async fn bytes_that_tls_holds_are_sent_beside_the_response() {
    let place = Place::new().await;
    let test = async {
        let (connection, mut far) = place.connect().await;
        let mut exchange = place.begin(connection, request("POST", None));
        far.write_all([OK, LONG].concat().as_bytes()).await.unwrap();
        let answered = head(&mut exchange).await.unwrap();
        exchange.connection.is_unflushed = true;
        let mut response = exchange.into_response(&answered).send_rest();
        tokio::task::yield_now().await;
        assert!(poll_fn(|context| response.poll_frame(context)).await.unwrap().is_ok());
        assert!(response.end().is_some_and(|ended| ended.is_reusable));
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn a_response_that_ends_before_its_upload_resets_the_connection() {
    let place = Place::new().await;
    let test = async {
        let (sender, body) = mpsc::channel(1);
        let (connection, mut far) = place.connect().await;
        let mut exchange = place.begin(connection, request("POST", Some(Pieces(body))));
        far.write_all([OK, LONG].concat().as_bytes()).await.unwrap();
        let answered = head(&mut exchange).await.unwrap();
        let mut response = exchange.into_response(&answered).send_rest();
        let frame = poll_fn(|context| response.poll_frame(context)).await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "hello");
        assert!(response.end().is_none());
        let end = far.read_to_end(&mut Vec::new()).await.map_err(|error| error.kind());
        assert_eq!(end, Err(io::ErrorKind::ConnectionReset));
        drop(sender);
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn a_dropped_exchange_resets_its_connection() {
    let place = Place::new().await;
    let (connection, mut far) = place.connect().await;
    drop(place.begin(connection, request("GET", None)));
    assert_eq!(far.read(&mut [0]).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}
