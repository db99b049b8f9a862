//! Clients that send far more than they ask for, or ask for far more than they take: their connection ends, memory
//! stays where it was, and others are served all the while.

use std::pin::pin;

use super::{ANSWER, CANCEL};
use crate::support::client::request;
use crate::support::frames::*;
use crate::support::wire::{RawUpstream, Talk, Wire, within};
use crate::support::{Client, Gateway};
use tokio::net::TcpStream;

/// The frames that come as the so-manieth, or on this stream.
type Numbered = fn(u32) -> Vec<u8>;

/// The largest window.
const MOST: u32 = (1 << 31) - 1;
const MEBIBYTE: u64 = 1024 * 1024;
/// No flood costs more memory than this,
const MOST_GROWTH: u64 = 64 * MEBIBYTE;
/// nor more than so many times its own length;
const GROWTH_PER_BYTE: u64 = 10;
/// but a process that does what it is asked grows by so much: a request that is let in costs more than its bytes.
const ANY_GROWTH: u64 = 8 * MEBIBYTE;

/// Answers `/canary`, and leaves other requests to `talk`.
async fn upstream(talk: impl Fn(Wire<TcpStream>) -> Talk + Send + Sync + 'static) -> RawUpstream {
    RawUpstream::start(move |mut wire, head| {
        if !head.contains(" /canary ") {
            return talk(wire);
        }
        Box::pin(async move {
            let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", ANSWER.len());
            wire.send(head + ANSWER).await;
        })
    })
    .await
}

/// Takes requests and never answers.
async fn silent() -> RawUpstream {
    upstream(|mut wire| {
        Box::pin(async move {
            wire.rest().await;
        })
    })
    .await
}

