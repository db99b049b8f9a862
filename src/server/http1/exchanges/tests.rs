use http::header::{CONTENT_LENGTH, TRAILER};
use http::{HeaderMap, HeaderValue};
use http_body::Frame;
use http_body_util::BodyExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Notify;

use super::super::super::limits::Limits;
use super::super::held::{Asked, Held, Script, conversation, local};
use super::*;

/// Answers with the path, and with the body of the request behind it.
async fn echo(asked: Asked) -> Response<Script> {
    let body = match asked.body {
        Some(body) => body.collect().await.map_or_else(|_| "broken".into(), |body| body.to_bytes()),
        None => Bytes::new(),
    };
    Response::new(Script::whole([asked.path.as_bytes(), &body].concat()))
}

fn whole(path: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{path}{body}", path.len() + body.len())
}

fn last(path: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{path}", path.len())
}

const LAST: &str = "GET /last HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

fn requests() -> (String, String) {
    let asked = "GET /one HTTP/1.1\r\nhost: a\r\n\r\n\
        POST /two HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc\
        POST /three HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2;x=y\r\nde\r\n1\r\nf\r\n0\r\nt: u\r\n\r\n\
        HEAD /four HTTP/1.1\r\nhost: a\r\n\r\n";
    let answers = [
        whole("/one", ""),
        whole("/two", "abc"),
        whole("/three", "def"),
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n".to_owned(),
        last("/last"),
    ];
    (format!("{asked}{LAST}"), answers.concat())
}

/// As [`echo`], with the length alone for HEAD.
async fn echo_or_head(asked: Asked) -> Response<Script> {
    let is_head = asked.path == "/four";
    let mut response = echo(asked).await;
    if is_head {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("5"));
    }
    response
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_however_cut() {
    let (asked, answers) = requests();
    assert_eq!(conversation(64 * 1024, &[asked.as_bytes()], echo_or_head).await, answers);
    let bytes: Vec<&[u8]> = asked.as_bytes().chunks(1).collect();
    assert_eq!(conversation(64 * 1024, &bytes, echo_or_head).await, answers);
    for cut in 1..asked.len() {
        let (first, second) = asked.as_bytes().split_at(cut);
        assert_eq!(conversation(64 * 1024, &[first, second], echo_or_head).await, answers, "{cut}");
    }
}

#[tokio::test]
async fn answers_arrive_whole_however_little_each_write_takes() {
    let (asked, answers) = requests();
    for capacity in 1..40 {
        assert_eq!(conversation(capacity, &[asked.as_bytes()], echo_or_head).await, answers, "{capacity}");
    }
    let large = |_| async {
        let frames = vec![Frame::data(Bytes::from(vec![b'a'; 20_000])), Frame::data(Bytes::from_static(b"b"))];
        Response::new(Script { frames, ..Script::default() })
    };
    let only_large = |_| async { Response::new(Script { length: None, ..Script::whole(vec![b'a'; 20_000]) }) };
    let output = conversation(64 * 1024, &[LAST.as_bytes()], only_large).await;
    assert!(output.ends_with("a\r\n0\r\n\r\n"), "{} bytes", output.len());
    for capacity in [1, 7, 1000, 64 * 1024] {
        let output = conversation(capacity, &[LAST.as_bytes()], large).await;
        let body = format!("\r\n\r\n4e20\r\n{}\r\n1\r\nb\r\n0\r\n\r\n", "a".repeat(20_000));
        assert!(output.ends_with(&body), "{capacity}: {} bytes", output.len());
    }
}

/// The answer to a request line and its fields, without the fields of the answer that say when.
async fn answered(request: &str, answer: impl Fn() -> Response<Script> + 'static) -> String {
    let input = format!("{request}\r\nhost: a\r\n\r\n");
    let answer = move |_| std::future::ready(answer());
    conversation(1024, &[input.as_bytes(), b"x HTTP\r\n\r\n"], answer).await
}

/// The faulty request that ends each conversation.
const REFUSED: &str = "HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno";

