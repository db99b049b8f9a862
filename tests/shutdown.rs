//! The end: what is in flight is finished, nothing new is begun, the audit log is whole, and the exit code is 0.

use std::fs::{self, DirBuilder};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use http::Response;
use hyper::body::Incoming;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsConnector;

use crate::support::client::{request, tls};
use crate::support::gateway::{folder, program};
use crate::support::wire::{RawUpstream, Wire, within};
use crate::support::world::config;
use crate::support::{Answer, Client, Gateway};

/// An upstream that holds every answer back until it is told to let go.
struct Held {
    upstream: RawUpstream,
    asked: Arc<Semaphore>,
    release: watch::Sender<bool>,
}

impl Held {
    async fn start() -> Self {
        let asked = Arc::new(Semaphore::new(0));
        let (release, released) = watch::channel(false);
        let count = Arc::clone(&asked);
        let upstream = RawUpstream::start(move |mut wire, head| {
            let (count, mut released) = (Arc::clone(&count), released.clone());
            Box::pin(async move {
                if head.contains(" /half ") {
                    wire.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\ndo").await;
                }
                count.add_permits(1);
                if !head.contains(" /now ") && released.wait_for(|released| *released).await.is_err() {
                    return;
                }
                let rest = if head.contains(" /half ") {
                    "ne"
                } else {
                    "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\ndone"
                };
                wire.send(rest).await;
            })
        })
        .await;
        Self { upstream, asked, release }
    }

    /// So many more requests have reached it.
    async fn was_asked(&self, times: u32) {
        within(self.asked.acquire_many(times)).await.unwrap().forget();
    }

    fn let_go(&self) {
        self.release.send_replace(true);
    }
}

/// A request on a connection of its own, under way.
fn ask(client: Client, path: &'static str) -> JoinHandle<hyper::Result<Answer>> {
    tokio::task::spawn(async move { client.connect().await.try_send(request("GET", path)).await })
}

