//! WebSocket through the gateway, with a real peer at either end: over HTTP/1.1 (RFC 6455) and over HTTP/2 (RFC 8441).

use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderValue, Request};
use http_body_util::Full;
use hyper::ext::Protocol;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::handshake::server;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_tungstenite::{WebSocketStream, accept_async, accept_hdr_async, client_async};

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use crate::support::client::{Connection, basic, request, with_body};
use crate::support::upstream::listen;
use crate::support::wire::{RawUpstream, Signal, within};
use crate::support::world::{SECRET, config};
use crate::support::{Client, Gateway};

/// A service that sends every message back, and remembers what it was asked with.
pub(crate) struct Echo {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<HeaderMap>>>,
}

impl Echo {
    pub(crate) async fn start() -> Self {
        let asked: Arc<Mutex<Vec<HeaderMap>>> = Arc::default();
        let log = Arc::clone(&asked);
        let address = listen(move |stream| {
            let log = Arc::clone(&log);
            async move {
                #[expect(clippy::result_large_err, reason = "the library wants it so")]
                let callback = |request: &server::Request, mut response: server::Response| {
                    log.lock().unwrap().push(request.headers().clone());
                    if request.headers().get("sec-websocket-protocol").is_some_and(|offer| offer == "chat, other") {
                        response.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("chat"));
                    }
                    Ok::<_, server::ErrorResponse>(response)
                };
                let Ok(mut socket) = accept_hdr_async(stream, callback).await else { return };
                while let Some(Ok(message)) = socket.next().await {
                    if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
                        break;
                    }
                }
            }
        })
        .await;
        Self { address, asked }
    }

    pub(crate) fn asked(&self) -> HeaderMap {
        self.asked.lock().unwrap().last().unwrap().clone()
    }
}

/// A client's handshake; change it as you like.
pub(crate) fn handshake(path: &str) -> Request<()> {
    Request::get(format!("wss://localhost{path}"))
        .header("host", "localhost")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .body(())
        .unwrap()
}

