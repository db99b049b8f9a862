use std::cell::Cell;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::Full;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::LocalSet;

use super::super::connection_limiter::{ConnectionLimiter, ConnectionLimits};
use super::super::limits::Limits;
use super::*;
use crate::http1::target::RequestTarget;

/// The results of one connection over plain HTTP.
struct Served {
    /// The arguments of `begin_session`.
    begun: Option<(IpAddr, Option<ProxyHeader>)>,
    output: String,
    end: Option<ConnectionEnd>,
}

/// Serves a client that sends `input`. `per_address` is the limit on connections of one address.
async fn serve(proxy_protocol: bool, trusted: bool, per_address: usize, input: &str) -> Served {
    let limits = Limits::default();
    let connections = WorkerConnections::new(&limits, limits.share(1), false);
    let limiter = Arc::new(ConnectionLimiter::new(
        ConnectionLimits { per_address: Some(per_address), ..ConnectionLimits::default() },
        1,
    ));
    let _other = limiter.take(named(), 0).unwrap();
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, peer) = listener.accept().await.unwrap();
    let permit = limiter.take(peer.ip(), 0).unwrap();
    let accepted = Accepted { stream, peer, permit, handshake: connections.handshakes.begin() };
    let (begun, ended) = (Cell::new(None), Rc::<Cell<Option<ConnectionEnd>>>::default());
    let begin_session = |socket, header, _| {
        begun.set(Some((socket, header)));
        let ended = Rc::clone(&ended);
        let answer = async |_exchange: ExchangeGuard, received: Received| {
            let text = match received.map(|request| request.head.target) {
                Ok(RequestTarget::Origin(target)) => target.path().to_owned(),
                Ok(_) => panic!("another form"),
                Err(fault) => fault.name().to_owned(),
            };
            Response::new(Full::<Bytes>::from(text))
        };
        Session { answer, record_end: move |end| ended.set(Some(end)) }
    };
    let exchange = async {
        client.write_all(input.as_bytes()).await.unwrap();
        let mut output = String::new();
        // A connection that is closed with unread input is reset.
        let _ = client.read_to_string(&mut output).await;
        output
    };
    let transport = ListenerTransport { listener: ListenerId(0), tls: None, proxy_protocol };
    let served = serve_connection(connections, transport, accepted, |_| trusted, begin_session);
    let ((), output) = LocalSet::new().run_until(async { tokio::join!(served, exchange) }).await;
    Served { begun: begun.take(), output, end: ended.take() }
}

const REQUEST: &str = "GET /path HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
const HEADER: &str = "PROXY TCP4 203.0.113.9 10.0.0.1 65535 443\r\n";

/// The client that [`HEADER`] names. It has one connection already.
fn named() -> IpAddr {
    IpAddr::from([203, 0, 113, 9])
}

#[tokio::test]
async fn without_a_proxy_header_the_socket_is_the_client() {
    let served = serve(false, true, 2, REQUEST).await;
    assert_eq!(served.begun, Some((IpAddr::from([127, 0, 0, 1]), None)));
    assert!(served.output.ends_with("\r\n\r\n/path"), "{}", served.output);
    assert_eq!(served.end, Some(ConnectionEnd::Closed));
}

#[tokio::test]
async fn a_proxy_header_is_read_before_the_first_request() {
    let served = serve(true, true, 2, &format!("{HEADER}{REQUEST}")).await;
    assert_eq!(served.begun, Some((IpAddr::from([127, 0, 0, 1]), Some(ProxyHeader::Client(named())))));
    assert!(served.output.ends_with("\r\n\r\n/path"), "{}", served.output);
}

#[tokio::test]
async fn a_connection_closed_in_its_handshake_begins_no_session() {
    let with_header = format!("{HEADER}{REQUEST}");
    for (trusted, per_address, input) in [(false, 2, &*with_header), (true, 1, &*with_header), (true, 2, REQUEST)] {
        let served = serve(true, trusted, per_address, input).await;
        assert_eq!((served.begun, &*served.output, served.end), (None, "", None), "{trusted} {per_address} {input}");
    }
}

#[tokio::test]
async fn input_that_is_not_http_is_answered_by_the_session() {
    let served = serve(false, true, 2, "no HTTP\r\n\r\n").await;
    assert!(served.output.ends_with("\r\nconnection: close\r\n\r\nrequest_line"), "{}", served.output);
    assert_eq!(served.end, Some(ConnectionEnd::Closed));
}