#[tokio::test]
async fn the_end_of_an_answer_is_shown_by_its_length_or_by_chunks() {
    let streamed = || Response::new(Script::pieces(&["a", "bc"]));
    let to_http_1_1 = answered("GET / HTTP/1.1", streamed).await;
    assert_eq!(
        to_http_1_1,
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n{REFUSED}")
    );
    let to_http_1_0 = answered("GET / HTTP/1.0\r\nconnection: keep-alive", streamed).await;
    assert_eq!(to_http_1_0, "HTTP/1.0 200 OK\r\nconnection: close\r\n\r\nabc");
    let stated = || {
        let mut response = Response::new(Script::pieces(&["a", "bc"]));
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("3"));
        response
    };
    assert_eq!(
        answered("GET / HTTP/1.1", stated).await,
        format!("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc{REFUSED}")
    );
    let empty = answered("GET / HTTP/1.0\r\nconnection: keep-alive", || Response::new(Script::default())).await;
    assert!(
        empty.starts_with("HTTP/1.0 200 OK\r\ncontent-length: 0\r\nconnection: keep-alive\r\n\r\nHTTP/1.1 400 "),
        "{empty}"
    );
    let old = answered("GET / HTTP/1.0", || Response::new(Script::whole("a"))).await;
    assert_eq!(old, "HTTP/1.0 200 OK\r\ncontent-length: 1\r\nconnection: close\r\n\r\na");
}

#[tokio::test]
async fn answers_without_a_body_have_none_and_keep_what_they_state() {
    for (method, status, stated, head) in [
        ("HEAD", 200, Some("7"), "200 OK\r\ncontent-length: 7\r\n"),
        ("HEAD", 200, None, "200 OK\r\n"),
        ("GET", 304, Some("7"), "304 Not Modified\r\ncontent-length: 7\r\n"),
        ("GET", 304, None, "304 Not Modified\r\n"),
        ("GET", 204, Some("7"), "204 No Content\r\n"),
    ] {
        let answer = move || {
            let mut response = Response::builder().status(status).body(Script::pieces(&["never"])).unwrap();
            response.headers_mut().extend(stated.map(|stated| (CONTENT_LENGTH, HeaderValue::from_static(stated))));
            response
        };
        let output = answered(&format!("{method} / HTTP/1.1"), answer).await;
        assert_eq!(output, format!("HTTP/1.1 {head}\r\n{REFUSED}"), "{method} {status}");
    }
}

#[tokio::test]
async fn a_broken_answer_is_never_taken_for_a_complete_one() {
    for (length, output) in [
        (Some(5), "content-length: 5\r\n\r\nab"),
        (None, "transfer-encoding: chunked\r\n\r\n2\r\nab\r\n"),
        // Shorter and longer than was stated.
        (Some(9), "content-length: 9\r\n\r\nab"),
        (Some(1), "content-length: 1\r\n\r\n"),
    ] {
        let fails = length != Some(9);
        let broken = move || Response::new(Script { length, fails, ..Script::pieces(&["ab"]) });
        assert_eq!(answered("GET / HTTP/1.1", broken).await, format!("HTTP/1.1 200 OK\r\n{output}"));
    }
}

#[tokio::test]
async fn trailers_follow_where_they_were_announced_and_asked_for() {
    let trailed = || {
        let fields = [("x-a", "1"), ("x-b", "2")];
        let mut trailers: HeaderMap =
            fields.map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).into_iter().collect();
        trailers.append("x-a", HeaderValue::from_static("3"));
        let mut response = Response::new(Script::pieces(&["a"]));
        response.body_mut().frames.push(Frame::trailers(trailers));
        response.headers_mut().insert(TRAILER, HeaderValue::from_static("x-c, X-A"));
        response
    };
    for (te, end) in [("\r\nte: gzip, trailers", "0\r\nx-a: 1\r\nx-a: 3\r\n\r\n"), ("", "0\r\n\r\n")] {
        let output = answered(&format!("GET / HTTP/1.1\r\nconnection: close{te}"), trailed).await;
        assert!(output.ends_with(&format!("\r\n\r\n1\r\na\r\n{end}")), "{output}");
    }
}

#[tokio::test]
async fn answers_have_one_date_and_it_is_the_upstreams_if_it_says_one() {
    let dates = async |own: Option<&'static str>| {
        local(async {
            let answer = move |_| async move {
                let mut response = Response::new(Script::default());
                response.headers_mut().extend(own.map(|own| (http::header::DATE, HeaderValue::from_static(own))));
                response
            };
            let mut held = Held::begin(&Limits::default(), 1024, answer);
            let output = held.get("/").await;
            output.lines().filter_map(|line| line.strip_prefix("date: ")).map(str::to_owned).collect::<Vec<_>>()
        })
        .await
    };
    let own = "Sun, 06 Nov 1994 08:49:37 GMT";
    assert_eq!(dates(Some(own)).await, [own]);
    let now = dates(None).await;
    assert!(now.len() == 1 && crate::clock::UnixTime::from_http_date(&now[0]).is_some(), "{now:?}");
}

#[tokio::test]
async fn a_refused_head_is_answered_and_the_rest_is_not_read() {
    for bad in ["GET / HTTP/1.1\nhost: a\n\n", "GET /\0", "GET / HTTP/1.1\r\nhost: a\r\nx : y\r\n\r\n", "\r\n\r\n"] {
        let input = format!("{bad}{LAST}");
        assert_eq!(conversation(1024, &[input.as_bytes()], echo).await, REFUSED, "{bad:?}");
    }
}