/// A WebSocket over HTTP/2, on a connection that knows it may ask for one.
async fn over_http2(
    client: &Client,
    path: &str,
    fields: &[(&'static str, &str)],
) -> WebSocketStream<TokioIo<Upgraded>> {
    let mut connection = client.connect().await;
    // By the time that this is answered the gateway's settings have come.
    connection.send(request("GET", "/no/such")).await;
    let Connection::Http2(mut sender) = connection else { panic!("not HTTP/2") };
    let mut asked = extended_connect(path);
    for (name, value) in fields {
        asked.headers_mut().insert(*name, HeaderValue::try_from(*value).unwrap());
    }
    let mut response = within(sender.send_request(asked)).await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(!response.headers().contains_key("sec-websocket-accept"), "{response:?}");
    let stream = within(hyper::upgrade::on(&mut response)).await.unwrap();
    WebSocketStream::from_raw_socket(TokioIo::new(stream), Role::Client, None).await
}

fn extended_connect(path: &str) -> Request<Full<Bytes>> {
    let mut asked = Request::connect(format!("https://localhost{path}")).body(Full::default()).unwrap();
    asked.extensions_mut().insert(Protocol::from_static("websocket"));
    asked.headers_mut().insert("sec-websocket-version", HeaderValue::from_static("13"));
    asked
}

/// A message of this size that looks like no other.
fn message(number: usize, size: usize) -> Message {
    match number % 2 {
        0 => Message::binary(vec![u8::try_from(number % 251).unwrap(); size]),
        _ => Message::text(char::from(b'a' + u8::try_from(number % 26).unwrap()).to_string().repeat(size)),
    }
}

/// Sends a thousand messages while their echoes come back, then a message in fragments, then says goodbye.
async fn converses<T: AsyncRead + AsyncWrite + Unpin>(socket: WebSocketStream<T>) {
    const SIZES: [usize; 9] = [0, 1, 125, 126, 4096, 16 * 1024, 16 * 1024 + 1, 65_535, 65_536];
    let size = |number: usize| if number == 500 { 1 << 20 } else { SIZES[number % SIZES.len()] };
    let (mut sink, mut stream) = socket.split();
    let says = async {
        for number in 0..1000 {
            sink.send(message(number, size(number))).await.unwrap();
        }
        let pieces = [
            (OpCode::Data(Data::Text), "one "),
            (OpCode::Data(Data::Continue), "two "),
            (OpCode::Data(Data::Continue), "three"),
        ];
        for (index, (opcode, text)) in pieces.into_iter().enumerate() {
            let header =
                FrameHeader { is_final: index == 2, opcode, mask: Some([1, 2, 3, 4]), ..FrameHeader::default() };
            sink.send(Message::Frame(Frame::from_payload(header, Bytes::from(text)))).await.unwrap();
            sink.send(Message::Ping(Bytes::from_static(b"between"))).await.unwrap();
        }
    };
    let hears = async {
        let mut next = async || loop {
            match stream.next().await.unwrap().unwrap() {
                Message::Ping(_) | Message::Pong(_) => {}
                message => return message,
            }
        };
        for number in 0..1000 {
            assert!(next().await == message(number, size(number)), "message {number} has changed");
        }
        assert_eq!(next().await, Message::text("one two three"));
    };
    within(async { tokio::join!(says, hears) }).await;
    let goodbye = CloseFrame { code: 1000.into(), reason: "enough".into() };
    sink.send(Message::Close(Some(goodbye.clone()))).await.unwrap();
    let mut answer = Message::Pong(Bytes::new());
    while answer.is_pong() {
        answer = within(stream.next()).await.unwrap().unwrap();
    }
    assert_eq!(answer, Message::Close(Some(goodbye)));
    assert!(within(stream.next()).await.is_none());
}

const PROTECTED: &str = "path: /chat, access: {scopes: [read:data]}, websocket: true, name: chat";

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_thousand_messages_of_all_sizes_come_back_as_they_were() {
    let echo = Echo::start().await;
    let gateway = Gateway::before(echo.address, &[PROTECTED]);
    let token = Client::new(&gateway).granted("app", SECRET, "scope=read:data").await;
    let mut asked = handshake("/chat?room=1");
    asked.headers_mut().insert("authorization", HeaderValue::try_from(format!("Bearer {token}")).unwrap());
    asked.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("chat, other"));
    let (socket, answer) =
        Box::pin(within(client_async(asked, Client::new(&gateway).tls().await.unwrap()))).await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["sec-websocket-protocol"]),
        (101, &"chat".parse().unwrap())
    );
    let seen = echo.asked();
    assert_eq!(
        (&seen["x-auth-client-id"], &seen["x-forwarded-proto"]),
        (&"app".parse().unwrap(), &"https".parse().unwrap())
    );
    assert!(!seen.contains_key("authorization"), "{seen:?}");
    // At the opening, not at the end.
    let line = gateway.audit_of(answer.headers()["x-request-id"].to_str().unwrap());
    assert_eq!((&line["gateway.decision"], &line["http.response.status_code"]), (&"allow".into(), &101.into()));
    assert_eq!((&line["oauth.client_id"], &line["http.request.method"]), (&"app".into(), &"GET".into()));
    Box::pin(converses(socket)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_thousand_websocket_messages_come_back_over_http2() {
    let echo = Echo::start().await;
    let gateway = Gateway::before(echo.address, &[PROTECTED]);
    let token = Client::new(&gateway).granted("app", SECRET, "scope=read:data").await;
    let bearer = format!("Bearer {token}");
    let socket = over_http2(&Client::http2(&gateway), "/chat", &[("authorization", &bearer)]).await;
    let seen = echo.asked();
    assert_eq!((&seen["x-auth-client-id"], &seen["via"]), (&"app".parse().unwrap(), &"2 portcullis".parse().unwrap()));
    let line = gateway.audit_line(|line| line["http.route"] == "chat");
    assert_eq!((&line["gateway.decision"], &line["http.response.status_code"]), (&"allow".into(), &200.into()));
    Box::pin(converses(socket)).await;
}

/// A request that is refused as a GET is refused as a WebSocket, with the same text, over both protocols.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_websocket_takes_the_same_way_as_any_request() {
    let echo = Echo::start().await;
    let limited = "path: /limited, access: public, websocket: true, rate_limits: [{rate: 1/h, per: address}]";
    let closed = "path: /closed, access: public";
    let gateway = Gateway::before(echo.address, &[PROTECTED, limited, closed]);
    let poor = Client::new(&gateway).granted("app", SECRET, "scope=write:data").await;
    let poor = format!("Bearer {poor}");
    Client::new(&gateway).get("/limited").await;
    let mut http2 = Client::http2(&gateway).connect().await;
    for (path, token, status, over_http2) in [
        ("/chat", "", 401, 401),
        ("/chat", "Bearer x.y.z", 401, 401),
        ("/chat", &poor[..], 403, 403),
        ("/limited", "", 429, 429),
        ("/nowhere", "", 404, 404),
        ("/a/../chat", "", 400, 400),
        // Answered by the service, which knows nothing of an upgrade there; CONNECT is not for routes that have not
        // opted in.
        ("/closed", "", 502, 405),
    ] {
        let mut asked = handshake(path);
        let mut extended = extended_connect(path);
        for headers in [asked.headers_mut(), extended.headers_mut()] {
            if !token.is_empty() {
                headers.insert("authorization", HeaderValue::try_from(token).unwrap());
            }
        }
        let refused = Box::pin(client_async(asked, Client::new(&gateway).tls().await.unwrap())).await.unwrap_err();
        let tokio_tungstenite::tungstenite::Error::Http(answer) = refused else { panic!("{refused:?}") };
        assert_eq!((path, answer.status().as_u16()), (path, status));
        assert_eq!((path, http2.send(extended).await.status), (path, over_http2));
    }
}

