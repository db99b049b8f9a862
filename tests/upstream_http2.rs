//! Upstreams by HTTP/2: many requests on a connection, no more than the peer takes, and none that is lost or sent
//! twice.

pub(crate) mod by_hand;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::server::Builder;
use http::{Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::support::authority::{Authority, listen_by_tls};
use crate::support::client::{Connection, request, with_body};
use crate::support::upstream::listen;
use crate::support::wire::{Piped, RawUpstream, within};
use crate::support::world::config;
use crate::support::{Client, Gateway};

/// A request as the service received it.
#[derive(Clone, Default)]
pub(crate) struct Book {
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
    at_once: Arc<AtomicUsize>,
    most_at_once: Arc<AtomicUsize>,
}

impl Book {
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

/// Answers with what it read, as `METHOD URI` and the body's length; `/big` gives as many bytes as its query says.
pub(crate) async fn serve<T>(stream: T, streams: Option<u32>, book: Book)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    book.connections.fetch_add(1, Ordering::SeqCst);
    let mut builder = Builder::new();
    builder.initial_window_size(1 << 20).initial_connection_window_size(1 << 24);
    if let Some(streams) = streams {
        builder.max_concurrent_streams(streams);
    }
    let mut connection = builder.handshake(stream).await.unwrap();
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::task::spawn(answer(request, respond, book.clone()));
    }
}

async fn answer(request: Request<h2::RecvStream>, mut respond: h2::server::SendResponse<Bytes>, book: Book) {
    let now = book.at_once.fetch_add(1, Ordering::SeqCst) + 1;
    book.most_at_once.fetch_max(now, Ordering::SeqCst);
    book.requests.fetch_add(1, Ordering::SeqCst);
    let (head, mut body) = request.into_parts();
    let mut length = 0;
    while let Some(Ok(data)) = body.data().await {
        length += data.len();
        let _ = body.flow_control().release_capacity(data.len());
    }
    tokio::task::yield_now().await;
    let host = head.headers.get("host").map_or("none", |host| host.to_str().unwrap());
    let said = match head.uri.query() {
        Some(bytes) => vec![b'x'; bytes.parse().unwrap()],
        None => format!("{} {} {host} {length}", head.method, head.uri).into_bytes(),
    };
    book.at_once.fetch_sub(1, Ordering::SeqCst);
    if head.method == "HEAD" {
        let _ = respond.send_response(Response::new(()), true);
        return;
    }
    let mut stream = respond.send_response(Response::new(()), false).unwrap();
    let _ = stream.send_data(said.into(), true);
}

/// In clear text, by prior knowledge.
async fn service(streams: Option<u32>) -> (SocketAddr, Book) {
    let book = Book::default();
    let log = book.clone();
    (listen(move |stream| serve(stream, streams, log.clone())).await, book)
}

fn yaml(upstream: &str) -> String {
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
    config(nowhere, &["path: /**, access: public, name: all"], &format!("upstreams: {{legacy: {upstream}}}"))
}

fn before(address: SocketAddr) -> Gateway {
    Gateway::start(&yaml(&format!("{{servers: [\"http://{address}\"], protocol: http2}}")))
}

/// So many requests at once, over one connection of a client.
async fn at_once(gateway: &Gateway, count: usize) -> Vec<u16> {
    let Connection::Http2(sender) = Client::http2(gateway).connect().await else { panic!("HTTP/2 was not agreed") };
    let requests = (0..count).map(|number| {
        let mut connection = Connection::Http2(sender.clone());
        let request = request("GET", &format!("/{number}"));
        tokio::task::spawn(async move { within(connection.send(request)).await.status })
    });
    let mut statuses = Vec::new();
    for request in requests.collect::<Vec<_>>() {
        statuses.push(request.await.unwrap());
    }
    statuses
}