/// Answers at once.
async fn quick() -> RawUpstream {
    upstream(|mut wire| {
        Box::pin(async move { wire.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok").await })
    })
    .await
}

/// The result of `attack`, while an honest client is answered again and again.
async fn while_others_are_served<T>(gateway: &Gateway, attack: impl Future<Output = T>) -> T {
    let mut attack = pin!(within(attack));
    let honest = Client::http2(gateway);
    let mut connection = honest.connect().await;
    let result = loop {
        tokio::select! {
            biased;
            result = &mut attack => break result,
            answer = connection.send(request("GET", "/canary")) => assert_eq!(answer.body, ANSWER),
        }
    };
    for client in gateway.both() {
        assert_eq!(client.get("/canary").await.body, ANSWER);
    }
    assert!(!gateway.log_text().contains("panicked"), "{}", gateway.log_text());
    result
}

/// The connection ends under the flood, and little was kept of it.
async fn floods(what: &str, gateway: &Gateway, opening: &[u8], pieces: impl Iterator<Item = Vec<u8>>) -> Flooded {
    let before = usual_peak(gateway).await;
    let attack = async {
        let mut client = Framed::open(gateway).await;
        client.say(opening).await;
        client.flood(pieces).await
    };
    let flooded = while_others_are_served(gateway, attack).await;
    assert!(flooded.ended, "{what}: {flooded:?}");
    is_bounded(what, gateway, before, flooded.said);
    flooded
}

/// The most memory that as many requests at once have taken as one client may have.
async fn usual_peak(gateway: &Gateway) -> u64 {
    let mut client = Framed::open(gateway).await;
    client.say(&(0..100).flat_map(whole).collect::<Vec<u8>>()).await;
    client.say(&ping(0, &[0; 8])).await;
    client.until(super::is_pong).await.unwrap();
    assert_eq!(Client::http2(gateway).get("/canary").await.body, ANSWER);
    gateway.peak_memory()
}

fn is_bounded(what: &str, gateway: &Gateway, before: u64, said: usize) {
    // The kernel keeps the peak to within a few pages.
    let growth = gateway.peak_memory().saturating_sub(before);
    let most = (said as u64 * GROWTH_PER_BYTE).clamp(ANY_GROWTH, MOST_GROWTH);
    assert!(growth <= most, "{what}: {growth} bytes of growth for {said} bytes");
}

/// So many frames in pieces of a few kilobytes.
fn many(count: usize, frame: impl Fn(u32) -> Vec<u8>) -> impl Iterator<Item = Vec<u8>> {
    let frame = std::rc::Rc::new(frame);
    (0..count.div_ceil(100))
        .map(move |piece| (0..100).flat_map(|number| frame(u32::try_from(piece * 100 + number).unwrap())).collect())
}

fn stream(number: u32) -> u32 {
    2 * number + 1
}

fn whole(number: u32) -> Vec<u8> {
    headers(stream(number), WHOLE, &head("GET", &[]))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn frames_that_ask_for_nothing_end_the_connection() {
    let upstream = silent().await;
    let gateway = Gateway::open(upstream.address, "");
    let open = headers(1, OPEN, &head("POST", &[]));
    let none = || Vec::new();
    let kinds: [(&str, Vec<u8>, Numbered); 11] = [
        ("PING", none(), |_| ping(0, &[0; 8])),
        ("answers to PING", none(), |_| ping(ACK, &[0; 8])),
        ("SETTINGS", none(), |_| settings(&[])),
        ("SETTINGS that say much", none(), |number| settings(&[(4, number), (1, 4096 * (number % 2))])),
        ("PRIORITY", none(), |number| priority(stream(number), 0, 1)),
        ("WINDOW_UPDATE", open.clone(), |_| window_update(1, 1)),
        ("WINDOW_UPDATE on the connection", none(), |_| window_update(0, 1)),
        ("frames that nobody knows", none(), |_| frame(99, 0, 0, &[0; 8])),
        ("empty DATA", open.clone(), |_| data(1, 0, b"")),
        ("DATA that is all padding", open.clone(), |_| data(1, PADDED, b"\x01\0")),
        ("empty DATA on a stream that is gone", [open, rst_stream(1, CANCEL)].concat(), |_| data(1, 0, b"")),
    ];
    for (what, opening, frame) in kinds {
        let flooded = floods(what, &gateway, &opening, many(200_000, frame)).await;
        assert!(flooded.said < 4 * 1024 * 1024, "{what}: {flooded:?}");
    }
    gateway.audit_line(|line| line["gateway.reason"] == "rate_limited" && line.get("url.path").is_none());
    assert!(gateway.log_text().lines().count() < 10, "{}", gateway.log_text());
}

/// Both in one breath and one by one, so that each is taken on before it is cancelled.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn requests_that_are_cancelled_at_once_end_the_connection() {
    let upstream = silent().await;
    let gateway = Gateway::open(upstream.address, "");
    let cancelled = |number| [whole(number), rst_stream(stream(number), CANCEL)].concat();
    floods("rapid reset", &gateway, b"", many(10_000, cancelled)).await;
    floods("rapid reset, one by one", &gateway, b"", (0..10_000).map(cancelled)).await;
    let honest = |head: &String| head.contains(" /canary ");
    let reached = upstream.heads().iter().filter(|head| !honest(head)).count();
    assert!(reached <= 2 * 100 + 2 * 200, "{reached} of 20,000");
}

/// The client breaks a rule of each stream, so that it is the gateway that resets it.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn provoked_resets_end_the_connection() {
    let upstream = silent().await;
    let gateway = Gateway::open(upstream.address, "");
    let rules: [(&str, Numbered); 5] = [
        ("WINDOW_UPDATE by nothing", |id| window_update(id, 0)),
        ("a window that overflows", |id| window_update(id, MOST)),
        ("DATA behind the end", |id| data(id, 0, b"x")),
        ("PRIORITY on itself", |id| priority(id, id, 1)),
        ("HEADERS behind the end", |id| headers(id, OPEN, &block(&[("x", "y")]))),
    ];
    for (what, broken) in rules {
        let made = |number| [whole(number), broken(stream(number))].concat();
        floods(what, &gateway, b"", (0..5_000).map(made)).await;
    }
    let reached = upstream.heads().iter().filter(|head| !head.contains(" /canary ")).count();
    assert!(reached <= 5 * (100 + 300), "{reached} of 25,000");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_header_block_without_end_ends_the_connection() {
    let upstream = silent().await;
    let gateway = Gateway::open(upstream.address, "");
    let begun = headers(1, END_STREAM, &head("GET", &[]));
    let full = block(&[("x".repeat(100), "y".repeat(16_000))]);
    let pieces = (0..6_250).map(|_| continuation(1, 0, &full));
    floods("CONTINUATION, 100 MB", &gateway, &begun, pieces).await;
    floods("empty CONTINUATION", &gateway, &begun, many(1_000_000, |_| continuation(1, 0, b""))).await;
    // One field whose value is to have four megabytes.
    let endless = [&[0, 1, b'x', 0x7f][..], b"\x81\xff\xff\x01"].concat();
    let pieces = (0..6_250).map(|_| continuation(1, 0, &[b'y'; 16_000]));
    floods("one endless field", &gateway, &headers(1, END_STREAM, &endless), pieces).await;
}

/// One byte stands for a field of 4,000, and it comes 16,000 times in each request.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn fields_that_unpack_to_far_more_than_their_bytes_are_not_kept() {
    let upstream = silent().await;
    let gateway = Gateway::open(upstream.address, "");
    let mut planted = head("GET", &[]);
    planted.extend(b"\x40\x01x");
    string(&mut planted, &[b'y'; 3_900]);
    let opening = headers(1, WHOLE, &planted);
    let bomb = |number: u32| {
        let block = [&head("GET", &[])[..], &[0x80 | 62; 16_000]].concat();
        headers(stream(number + 1), WHOLE, &block)
    };
    floods("HPACK bomb", &gateway, &opening, (0..500).map(bomb)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn cookies_in_thousands_of_crumbs_are_refused_and_not_kept() {
    let upstream = quick().await;
    let gateway = Gateway::open(upstream.address, "");
    // The first crumb is kept in the table and is number 62 from then on.
    let crumbs = |number: u32, count: usize| {
        let first: &[u8] = if number == 0 { b"\x60\x03a=b" } else { b"\xbe" };
        headers(stream(number), WHOLE, &[&head("GET", &[])[..], first, &vec![0xbe; count]].concat())
    };
    for (count, status) in [(90, 200), (200, 431), (600, 431)] {
        let mut client = Framed::open(&gateway).await;
        client.say(&crumbs(0, count)).await;
        let answer = client.until(|frame| frame.kind == HEADERS).await.unwrap();
        assert_eq!(answer.status(), Some(status), "{count} crumbs");
    }
    floods("cookie crumbs", &gateway, b"", (0..2_000).map(|number| crumbs(number, 5_000))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_hundred_large_unread_answers_are_cut_off() {
    let upstream = upstream(|mut wire| {
        Box::pin(async move {
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").await;
            let more = vec![0; 64 * 1024];
            while tokio::io::AsyncWriteExt::write_all(&mut wire.stream, &more).await.is_ok() {}
        })
    })
    .await;
    let gateway = Gateway::open(upstream.address, "limits: {write_stall_timeout: 500ms}");
    let before = usual_peak(&gateway).await;
    for (window, drips) in [(0, false), (1, true)] {
        let attack = async {
            let mut client = Framed::open_with(&gateway, &[(4, window)]).await;
            client.say(&(0..100).flat_map(whole).collect::<Vec<u8>>()).await;
            let drops =
                (0..10_000).map(|number| if drips { window_update(stream(number % 100), 1) } else { Vec::new() });
            client.flood(drops).await
        };
        assert!(while_others_are_served(&gateway, attack).await.ended, "{window}");
        is_bounded("windows that stay shut", &gateway, before, usize::MAX / 100);
        // Each upstream connection ends with its request: one line for each.
        let cut = || gateway.audit_text().lines().filter(|line| line.contains("client_gone")).count();
        within(async {
            while cut() < 200 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_stream_too_many_is_refused_and_not_queued() {
    let upstream = silent().await;
    let gateway = Gateway::open(upstream.address, "");
    let mut client = Framed::open(&gateway).await;
    client.say(&(0..101).flat_map(whole).collect::<Vec<u8>>()).await;
    let refused = client.until(|frame| frame.kind == RST_STREAM).await.unwrap();
    assert_eq!((refused.stream, refused.code()), (201, Some(super::REFUSED_STREAM)));
    let reached = || upstream.heads().len();
    within(async {
        while reached() < 100 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    client.say(&rst_stream(1, CANCEL)).await;
    client.say(&ping(0, &[0; 8])).await;
    client.until(super::is_pong).await.unwrap();
    assert_eq!(reached(), 100);
    floods("streams too many", &gateway, b"", many(100_000, whole)).await;
}
