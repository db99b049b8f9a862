use std::cell::{Cell, RefCell};
use std::io;

use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use tokio::io::{AsyncReadExt as _, DuplexStream, ReadBuf, duplex};
use tokio::task::LocalSet;
use tokio::time::sleep;

use super::super::guard::Guard;
use super::super::limits::Limits;
use super::super::protocols::Protocols;
use super::super::tls::HttpVersion;
use super::*;

/// The gateway's end of a connection. Reports the size of the buffer of the last read.
struct Roomy(DuplexStream, Rc<Cell<usize>>);

impl AsyncRead for Roomy {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.1.set(buffer.remaining());
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Roomy {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

/// A connection over HTTP/1.1 that answers each request with its path, and keeps the bodies.
struct Held {
    client: DuplexStream,
    wait_for_room: Rc<Cell<usize>>,
    received: Rc<RefCell<Vec<String>>>,
    bodies: Rc<RefCell<Vec<Incoming>>>,
    watch: Rc<Watch>,
    ended: Rc<Cell<Option<ConnectionEnd>>>,
}

impl Held {
    fn begin(limits: &Limits) -> Self {
        let guard = Guard::new(limits);
        let (client, server) = duplex(64 * 1024);
        let (wait_for_room, ended) = (Rc::default(), Rc::default());
        let (received, bodies) = (Rc::<RefCell<Vec<String>>>::default(), Rc::<RefCell<Vec<Incoming>>>::default());
        let watch = guard.watch(false);
        tokio::task::spawn_local(guard.run_timeouts());
        let service = {
            let (received, bodies, watch) = (Rc::clone(&received), Rc::clone(&bodies), Rc::clone(&watch));
            service_fn(move |request: Request<Incoming>| {
                let path = request.uri().path().to_owned();
                received.borrow_mut().push(path.clone());
                bodies.borrow_mut().push(request.into_body());
                drop(ExchangeGuard::begin(&watch));
                let mut answer = Response::new(Full::<Bytes>::from(path));
                watch.announce_close(&mut answer);
                async { Ok(answer) }
            })
        };
        let stream = Roomy(server, Rc::clone(&wait_for_room));
        let driven = Protocols::new(limits, false).serve(stream, HttpVersion::Http1, Rc::clone(&watch), service);
        let end: Rc<Cell<Option<ConnectionEnd>>> = Rc::clone(&ended);
        tokio::task::spawn_local(async move { end.set(Some(driven.await)) });
        Self { client, wait_for_room, received, bodies, watch, ended }
    }

    async fn send(&mut self, bytes: &str) {
        self.client.write_all(bytes.as_bytes()).await.unwrap();
        sleep(Duration::from_millis(1)).await;
    }

    async fn get(&mut self, path: &str) -> String {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        self.answer().await
    }

    async fn answer(&mut self) -> String {
        let mut answer = [0; 1024];
        let count = self.client.read(&mut answer).await.unwrap();
        str::from_utf8(&answer[..count]).unwrap().to_owned()
    }

    async fn is_at_rest(&self) -> bool {
        sleep(Duration::from_secs(4)).await;
        self.wait_for_room.get() == 1
    }
}

async fn with(test: impl AsyncFnOnce(Held), limits: Limits) {
    LocalSet::new().run_until(async { test(Held::begin(&limits)).await }).await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_has_no_buffers_between_requests() {
    let test = async |mut held: Held| {
        for path in ["/one", "/two"] {
            assert!(held.is_at_rest().await);
            assert!(held.get(path).await.ends_with(path));
            assert!(held.wait_for_room.get() > 1);
        }
        held.send("GET /three HTTP/1.1\r\nhost: a\r\n").await;
        assert!(!held.is_at_rest().await, "half a head");
        held.send("\r\n").await;
        assert!(held.answer().await.ends_with("/three"));
    };
    with(test, Limits::default()).await;
}

#[tokio::test(start_paused = true)]
async fn bytes_that_came_with_the_previous_request_are_not_lost() {
    let test = async |mut held: Held| {
        held.send("GET /one HTTP/1.1\r\nhost: a\r\n\r\nGET /tw").await;
        assert!(held.answer().await.ends_with("/one"));
        sleep(Duration::from_secs(4)).await;
        held.send("o HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(held.answer().await.ends_with("/two"));
    };
    with(test, Limits::default()).await;
}

#[tokio::test(start_paused = true)]
async fn the_rest_of_a_body_is_never_read_as_a_request() {
    let test = async |mut held: Held| {
        let body = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
        held.send(&format!("POST /one HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len())).await;
        assert!(held.answer().await.ends_with("/one"));
        assert!(!held.is_at_rest().await);
        held.send(body).await;
        assert!(!held.is_at_rest().await);
        drop(held.bodies.take());
        sleep(Duration::from_secs(4)).await;
        assert_eq!(*held.received.borrow(), ["/one"]);
    };
    with(test, Limits::default()).await;
}

#[tokio::test(start_paused = true)]
async fn the_drain_leaves_a_moment_for_the_first_request_and_not_more() {
    let asks = async |mut held: Held| {
        assert!(held.is_at_rest().await);
        held.watch.send_signal(GuardSignal::Drain);
        sleep(REQUEST_GRACE / 2).await;
        assert!(held.get("/one").await.ends_with("/one"));
        assert_eq!(held.answer().await, "");
    };
    with(asks, Limits::default()).await;
    let says_nothing = async |mut held: Held| {
        let began = tokio::time::Instant::now();
        held.watch.send_signal(GuardSignal::Drain);
        assert_eq!(held.answer().await, "");
        assert!(began.elapsed() < REQUEST_GRACE * 2, "{:?}", began.elapsed());
    };
    with(says_nothing, Limits::default()).await;
}

#[tokio::test(start_paused = true)]
async fn the_drain_answers_a_request_on_its_way() {
    let arrives = async |mut held: Held| {
        assert!(held.get("/one").await.ends_with("/one"));
        assert!(held.is_at_rest().await);
        held.watch.send_signal(GuardSignal::Drain);
        sleep(REQUEST_GRACE / 2).await;
        let answer = held.get("/two").await;
        assert!(answer.ends_with("/two") && answer.contains("\r\nconnection: close\r\n"), "{answer}");
        assert_eq!(held.answer().await, "");
    };
    with(arrives, Limits::default()).await;
    let in_pieces = async |mut held: Held| {
        assert!(held.get("/one").await.ends_with("/one"));
        held.send("GET /two HTTP/1.1\r\nhost: a\r\n").await;
        held.watch.send_signal(GuardSignal::Drain);
        sleep(REQUEST_GRACE / 2).await;
        held.send("\r\n").await;
        let answer = held.answer().await;
        assert!(answer.ends_with("/two") && answer.contains("\r\nconnection: close\r\n"), "{answer}");
        assert_eq!(held.answer().await, "");
    };
    with(in_pieces, Limits::default()).await;
    let stays_silent = async |mut held: Held| {
        assert!(held.get("/one").await.ends_with("/one"));
        let began = tokio::time::Instant::now();
        held.watch.send_signal(GuardSignal::Drain);
        assert_eq!(held.answer().await, "");
        assert!(began.elapsed() < REQUEST_GRACE * 2, "{:?}", began.elapsed());
    };
    with(stays_silent, Limits::default()).await;
}

#[tokio::test(start_paused = true)]
async fn at_rest_too_a_connection_ends_when_it_should() {
    let drained = async |mut held: Held| {
        held.get("/one").await;
        assert!(held.is_at_rest().await);
        held.watch.send_signal(GuardSignal::Drain);
        assert_eq!(held.answer().await, "");
        assert_eq!(held.ended.get(), Some(ConnectionEnd::Closed));
    };
    with(drained, Limits::default()).await;
    let closed = async |mut held: Held| {
        held.get("/one").await;
        assert!(held.is_at_rest().await);
        held.client.shutdown().await.unwrap();
        assert_eq!(held.answer().await, "");
        assert_eq!(held.ended.get(), Some(ConnectionEnd::Closed));
    };
    with(closed, Limits::default()).await;
    let idle = async |mut held: Held| {
        held.get("/one").await;
        assert_eq!(held.answer().await, "");
        assert_eq!(held.ended.get(), Some(ConnectionEnd::Overdue(TimeoutKind::Idle)));
    };
    with(idle, Limits::default()).await;
    let silent = async |mut held: Held| {
        assert_eq!(held.answer().await, "");
        assert_eq!(held.ended.get(), Some(ConnectionEnd::Overdue(TimeoutKind::FirstRequest)));
    };
    with(silent, Limits::default()).await;
    let half = async |mut held: Held| {
        held.get("/one").await;
        assert!(held.is_at_rest().await);
        held.send("GET /two").await;
        assert_eq!(held.answer().await, "");
        assert_eq!(held.ended.get(), Some(ConnectionEnd::Overdue(TimeoutKind::Head)));
    };
    with(half, Limits::default()).await;
}