/// Waits until nobody listens any more.
async fn refuses_connections(gateway: &Gateway) {
    let client = Client::plain(gateway.address());
    within(async {
        while client.tcp().await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

fn ended_well(gateway: &mut Gateway) {
    let status = gateway.wait();
    assert_eq!(status.code(), Some(0), "{}", gateway.log_text());
    gateway.audit_line(|line| line["gateway.event"] == "stop");
    gateway.log_line("stopped");
    let log = gateway.log_text();
    assert!(log.trim_end().lines().next_back().is_some_and(|line| line.contains("stopped")), "{log}");
}

async fn loses_nothing(signal: &str) {
    let held = Held::start().await;
    let mut gateway = Gateway::open(held.upstream.address, "workers: 2");
    let mut asked = JoinSet::new();
    let [one, two] = gateway.both();
    for path in ["/whole", "/half"] {
        for _ in 0..10 {
            asked.spawn(ask(one.clone(), path));
        }
        let crate::support::client::Connection::Http2(sender) = two.connect().await else { panic!("not HTTP/2") };
        for _ in 0..20 {
            let mut sender = sender.clone();
            asked.spawn(tokio::task::spawn(async move {
                let response: Response<Incoming> = sender.send_request(request("GET", path)).await?;
                let (head, body) = response.into_parts();
                let body = http_body_util::BodyExt::collect(body).await?.to_bytes();
                Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
            }));
        }
    }
    held.was_asked(60).await;
    gateway.signal(signal);
    refuses_connections(&gateway).await;
    held.let_go();
    for answer in asked.join_all().await {
        let answer = answer.unwrap().unwrap();
        assert_eq!((answer.status, &answer.body[..]), (200, &b"done"[..]));
    }
    ended_well(&mut gateway);
    assert_eq!(gateway.audit_text().lines().filter(|line| line.contains("\"gateway.decision\":\"allow\"")).count(), 60);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn sigterm_finishes_requests_in_flight_and_begins_none() {
    loses_nothing("TERM").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn sigint_does_the_same() {
    loses_nothing("INT").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn sigquit_does_the_same() {
    loses_nothing("QUIT").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn no_other_signal_ends_the_process() {
    let held = Held::start().await;
    let mut gateway = Gateway::open(held.upstream.address, "");
    let under_way = ask(Client::new(&gateway), "/held");
    held.was_asked(1).await;
    for signal in ["HUP", "USR1", "USR2", "PIPE"] {
        gateway.signal(signal);
    }
    // Signals of different kinds come in no order: these say that two of them have been handled.
    gateway.log_line("the configuration was reloaded");
    gateway.log_line("SIGUSR2");
    assert_eq!(Client::new(&gateway).get("/now").await.status, 200);
    held.let_go();
    assert_eq!(within(under_way).await.unwrap().unwrap().status, 200);
    gateway.signal("TERM");
    ended_well(&mut gateway);
}

/// Starts a gateway of the folder. `hold` gets a path at which the id of its process will be, and lets the start go on.
fn started_while(folder: PathBuf, hold: impl FnOnce(&Path) + Send + 'static) -> Gateway {
    let id = folder.join("id");
    let mut through_shell = Command::new("sh");
    through_shell
        .current_dir(&folder)
        .args(["-c", "echo $$ > id; exec \"$0\" run"])
        .arg(program(&folder).get_program());
    std::thread::spawn(move || hold(&id));
    Gateway::spawn(folder, through_shell, true)
}

fn send_to(id: &str, signals: &[&str]) {
    let send = |signal| Command::new("kill").args(["-s", signal, id]).status().unwrap();
    signals.iter().for_each(|signal| assert!(send(signal).success()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn harmless_signals_do_not_end_a_starting_gateway() {
    let held = Held::start().await;
    let folder = folder();
    let yaml = config(held.upstream.address, &["path: /**, access: public"], "");
    let pipe = folder.join("gateway.yaml");
    assert!(Command::new("mkfifo").args(["-m", "600"]).arg(&pipe).status().unwrap().success());
    let mut gateway = started_while(folder, move |id| {
        // This waits for the gateway to open it.
        let mut writer = fs::OpenOptions::new().write(true).open(&pipe).unwrap();
        send_to(fs::read_to_string(id).unwrap().trim(), &["HUP", "USR1", "USR2", "PIPE"]);
        writer.write_all(yaml.as_bytes()).unwrap();
    });
    assert_eq!(Client::new(&gateway).get("/now").await.status, 200);
    assert_eq!(gateway.stop().code(), Some(0));
}

/// The lock of the signing keys holds the start after the gateway has begun to catch signals.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_stop_signal_during_the_start_is_a_graceful_stop() {
    let upstream = RawUpstream::start(|_, _| Box::pin(async {})).await;
    for signal in ["TERM", "INT", "QUIT"] {
        let folder = folder();
        let yaml = config(upstream.address, &["path: /**, access: public"], "");
        fs::write(folder.join("gateway.yaml"), yaml).unwrap();
        let keys = folder.join("state/keys");
        DirBuilder::new().recursive(true).mode(0o700).create(&keys).unwrap();
        let lock = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(keys.join(LOCK)).unwrap();
        lock.lock().unwrap();
        let mut gateway = started_while(folder, move |id| {
            let caught = loop {
                let id = fs::read_to_string(id).unwrap_or_default();
                if catches_stop_signals(id.trim()) {
                    break id;
                }
                std::thread::yield_now();
            };
            send_to(caught.trim(), &[signal]);
            drop(lock);
        });
        gateway.log_line("shutting down");
        ended_well(&mut gateway);
    }
}

/// The file whose lock protects the signing keys.
const LOCK: &str = "ring.lock";
/// SIGINT, SIGQUIT and SIGTERM, as bits of a mask of signals (proc_pid_status(5)).
const STOP_SIGNALS: u64 = 1 << 1 | 1 << 2 | 1 << 14;

fn catches_stop_signals(id: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    caught.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).unwrap() & STOP_SIGNALS == STOP_SIGNALS)
}

/// Every way in which a connection can be open with nothing under way. Their timeouts are an hour, and so is the
/// drain's.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn connections_without_a_request_do_not_delay_the_stop() {
    let held = Held::start().await;
    let certificates = "[{cert: certs/localhost.crt, key: certs/localhost.key, self_signed: true}]";
    let sections = format!(
        "listeners: [{{address: 127.0.0.1:0, tls: {{certificates: {certificates}}}}}, {{address: 127.0.0.1:0}}]
limits: {{handshake_timeout: 1h, first_request_timeout: 1h, header_timeout: 1h, idle_timeout: 1h}}
shutdown: {{drain: 1h}}"
    );
    let mut gateway = Gateway::open(held.upstream.address, &sections);
    let [http1, http2] = gateway.both();
    let mut used = Vec::new();
    for client in [&http1, &http2] {
        let mut connection = client.connect().await;
        assert_eq!(connection.send(request("GET", "/now")).await.status, 200);
        used.push(connection);
    }
    let plain = TcpStream::connect(gateway.addresses[1]).await.unwrap();
    let silent = http1.tcp().await.unwrap();
    let mut half = Wire::new(http1.tcp().await.unwrap());
    half.send(b"\x16\x03\x01\x02\x00\x01\x00").await;
    let (new, without_preface) = (http1.tls().await.unwrap(), http2.tls().await.unwrap());
    // It answers no PING, as a peer that has vanished.
    let mut deaf = Wire::new(http2.tls().await.unwrap());
    deaf.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00").await;
    // By now the gateway has taken all of them: it accepts in order.
    assert_eq!(http1.get("/now").await.status, 200);
    gateway.signal("TERM");
    ended_well(&mut gateway);
    drop((used, plain, silent, half, new, without_preface, deaf));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_drain_closes_idle_connections_and_finishes_busy_ones() {
    let held = Held::start().await;
    let mut gateway = Gateway::open(held.upstream.address, "");
    let mut idle = Vec::new();
    for client in gateway.both() {
        let mut connection = client.connect().await;
        assert_eq!(connection.send(request("GET", "/now")).await.status, 200);
        idle.push(connection);
    }
    let mut untouched = Wire::new(Client::new(&gateway).tls().await.unwrap());
    let crate::support::client::Connection::Http2(mut busy) = Client::http2(&gateway).connect().await else {
        panic!("not HTTP/2")
    };
    let mut same = crate::support::client::Connection::Http2(busy.clone());
    let under_way = tokio::task::spawn(async move { busy.send_request(request("GET", "/held")).await });
    let over_http1 = ask(Client::new(&gateway), "/held");
    held.was_asked(4).await;
    gateway.signal("TERM");
    for mut connection in idle {
        within(connection.closed()).await;
    }
    // The other end is told to go away, and what it had sent by then is answered.
    within(async { while same.try_send(request("GET", "/now")).await.is_ok() {} }).await;
    untouched.send("GET /now HTTP/1.1\r\nHost: a\r\n\r\n").await;
    held.let_go();
    assert_eq!(within(under_way).await.unwrap().unwrap().status(), 200);
    let answer = within(over_http1).await.unwrap().unwrap();
    assert_eq!((answer.status, answer.header("connection")), (200, "close"));
    untouched.rest().await;
    ended_well(&mut gateway);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn during_the_delay_it_is_not_ready_and_serves_on() {
    let held = Held::start().await;
    let mut gateway = Gateway::open(held.upstream.address, "shutdown: {delay: 1h}");
    let admin = Client::plain(gateway.admin.unwrap());
    assert_eq!(admin.get("/readyz").await.status, 200);
    let mut kept = Client::new(&gateway).connect().await;
    assert_eq!(kept.send(request("GET", "/now")).await.status, 200);
    gateway.signal("TERM");
    within(async { while admin.get("/readyz").await.status == 200 {} }).await;
    let unready = admin.get("/readyz").await;
    assert_eq!((unready.status, &unready.body[..]), (503, &b"shutting down\n"[..]));
    assert_eq!((admin.get("/livez").await.status, admin.get("/metrics").await.status), (200, 200));
    assert_eq!(kept.send(request("GET", "/now")).await.status, 200);
    for client in gateway.both() {
        assert_eq!(client.get("/now").await.status, 200);
    }
    gateway.signal("TERM");
    ended_well(&mut gateway);
}

/// Requests that the kernel has when the drain begins, on connections that were idle until then.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn requests_on_their_way_on_kept_connections_are_answered() {
    let held = Held::start().await;
    let mut gateway = Gateway::open(held.upstream.address, "");
    let request = "GET /now HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut kept = Vec::new();
    for _ in 0..20 {
        let mut wire = Wire::new(Client::new(&gateway).tls().await.unwrap());
        wire.send(request).await;
        assert_eq!(wire.answer().await.unwrap().status, 200);
        kept.push(wire);
    }
    gateway.signal("STOP");
    gateway.signal("TERM");
    for wire in &mut kept {
        wire.send(request).await;
    }
    gateway.signal("CONT");
    for wire in &mut kept {
        assert_eq!(wire.answer().await.expect("an answer").status, 200);
        wire.rest().await;
    }
    ended_well(&mut gateway);
}

/// Requests in flight are cut, over both protocols, and have their audit lines.
async fn cuts(shutdown: &str, again: bool) {
    let held = Held::start().await;
    let mut gateway = Gateway::open(held.upstream.address, &format!("shutdown: {shutdown}"));
    let asked: Vec<_> =
        gateway.both().into_iter().flat_map(|client| [ask(client.clone(), "/whole"), ask(client, "/half")]).collect();
    held.was_asked(4).await;
    gateway.signal("TERM");
    if again {
        gateway.log_line("shutting down");
        gateway.signal("TERM");
    }
    for answer in asked {
        assert!(within(answer).await.unwrap().is_err());
    }
    gateway.log_line("the drain has ended: the remaining requests are cut");
    ended_well(&mut gateway);
    let cut = r#""gateway.decision":"error","gateway.reason":"shutdown""#;
    assert_eq!(gateway.audit_text().matches(cut).count(), 4, "{}", gateway.audit_text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn requests_past_the_drain_deadline_are_cut() {
    cuts("{drain: 200ms}", false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_second_sigterm_cuts_at_once() {
    cuts("{drain: 1h}", true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn connections_that_the_kernel_has_taken_for_us_are_served() {
    let held = Held::start().await;
    let certificates = "[{cert: certs/localhost.crt, key: certs/localhost.key, self_signed: true}]";
    let listeners =
        format!("[{{address: 127.0.0.1:0, tls: {{certificates: {certificates}}}}}, {{address: 127.0.0.1:0}}]");
    let mut gateway = Gateway::open(held.upstream.address, &format!("workers: 2\nlisteners: {listeners}"));
    gateway.signal("STOP");
    let mut asked = JoinSet::new();
    for number in 0..12 {
        let plain = number % 3 == 0;
        let stream = TcpStream::connect(gateway.addresses[usize::from(plain)]).await.unwrap();
        let protocol = if number % 3 == 1 { &b"h2"[..] } else { b"http/1.1" };
        let connector = TlsConnector::from(tls(&gateway.certificate(), &[protocol]));
        asked.spawn(async move {
            if plain {
                let mut wire = Wire::new(stream);
                wire.send("GET /now HTTP/1.1\r\nHost: a\r\n\r\n").await;
                return wire.answer().await.map(|answer| answer.status);
            }
            let name = ServerName::try_from("localhost").unwrap();
            let stream = connector.connect(name, stream).await.ok()?;
            let mut connection = Client::over(stream).await.ok()?;
            connection.try_send(request("GET", "/now")).await.ok().map(|answer| answer.status)
        });
    }
    gateway.signal("TERM");
    gateway.signal("CONT");
    assert_eq!(within(asked.join_all()).await, vec![Some(200); 12]);
    ended_well(&mut gateway);
}