/// A stream ends when its tunnel does, and takes nothing else with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn over_http2_a_tunnel_ends_as_over_http1_and_alone() {
    let echo = Echo::start().await;
    let open = "path: /chat, access: {}, websocket: true";
    let limits = "limits: {tunnel_idle_timeout: 3s, idle_timeout: 200ms, connection_age: 300ms, tunnels: 2, tunnels_per_address: 2}";
    let gateway = Gateway::start(&config(echo.address, &[open], limits));
    let client = Client::http2(&gateway);
    let [token, other] = [client.granted("app", SECRET, "").await, client.granted("app", SECRET, "").await];
    let bearers = [format!("Bearer {token}"), format!("Bearer {other}")];
    let mut first = over_http2(&client, "/chat", &[("authorization", &bearers[0])]).await;
    let mut second = over_http2(&client, "/chat", &[("authorization", &bearers[1])]).await;
    let mut full = client.connect().await;
    full.send(request("GET", "/no/such")).await;
    let mut asked = extended_connect("/chat");
    asked.headers_mut().insert("authorization", HeaderValue::try_from(&bearers[0]).unwrap());
    assert_eq!(full.send(asked).await.status, 503);
    let mut revocation = request("POST", "/oauth/revoke");
    revocation.headers_mut().insert("authorization", basic("app", SECRET));
    revocation.headers_mut().insert("content-type", HeaderValue::from_static("application/x-www-form-urlencoded"));
    assert_eq!(client.send(with_body(revocation, format!("token={token}"))).await.status, 200);
    let ended = within(first.next()).await;
    assert!(!matches!(ended, Some(Ok(_))), "{ended:?}");
    // Past the limits of the connection, which leave it alone while there is a tunnel: others reach them meanwhile.
    for _ in 0..3 {
        let mut other = client.connect().await;
        other.send(request("GET", "/no/such")).await;
        within(other.closed()).await;
        second.send(Message::text("still here")).await.unwrap();
        assert_eq!(within(second.next()).await.unwrap().unwrap(), Message::text("still here"));
    }
    assert!(!matches!(within(second.next()).await, Some(Ok(_))), "idle");
}

/// A client that takes nothing holds up its stream alone, and not for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn over_http2_a_stream_that_takes_nothing_is_left() {
    let ended = Signal::default();
    let told = ended.clone();
    let upstream = listen(move |stream| {
        let told = told.clone();
        async move {
            let Ok(mut socket) = accept_async(stream).await else {
                return;
            };
            while socket.send(Message::binary(vec![0; 64 * 1024])).await.is_ok() {}
            told.give();
        }
    })
    .await;
    let open = "path: /chat, access: public, websocket: true";
    let gateway = Gateway::start(&config(upstream, &[open], "limits: {write_stall_timeout: 500ms}"));
    let _deaf = over_http2(&Client::http2(&gateway), "/chat", &[]).await;
    ended.wait().await;
}

/// To a CONNECT any success is a yes: an upstream that has not switched must not seem to have.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn over_http2_a_success_that_is_no_switch_is_no_yes() {
    for (answer, status) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 502),
        ("HTTP/1.1 204 No Content\r\n\r\n", 502),
        ("HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 2\r\n\r\nok", 302),
        ("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", 403),
    ] {
        let upstream = RawUpstream::saying_and_staying(answer).await;
        let gateway = Gateway::before(upstream.address, &["path: /chat, access: public, websocket: true"]);
        let mut http2 = Client::http2(&gateway).connect().await;
        http2.send(request("GET", "/no/such")).await;
        assert_eq!(http2.send(extended_connect("/chat")).await.status, status, "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn connect_is_for_websockets_alone() {
    let echo = Echo::start().await;
    let gateway = Gateway::start(&config(echo.address, &["path: /chat, access: public, websocket: true"], ""));
    let mut http2 = Client::http2(&gateway).connect().await;
    http2.send(request("GET", "/no/such")).await;
    let mut other = extended_connect("/chat");
    other.extensions_mut().insert(Protocol::from_static("connect-udp"));
    assert_eq!(http2.send(other).await.status, 405);
    let mut versionless = extended_connect("/chat");
    versionless.headers_mut().remove("sec-websocket-version");
    let answer = http2.send(versionless).await;
    assert_eq!((answer.status, answer.header("sec-websocket-version")), (400, "13"));
    // The connection is none the worse for it.
    assert_eq!(http2.send(request("GET", "/no/such")).await.status, 404);
}