#[tokio::test]
async fn a_fault_in_a_body_fails_it_and_ends_the_connection() {
    for bad in ["zz\r\n", "1\r\nabc", "0\r\n\n", "0\r\nA: b\n\n", "1\na\r\n0\r\n\r\n"] {
        let input = format!("POST /bad HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{bad}{LAST}");
        assert_eq!(conversation(1024, &[input.as_bytes()], echo).await, last("/badbroken"), "{bad:?}");
    }
}

#[tokio::test]
async fn an_unread_body_ends_the_connection_unless_it_has_come() {
    let unread = |asked: Asked| async move { Response::new(Script::whole(asked.path)) };
    let whole_body = format!("POST /one HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc{LAST}");
    let output = conversation(1024, &[whole_body.as_bytes()], unread).await;
    assert_eq!(output, whole("/one", "") + &last("/last"));
    let half = "POST /one HTTP/1.1\r\nhost: a\r\ncontent-length: 300\r\n\r\nabc";
    assert_eq!(conversation(1024, &[half.as_bytes(), LAST.as_bytes()], unread).await, last("/one"));
}

#[tokio::test]
async fn a_client_is_told_to_go_on_when_its_body_is_read() {
    const HEAD: &str =
        "POST /one HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n";
    local(async {
        let mut held = Held::begin(&Limits::default(), 1024, echo);
        held.send(HEAD).await;
        assert_eq!(held.answer().await, "HTTP/1.1 100 Continue\r\n\r\n");
        held.send("abc").await;
        assert!(held.rest().await.ends_with("\r\n\r\n/oneabc"));
    })
    .await;
    // The body is there, or the client knows no interim answers, or nothing waits for the body.
    let with_body = format!("{HEAD}abc");
    assert_eq!(conversation(1024, &[with_body.as_bytes()], echo).await, last("/oneabc"));
    let old = with_body.replace("1.1", "1.0");
    assert!(conversation(1024, &[old.as_bytes()], echo).await.starts_with("HTTP/1.0 200 OK\r\n"));
    let unread = |asked: Asked| async move { Response::new(Script::whole(asked.path)) };
    assert_eq!(conversation(1024, &[HEAD.as_bytes()], unread).await, last("/one"));
}

/// Notifies when it is dropped.
struct OnDrop(Rc<Notify>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[tokio::test]
async fn a_client_that_closes_cancels_its_request() {
    let expects = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\nexpect: 100-continue\r\n\r\n";
    for input in ["GET / HTTP/1.1\r\nhost: a\r\n\r\n", "GET / HTTP/1.1\r\nhost: a\r\n\r\nGET /next", expects] {
        local(async {
            let dropped = Rc::<Notify>::default();
            let notify = Rc::clone(&dropped);
            let mut held = Held::begin(&Limits::default(), 1024, move |asked| {
                let on_drop = OnDrop(Rc::clone(&notify));
                async move {
                    let _held = (asked, on_drop);
                    std::future::pending().await
                }
            });
            held.send(input).await;
            held.client.shutdown().await.unwrap();
            dropped.notified().await;
            assert_eq!(held.rest().await, "");
        })
        .await;
    }
}

#[tokio::test]
async fn a_body_may_be_read_by_another_task() {
    local(async {
        let mut held = Held::begin(&Limits::default(), 1024, |asked: Asked| async move {
            let body = tokio::task::spawn_local(async move { asked.body.unwrap().collect().await.unwrap().to_bytes() });
            if asked.path == "/later" {
                return Response::new(Script::whole("early"));
            }
            Response::new(Script::whole(body.await.unwrap()))
        });
        for path in ["/now", "/later", "/now"] {
            held.send(format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\n")).await;
            if path == "/later" {
                assert!(held.answer().await.ends_with("early"));
            }
            held.send("a").await;
            held.send("bc").await;
            if path == "/now" {
                assert!(held.answer().await.ends_with("abc"));
            }
        }
    })
    .await;
}

#[tokio::test]
async fn endless_pipelined_requests_leave_other_tasks_their_turns() {
    local(async {
        let mut held = Held::begin(&Limits::default(), 1024 * 1024, echo);
        held.client.write_all("GET / HTTP/1.1\r\nhost: a\r\n\r\n".repeat(500).as_bytes()).await.unwrap();
        let mut turns = 0;
        while held.wire.borrow().has_unread_input() || turns == 0 {
            yield_now().await;
            turns += 1;
        }
        assert!(turns > 500 / TURN, "{turns}");
    })
    .await;
}
