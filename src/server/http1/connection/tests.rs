use http::Response;
use tokio::time::Instant;

use super::super::super::limits::Limits;
use super::super::held::{Asked, Held, Script, local};
use super::*;
use crate::server::received_request::ReceivedBody;

/// The paths of the requests, and their bodies.
#[derive(Default)]
struct Kept {
    paths: RefCell<Vec<String>>,
    bodies: RefCell<Vec<ReceivedBody>>,
}

/// Answers each request with its path, and keeps the bodies.
async fn with_kept(test: impl AsyncFnOnce(Held, Rc<Kept>)) {
    local(async {
        let kept = Rc::<Kept>::default();
        let keeper = Rc::clone(&kept);
        let answer = move |asked: Asked| {
            keeper.bodies.borrow_mut().extend(asked.body);
            keeper.paths.borrow_mut().push(asked.path.clone());
            async { Response::new(Script::whole(asked.path)) }
        };
        test(Held::begin(&Limits::default(), 64 * 1024, answer), kept).await;
    })
    .await;
}

async fn with(test: impl AsyncFnOnce(Held)) {
    with_kept(async |held, _| test(held).await).await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_has_no_buffers_between_requests() {
    let test = async |mut held: Held| {
        for path in ["/one", "/two"] {
            assert!(held.is_at_rest().await);
            assert!(held.get(path).await.ends_with(path));
            assert!(held.wire.borrow().has_buffers());
        }
        held.send("GET /three HTTP/1.1\r\nhost: a\r\n").await;
        assert!(!held.is_at_rest().await, "half a head");
        held.send("\r\n").await;
        assert!(held.answer().await.ends_with("/three"));
    };
    with(test).await;
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
    with(test).await;
}

#[tokio::test(start_paused = true)]
async fn the_rest_of_a_body_is_never_read_as_a_request() {
    let test = async |mut held: Held, kept: Rc<Kept>| {
        let body = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
        held.send(&format!("POST /one HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len())).await;
        assert!(held.answer().await.ends_with("/one"));
        assert!(!held.is_at_rest().await);
        held.send(body).await;
        assert!(!held.is_at_rest().await);
        drop(kept.bodies.take());
        sleep(Duration::from_secs(4)).await;
        assert_eq!(*kept.paths.borrow(), ["/one"]);
        assert_eq!(held.ended.get(), Some(ConnectionEnd::Closed));
    };
    with_kept(test).await;
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
    with(asks).await;
    let says_nothing = async |mut held: Held| {
        let began = Instant::now();
        held.watch.send_signal(GuardSignal::Drain);
        assert_eq!(held.answer().await, "");
        assert!(began.elapsed() < FIRST_REQUEST_GRACE * 2, "{:?}", began.elapsed());
    };
    with(says_nothing).await;
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
    with(arrives).await;
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
    with(in_pieces).await;
    let stays_silent = async |mut held: Held| {
        assert!(held.get("/one").await.ends_with("/one"));
        let began = Instant::now();
        held.watch.send_signal(GuardSignal::Drain);
        assert_eq!(held.answer().await, "");
        assert!(began.elapsed() < REQUEST_GRACE * 2, "{:?}", began.elapsed());
    };
    with(stays_silent).await;
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
    with(drained).await;
    let closed = async |mut held: Held| {
        held.get("/one").await;
        assert!(held.is_at_rest().await);
        held.client.shutdown().await.unwrap();
        assert_eq!(held.answer().await, "");
        assert_eq!(held.ended.get(), Some(ConnectionEnd::Closed));
    };
    with(closed).await;
    let idle = async |mut held: Held| {
        held.get("/one").await;
        assert_eq!(held.answer().await, "");
        assert_eq!(held.ended.get(), Some(ConnectionEnd::Overdue(TimeoutKind::Idle)));
    };
    with(idle).await;
    let silent = async |mut held: Held| {
        assert_eq!(held.answer().await, "");
        assert_eq!(held.ended.get(), Some(ConnectionEnd::Overdue(TimeoutKind::FirstRequest)));
    };
    with(silent).await;
    let half = async |mut held: Held| {
        held.get("/one").await;
        assert!(held.is_at_rest().await);
        held.send("GET /two").await;
        assert_eq!(held.answer().await, "");
        assert_eq!(held.ended.get(), Some(ConnectionEnd::Overdue(TimeoutKind::Head)));
    };
    with(half).await;
}