#[tokio::test]
async fn requests_share_one_connection_in_clear_text() {
    let (address, book) = service(None).await;
    let gateway = before(address);
    for client in gateway.both() {
        let said = client.get("/x").await;
        assert_eq!(said.status, 200);
        let said = client.send(with_body(request("PUT", "/a%20b/c"), vec![0; 1 << 20])).await;
        assert_eq!(said.body, format!("PUT http://{address}/a%20b/c none 1048576"));
        assert_eq!(client.get("/big?1048576").await.body.len(), 1 << 20);
        assert_eq!(client.send(request("HEAD", "/x")).await.status, 200);
    }
    assert_eq!(at_once(&gateway, 50).await, [200; 50]);
    assert_eq!(book.connections(), 1);
}

#[tokio::test]
async fn a_body_of_unknown_length_is_streamed() {
    let (address, _) = service(None).await;
    let gateway = before(address);
    for client in gateway.both() {
        let (sender, body) = Piped::new();
        let mut connection = client.connect_for().await.unwrap();
        let sending = tokio::task::spawn(async move {
            for _ in 0..100 {
                sender.send(Bytes::from(vec![0; 1000])).await.unwrap();
            }
        });
        let answer = within(connection.send(request("POST", "/x").map(|_| body))).await;
        assert_eq!(answer.body, format!("POST http://{address}/x none 100000"));
        sending.await.unwrap();
    }
}

#[tokio::test]
async fn a_peer_that_takes_one_stream_at_a_time_answers_all_the_same() {
    let (address, book) = service(Some(1)).await;
    let gateway = before(address);
    assert_eq!(at_once(&gateway, 50).await, [200; 50]);
    assert_eq!(book.requests(), 50, "none was refused and sent again");
    assert!(
        book.most_at_once.load(Ordering::SeqCst) <= 8 && book.connections() <= 8,
        "a few connections, each of one stream"
    );
}

#[tokio::test]
async fn http2_by_tls_is_agreed_by_alpn() {
    let authority = Authority::new();
    let issued = authority.issue(&["localhost"]);
    let book = Book::default();
    let log = book.clone();
    let address = listen_by_tls(issued.config(&[b"h2"], None), move |stream| serve(stream, None, log.clone())).await;
    let folder = crate::support::gateway::folder();
    std::fs::write(folder.join("ca.crt"), &authority.certificate).unwrap();
    let upstream =
        format!("{{servers: [\"https://localhost:{}\"], protocol: http2, tls: {{ca: ca.crt}}}}", address.port());
    let gateway = Gateway::start_in(folder, &yaml(&upstream), &[]);
    for client in gateway.both() {
        assert_eq!(client.get("/x").await.body, format!("GET https://localhost:{}/x none 0", address.port()));
        assert_eq!(client.get("/big?1048576").await.body.len(), 1 << 20);
    }
    assert_eq!(book.connections(), 1);
}

#[tokio::test]
async fn a_server_that_does_not_agree_to_http2_is_out_of_reach() {
    let authority = Authority::new();
    let issued = authority.issue(&["localhost"]);
    let address = listen_by_tls(issued.config(&[], None), |stream| serve(stream, None, Book::default())).await;
    let folder = crate::support::gateway::folder();
    std::fs::write(folder.join("ca.crt"), &authority.certificate).unwrap();
    let upstream =
        format!("{{servers: [\"https://localhost:{}\"], protocol: http2, tls: {{ca: ca.crt}}}}", address.port());
    let gateway = Gateway::start_in(folder, &yaml(&upstream), &[]);
    assert_eq!(Client::new(&gateway).get("/x").await.status, 502);
    gateway.log_line("did not choose `h2` by ALPN");
}

#[tokio::test]
async fn a_server_that_speaks_http1_is_found_out_at_once() {
    let upstream = RawUpstream::saying("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
    let gateway = before(upstream.address);
    let answer = Client::new(&gateway).get("/x").await;
    assert_eq!(answer.status, 502);
    assert_eq!(gateway.audit_of(answer.request_id())["gateway.reason"], "upstream_connect");
    gateway.log_line("the server does not speak HTTP/2");
}
