//! Services that authenticate connections (NTLM, Negotiate: RFC 4559): no request travels under the identity of another
//! caller.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tokio::net::TcpStream;

use crate::mirroring::ended;
use crate::servers::several;
use crate::support::client::{Connection, request, with_body, with_header, with_token};
use crate::support::upstream::listen;
use crate::support::wire::{Wire, field, within};
use crate::support::world::{SECRET, config};
use crate::support::{Answer, Client, Gateway, Upstream};

/// A service that authenticates connections. It answers with the name of the user that a request counts for.
#[derive(Clone)]
struct Domain {
    address: SocketAddr,
    journal: Arc<Mutex<Journal>>,
}

#[derive(Default)]
struct Journal {
    opened: usize,
    closed: usize,
    requests: Vec<Entry>,
}

/// One request: the number of its connection, from 1, and the user of that connection when it had been answered.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    connection: usize,
    target: String,
    user: String,
}

/// The identity that the service keeps for one connection.
#[derive(Default)]
struct Identity {
    is_challenged: bool,
    user: Option<String>,
}

const NOBODY: &str = "anonymous";

impl Domain {
    async fn start() -> Self {
        let journal = Arc::<Mutex<Journal>>::default();
        let log = Arc::clone(&journal);
        let address = listen(move |stream| {
            let log = Arc::clone(&log);
            async move {
                let connection = {
                    let mut log = log.lock().unwrap();
                    log.opened += 1;
                    log.opened
                };
                converse(Wire::new(stream), connection, &log).await;
                log.lock().unwrap().closed += 1;
            }
        })
        .await;
        Self { address, journal }
    }

    fn opened(&self) -> usize {
        self.journal.lock().unwrap().opened
    }

    fn requests(&self) -> Vec<Entry> {
        self.journal.lock().unwrap().requests.clone()
    }

    /// The connection that the last request came by.
    fn last_connection(&self) -> usize {
        self.requests().last().unwrap().connection
    }

    /// Waits until so many connections have ended, and not for so long that one would have ended because it rests.
    async fn closed(&self, count: usize) {
        let ended = async {
            while self.journal.lock().unwrap().closed < count {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(12), ended).await.unwrap();
    }
}

async fn converse(mut wire: Wire<TcpStream>, connection: usize, log: &Mutex<Journal>) {
    let mut identity = Identity::default();
    while let Some(head) = wire.head().await {
        let length = field(&head, "content-length").map_or(0, |length| length.parse().unwrap());
        wire.take(length).await;
        let mut answer = identity.answer(&head);
        if head.starts_with("HEAD ") {
            answer.truncate(answer.find("\r\n\r\n").unwrap() + 4);
        }
        let target = target(&head).to_owned();
        let user = identity.name().to_owned();
        log.lock().unwrap().requests.push(Entry { connection, target: target.clone(), user });
        match target.rsplit('/').next() {
            Some("hang-up") => return,
            // One byte is missing.
            Some("cut") => return wire.send(&answer[..answer.len() - 1]).await,
            _ => wire.send(answer).await,
        }
    }
}

fn target(head: &str) -> &str {
    head.split(' ').nth(1).unwrap()
}

impl Identity {
    fn name(&self) -> &str {
        self.user.as_deref().unwrap_or(NOBODY)
    }

    fn answer(&mut self, head: &str) -> String {
        let (scheme, token) = field(head, "authorization").and_then(|value| value.split_once(' ')).unwrap_or_default();
        match (scheme.to_ascii_lowercase().as_str(), token.split_once('-').unwrap_or((token, ""))) {
            ("ntlm", ("negotiate", _)) => {
                self.is_challenged = true;
                unauthorized("WWW-Authenticate: NTLM challenge\r\n")
            }
            ("ntlm", ("authenticate", user)) if self.is_challenged => self.greets(user, ""),
            ("negotiate", ("ticket", user)) if head.contains(" /close") => {
                self.greets(user, "WWW-Authenticate: Negotiate accepted\r\nConnection: close\r\n")
            }
            ("negotiate", ("ticket", user)) => self.greets(user, "WWW-Authenticate: Negotiate accepted\r\n"),
            ("basic", (user, _)) => answer("200 OK", "", user),
            ("custom", (_, user)) => self.greets(user, "Persistent-Auth: true\r\n"),
            _ if self.user.is_some() || target(head).ends_with("/open") => answer("200 OK", "", self.name()),
            _ => unauthorized("WWW-Authenticate: Basic realm=\"a, NTLM\"\r\nWWW-Authenticate: Negotiate, NTLM\r\n"),
        }
    }

    fn greets(&mut self, user: &str, fields: &str) -> String {
        self.user = Some(user.to_owned());
        answer("200 OK", fields, user)
    }
}

fn unauthorized(fields: &str) -> String {
    answer("401 Unauthorized", fields, "no")
}

fn answer(status: &str, fields: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len())
}

fn saying(path: &str, credentials: &str) -> Request<Full<Bytes>> {
    with_header(request("GET", path), "authorization", credentials)
}

/// The three legs of NTLM on one connection of a client.
async fn log_in(client: &mut Connection, path: &str, user: &str) -> Answer {
    let offered = client.send(request("GET", path)).await;
    assert_eq!(offered.status, 401, "{offered:?}");
    let challenged = client.send(saying(path, "NTLM negotiate")).await;
    assert_eq!((challenged.status, challenged.header("www-authenticate")), (401, "NTLM challenge"));
    client.send(saying(path, &format!("NTLM authenticate-{user}"))).await
}

async fn body(client: &mut Connection, request: Request<Full<Bytes>>) -> (u16, String) {
    let answer = client.send(request).await;
    (answer.status, String::from_utf8(answer.body.to_vec()).unwrap())
}

fn ok(user: &str) -> (u16, String) {
    (200, user.to_owned())
}

/// By one leg.
async fn log_in_at_once(client: &mut Connection, path: &str, user: &str) {
    assert_eq!(body(client, saying(path, &format!("Negotiate ticket-{user}"))).await, ok(user));
}

const OPEN: &str = "path: /**, access: public, name: all";

#[tokio::test]
async fn callers_that_take_turns_never_have_the_identity_of_another() {
    let domain = Domain::start().await;
    let gateway = Gateway::open(domain.address, "");
    let client = Client::new(&gateway);
    let (mut alice, mut bob, mut stranger) = (client.connect().await, client.connect().await, client.connect().await);
    assert_eq!(log_in(&mut alice, "/a", "alice").await.body, "alice");
    assert_eq!(body(&mut stranger, request("GET", "/open")).await, ok(NOBODY));
    assert_eq!(log_in(&mut bob, "/b", "bob").await.body, "bob");
    for _ in 0..5 {
        assert_eq!(body(&mut alice, request("GET", "/a")).await, ok("alice"));
        assert_eq!(body(&mut bob, request("POST", "/b")).await, ok("bob"));
        assert_eq!(body(&mut stranger, request("GET", "/open")).await, ok(NOBODY));
        assert_eq!(client.get("/open").await.body, NOBODY);
    }
    assert_eq!(domain.opened(), 3, "one for each user, and one for all others");
}

#[tokio::test]
async fn a_handshake_ties_both_connections_until_the_client_ends() {
    let domain = Domain::start().await;
    let gateway = Gateway::open(domain.address, "");
    let mut alice = Client::new(&gateway).connect().await;
    assert_eq!(log_in(&mut alice, "/a", "alice").await.body, "alice");
    let upload = with_header(with_body(request("POST", "/a"), vec![0; 100_000]), "expect", "100-continue");
    assert_eq!(body(&mut alice, upload).await, ok("alice"));
    assert_eq!(alice.send(request("HEAD", "/a")).await.status, 200);
    assert_eq!(body(&mut alice, saying("/a", "Basic other")).await, ok("other"));
    assert_eq!(body(&mut alice, request("GET", "/a")).await, ok("alice"));
    let connections: Vec<_> = domain.requests().iter().map(|entry| entry.connection).collect();
    assert_eq!(connections, [1; 7]);
    drop(alice);
    domain.closed(1).await;
    assert_eq!(Client::new(&gateway).get("/open").await.body, NOBODY);
}

/// Answers to HEAD announce a body that does not come, which keeps a connection from other callers but not from its
/// own.
#[tokio::test]
async fn a_handshake_by_head_goes_over_one_connection() {
    let domain = Domain::start().await;
    let gateway = Gateway::open(domain.address, "");
    let mut alice = Client::new(&gateway).connect().await;
    for (credentials, status) in [("NTLM negotiate", 401), ("NTLM authenticate-alice", 200), ("Bearer x", 200)] {
        let mut head = saying("/a", credentials);
        *head.method_mut() = http::Method::HEAD;
        assert_eq!(alice.send(head).await.status, status, "{credentials}");
    }
    assert_eq!(body(&mut alice, request("GET", "/a")).await, ok("alice"));
    assert_eq!(domain.opened(), 1);
}

#[tokio::test]
async fn an_upload_that_is_cut_ends_the_pinned_connection() {
    let domain = Domain::start().await;
    let gateway = Gateway::open(domain.address, "");
    let mut wire = Wire::new(Client::new(&gateway).tls().await.unwrap());
    wire.send("GET /a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Negotiate ticket-alice\r\n\r\n").await;
    assert_eq!(wire.answer().await.unwrap().body, b"alice");
    wire.send("POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60\r\n\r\nGET /smuggled HTTP/1.1\r\n").await;
    drop(wire);
    domain.closed(1).await;
    assert_eq!(Client::new(&gateway).get("/open").await.body, NOBODY);
    assert!(domain.requests().iter().all(|entry| entry.target != "/smuggled"));
}

#[tokio::test]
async fn connection_credentials_are_known_by_case_and_by_answer() {
    for credentials in ["nTlM authenticate-x", "NEGOTIATE ticket-alice", "Custom key-alice"] {
        let domain = Domain::start().await;
        let gateway = Gateway::open(domain.address, "");
        let client = Client::new(&gateway);
        let mut alice = client.connect().await;
        alice.send(saying("/a", credentials)).await;
        assert_eq!(client.get("/open").await.body, NOBODY, "{credentials}");
        assert_eq!(domain.last_connection(), 2, "{credentials}");
    }
}

#[tokio::test]
async fn a_connection_for_one_route_is_not_used_for_another() {
    let domain = Domain::start().await;
    let routes = ["path: /a/**, access: public, name: a", "path: /b/**, access: public, name: b"];
    let gateway = Gateway::before(domain.address, &routes);
    let mut alice = Client::new(&gateway).connect().await;
    assert_eq!(log_in(&mut alice, "/a/x", "alice").await.body, "alice");
    assert_eq!(alice.send(request("GET", "/b/x")).await.status, 401);
    assert_eq!(domain.last_connection(), 2);
    assert_eq!(log_in(&mut alice, "/b/x", "admin").await.body, "admin");
    assert_eq!(body(&mut alice, request("GET", "/a/x")).await, ok("alice"));
    assert_eq!(body(&mut alice, request("GET", "/b/x")).await, ok("admin"));
    assert_eq!(domain.opened(), 2);
}

/// Requests of several callers may come by one connection of such a client.
async fn closes_after_each_exchange(gateway: &Gateway, domain: &Domain, client: &Client) {
    let mut connection = client.connect().await;
    for round in 1..=3 {
        log_in_at_once(&mut connection, "/a", "alice").await;
        assert_eq!(body(&mut connection, request("GET", "/open")).await, ok(NOBODY), "{}", gateway.log_text());
        assert_eq!(connection.send(request("GET", "/a")).await.status, 401);
        // One for the user, one for the offer.
        domain.closed(2 * round).await;
    }
}

#[tokio::test]
async fn an_http2_clients_identity_connection_ends_after_the_exchange() {
    let domain = Domain::start().await;
    let gateway = Gateway::open(domain.address, "");
    closes_after_each_exchange(&gateway, &domain, &Client::http2(&gateway)).await;
}

#[tokio::test]
async fn for_a_trusted_proxy_the_connection_ends_after_the_exchange() {
    let domain = Domain::start().await;
    let gateway = Gateway::open(domain.address, "trusted_proxies: [127.0.0.0/8]");
    closes_after_each_exchange(&gateway, &domain, &Client::new(&gateway)).await;
}

#[tokio::test]
async fn a_balancer_that_names_its_client_has_pinned_connections() {
    let domain = Domain::start().await;
    let sections = "listeners: [{address: 127.0.0.1:0, proxy_protocol: true}]\ntrusted_proxies: [127.0.0.0/8]";
    let gateway = Gateway::start(&config(domain.address, &[OPEN], sections));
    for (header, is_pinned) in [("PROXY TCP4 203.0.113.9 192.0.2.1 4711 443", true), ("PROXY UNKNOWN", false)] {
        let mut wire = Wire::new(Client::plain(gateway.address()).tcp().await.unwrap());
        wire.send(format!("{header}\r\n")).await;
        for (credentials, expected) in [("Authorization: Negotiate ticket-alice\r\n", true), ("", is_pinned)] {
            wire.send(format!("GET /open HTTP/1.1\r\nHost: localhost\r\n{credentials}\r\n")).await;
            let user = if expected { "alice" } else { NOBODY };
            assert_eq!(wire.answer().await.unwrap().body, user.as_bytes(), "{header}");
        }
    }
}

/// A proxy that the configuration does not name.
#[tokio::test]
async fn a_proxied_requests_identity_connection_ends_after_it() {
    for (name, value) in [("via", "1.1 cache"), ("x-forwarded-for", "203.0.113.9"), ("forwarded", "for=203.0.113.9")] {
        let domain = Domain::start().await;
        let gateway = Gateway::open(domain.address, "");
        let mut proxy = Client::new(&gateway).connect().await;
        let relayed = |request| with_header(request, name, value);
        assert_eq!(body(&mut proxy, relayed(saying("/a", "Negotiate ticket-alice"))).await, ok("alice"));
        domain.closed(1).await;
        assert_eq!(body(&mut proxy, relayed(request("GET", "/open"))).await, ok(NOBODY));
        log_in_at_once(&mut proxy, "/a", "bob").await;
        assert_eq!(body(&mut proxy, relayed(request("GET", "/open"))).await, ok(NOBODY), "not over what is pinned");
    }
}

#[tokio::test]
async fn identity_offered_on_a_protected_route_is_pinned_to_no_caller() {
    let domain = Domain::start().await;
    let routes = ["path: /token/**, access: {}, forward_token: true, name: token", "path: /**, access: {}, name: all"];
    let gateway = Gateway::before(domain.address, &routes);
    let client = Client::new(&gateway);
    let token = client.granted("app", SECRET, "scope=read:data").await;
    let mut connection = client.connect().await;
    for (number, path) in ["/x", "/token/x", "/x"].iter().enumerate() {
        assert_eq!(connection.send(with_token(request("GET", path), &token)).await.status, 401);
        domain.closed(number + 1).await;
    }
    assert_eq!(connection.send(with_token(request("GET", "/open"), &token)).await.status, 200);
    assert_eq!(connection.send(with_token(request("GET", "/token/open"), &token)).await.status, 200);
    assert_eq!(domain.opened(), 4, "without an offer it is kept");
}

#[tokio::test]
async fn an_offer_alone_keeps_the_connection_from_others() {
    let domain = Domain::start().await;
    let gateway = Gateway::open(domain.address, "");
    let client = Client::new(&gateway);
    let mut one = client.connect().await;
    assert_eq!(one.send(request("GET", "/a")).await.status, 401);
    assert_eq!(client.get("/open").await.body, NOBODY);
    assert_eq!(domain.last_connection(), 2);
    assert_eq!(body(&mut one, request("GET", "/open")).await, ok(NOBODY));
    assert_eq!(domain.last_connection(), 1);
}

#[tokio::test]
async fn eight_connections_per_address_are_pinned_others_end() {
    let domain = Domain::start().await;
    let gateway = Gateway::open(domain.address, "workers: 2");
    let client = Client::new(&gateway);
    let mut users = Vec::new();
    for number in 0..8 {
        let mut user = client.connect().await;
        log_in_at_once(&mut user, "/a", &format!("user{number}")).await;
        users.push(user);
    }
    let mut ninth = client.connect().await;
    for round in 1..=3 {
        log_in_at_once(&mut ninth, "/a", "ninth").await;
        domain.closed(round).await;
    }
    for (number, user) in users.iter_mut().enumerate() {
        assert_eq!(body(user, request("GET", "/a")).await, ok(&format!("user{number}")));
    }
    drop(users.pop());
    domain.closed(4).await;
    log_in_at_once(&mut ninth, "/a", "ninth").await;
    assert_eq!(body(&mut ninth, request("GET", "/a")).await, ok("ninth"));
    assert_eq!((domain.opened(), domain.journal.lock().unwrap().closed), (12, 4));
}

/// A mere offer, which takes no credentials to get, uses up half of what an address may have pinned.
#[tokio::test]
async fn callers_without_credentials_leave_pins_for_others() {
    let domain = Domain::start().await;
    let gateway = Gateway::open(domain.address, "");
    let client = Client::new(&gateway);
    let mut offered = Vec::new();
    for number in 1..=8 {
        let mut stranger = client.connect().await;
        assert_eq!(stranger.send(request("GET", "/a")).await.status, 401);
        offered.push(stranger);
        domain.closed(usize::saturating_sub(number, 4)).await;
    }
    let mut users = Vec::new();
    for number in 0..4 {
        let (mut user, name) = (client.connect().await, format!("user{number}"));
        assert_eq!(log_in(&mut user, "/a", &name).await.body, &*name);
        users.push((user, name));
    }
    for (user, name) in &mut users {
        assert_eq!(body(user, request("GET", "/a")).await, ok(name));
    }
    // An offer that is accepted makes room for another one.
    assert_eq!(body(&mut offered[0], saying("/a", "Negotiate ticket-first")).await, ok("first"));
    assert_eq!(body(&mut offered[0], request("GET", "/a")).await, ok("first"));
}

#[tokio::test]
async fn pinned_connections_send_once_and_to_one_server() {
    let (domain, other) = (Domain::start().await, Upstream::start().await);
    let keys = "balance: round_robin, retries: {attempts: 3, on: [connect, reset, 503]}, ejection: none";
    let gateway = several(&[domain.address, other.address], keys);
    let client = Client::new(&gateway);
    let mut alice = client.connect().await;
    log_in_at_once(&mut alice, "/a", "alice").await;
    for _ in 0..4 {
        assert_eq!(body(&mut alice, request("GET", "/a")).await, ok("alice"), "the same server");
    }
    assert_eq!(alice.send(request("GET", "/hang-up")).await.status, 502);
    let statuses = [saying("/hang-up", "NTLM negotiate"), saying("/hang-up", "NTLM negotiate")];
    for request in statuses {
        let _ = client.send(request).await;
    }
    let sent: Vec<_> = domain.requests().into_iter().filter(|entry| entry.target == "/hang-up").collect();
    let elsewhere = other.seen().iter().filter(|seen| seen.target == "/hang-up").count();
    assert_eq!((sent.len(), elsewhere), (2, 1), "each was sent once");
}

#[tokio::test]
async fn a_pinned_request_is_not_mirrored() {
    let (domain, shadow) = (Domain::start().await, Upstream::start().await);
    let upstreams =
        format!("upstreams: {{legacy: \"http://{}\", shadow: \"http://{}\"}}", domain.address, shadow.address);
    let route = format!("{OPEN}, mirror: {{upstream: shadow}}, upstream: legacy");
    let gateway = Gateway::start(&config(domain.address, &[&route], &upstreams));
    let client = Client::new(&gateway);
    let mut alice = client.connect().await;
    log_in_at_once(&mut alice, "/a", "alice").await;
    assert_eq!(body(&mut alice, request("GET", "/a")).await, ok("alice"));
    ended(&gateway, "unsuitable").await;
    client.get("/open").await;
    ended(&gateway, "answered").await;
    let copied: Vec<_> = shadow.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(copied, ["/open"]);
}

#[tokio::test]
async fn a_copy_that_is_offered_to_authenticate_leaves_no_connection() {
    let (legacy, shadow) = (Upstream::start().await, Domain::start().await);
    let upstreams =
        format!("upstreams: {{legacy: \"http://{}\", shadow: \"http://{}\"}}", legacy.address, shadow.address);
    let route = format!("{OPEN}, mirror: {{upstream: shadow}}, upstream: legacy");
    let gateway = Gateway::start(&config(legacy.address, &[&route], &upstreams));
    Client::new(&gateway).get("/a").await;
    shadow.closed(1).await;
}

#[tokio::test]
async fn pinned_connections_count_and_one_that_rests_makes_room() {
    let domain = Domain::start().await;
    let gateway = several(&[domain.address], "max_connections: 2, retries: none");
    let client = Client::new(&gateway);
    let (mut alice, mut bob, mut carol) = (client.connect().await, client.connect().await, client.connect().await);
    log_in_at_once(&mut alice, "/a", "alice").await;
    log_in_at_once(&mut bob, "/a", "bob").await;
    log_in_at_once(&mut carol, "/a", "carol").await;
    domain.closed(1).await;
    assert_eq!(body(&mut bob, request("GET", "/a")).await, ok("bob"), "the oldest made room");
    assert_eq!(body(&mut carol, request("GET", "/a")).await, ok("carol"));
    assert_eq!(alice.send(request("GET", "/a")).await.status, 401, "over a new connection");
    domain.closed(2).await;
    assert_eq!(domain.opened(), 4);
}

#[tokio::test]
async fn a_pinned_caller_stays_at_its_target_of_a_split() {
    let (one, other) = (Domain::start().await, Domain::start().await);
    let upstreams = format!("upstreams: {{one: \"http://{}\", other: \"http://{}\"}}", one.address, other.address);
    let route = format!("{OPEN}, upstream: {{one: 1, other: 1}}");
    let gateway = Gateway::start(&config(one.address, &[&route], &upstreams));
    let mut alice = Client::new(&gateway).connect().await;
    assert_eq!(log_in(&mut alice, "/a", "alice").await.body, "alice");
    for _ in 0..20 {
        assert_eq!(body(&mut alice, request("GET", "/a")).await, ok("alice"));
    }
    assert_eq!(one.opened() + other.opened(), 1);
}

#[tokio::test]
async fn pipelined_requests_use_the_pinned_connection_in_order() {
    let domain = Domain::start().await;
    let routes = ["path: /a/**, access: public, name: a", "path: /b/**, access: public, name: b"];
    let gateway = Gateway::before(domain.address, &routes);
    let mut wire = Wire::new(Client::new(&gateway).tls().await.unwrap());
    let mut sent = String::new();
    for (path, credentials) in [
        ("/a/x", "NTLM negotiate"),
        ("/a/x", "NTLM authenticate-alice"),
        ("/b/open", ""),
        ("/a/x", ""),
        ("/b/open", ""),
        ("/a/cut", ""),
    ] {
        let field = if credentials.is_empty() { String::new() } else { format!("Authorization: {credentials}\r\n") };
        sent += &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{field}\r\n");
    }
    wire.send(sent).await;
    for (status, body) in [(401, "no"), (200, "alice"), (200, NOBODY), (200, "alice"), (200, NOBODY)] {
        let answer = wire.answer().await.unwrap();
        assert_eq!((answer.status, &answer.body[..]), (status, body.as_bytes()));
    }
    wire.rest().await;
    domain.closed(1).await;
    let by: Vec<_> = domain.requests().iter().map(|entry| (entry.connection, entry.target.clone())).collect();
    let expected = [(1, "/a/x"), (1, "/a/x"), (2, "/b/open"), (1, "/a/x"), (2, "/b/open"), (1, "/a/cut")];
    assert_eq!(by, expected.map(|(connection, target)| (connection, target.to_owned())));
}

#[tokio::test]
async fn a_client_that_closes_ends_its_pinned_connections() {
    use tokio::io::AsyncWriteExt as _;
    let domain = Domain::start().await;
    let gateway = Gateway::open(domain.address, "");
    let mut wire = Wire::new(Client::new(&gateway).tls().await.unwrap());
    wire.send("GET /a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Negotiate ticket-alice\r\n\r\n").await;
    assert_eq!(wire.answer().await.unwrap().body, b"alice");
    wire.stream.shutdown().await.unwrap();
    domain.closed(1).await;
}

#[tokio::test]
async fn a_connection_that_the_server_ends_is_pinned_no_more() {
    let domain = Domain::start().await;
    let gateway = Gateway::open(domain.address, "");
    let mut alice = Client::new(&gateway).connect().await;
    for round in 1..=10 {
        log_in_at_once(&mut alice, "/close", "alice").await;
        domain.closed(round).await;
        assert_eq!(body(&mut alice, request("GET", "/open")).await, ok(NOBODY));
        assert!(alice.try_send(request("HEAD", "/hang-up")).await.is_ok());
    }
}

#[tokio::test]
async fn an_upgrade_that_is_declined_leaves_no_connection() {
    let domain = Domain::start().await;
    let gateway = Gateway::before(domain.address, &["path: /**, access: public, websocket: true, name: all"]);
    let mut wire = Wire::new(Client::new(&gateway).tls().await.unwrap());
    let upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let credentials = "Authorization: Negotiate ticket-alice\r\n";
    wire.send(format!("GET /a HTTP/1.1\r\nHost: localhost\r\n{upgrade}{credentials}\r\n")).await;
    assert_eq!(wire.answer().await.unwrap().body, b"alice");
    domain.closed(1).await;
    assert_eq!(Client::new(&gateway).get("/open").await.body, NOBODY);
}

/// Over HTTP/2: answers with the number of the connection, and counts those that have ended.
async fn by_http2(closed: Arc<Mutex<usize>>, opened: Arc<Mutex<usize>>) -> SocketAddr {
    listen(move |stream| {
        let (closed, opened) = (Arc::clone(&closed), Arc::clone(&opened));
        async move {
            let number = {
                let mut opened = opened.lock().unwrap();
                *opened += 1;
                *opened
            };
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                if request.uri().path() == "/refused" {
                    respond.send_reset(h2::Reason::REFUSED_STREAM);
                    continue;
                }
                let is_custom = request.headers().get("authorization").is_some_and(|value| value == "Custom x");
                let mut response = Response::new(());
                if is_custom {
                    response.headers_mut().insert("persistent-auth", "true".parse().unwrap());
                }
                let mut body = respond.send_response(response, false).unwrap();
                body.send_data(Bytes::from(number.to_string()), true).unwrap();
            }
            *closed.lock().unwrap() += 1;
        }
    })
    .await
}

#[tokio::test]
async fn an_identity_request_to_http2_has_its_own_connection() {
    let (closed, opened) = (Arc::<Mutex<usize>>::default(), Arc::<Mutex<usize>>::default());
    let gateway = Gateway::before_http2(by_http2(Arc::clone(&closed), Arc::clone(&opened)).await, &[OPEN]);
    let is_closed = async |count: usize| {
        within(async {
            while *closed.lock().unwrap() < count {
                tokio::task::yield_now().await;
            }
        })
        .await;
    };
    let mut ends = 0;
    for client in gateway.both() {
        let mut connection = client.connect().await;
        let shared = body(&mut connection, request("GET", "/x")).await.1;
        for credentials in ["NTLM negotiate", "negotiate ticket-alice"] {
            let own = body(&mut connection, saying("/x", credentials)).await.1;
            ends += 1;
            is_closed(ends).await;
            assert_ne!(own, shared);
            assert_eq!(body(&mut connection, request("GET", "/x")).await.1, shared);
        }
        assert_eq!(body(&mut connection, saying("/x", "Custom x")).await.1, shared);
        ends += 1;
        is_closed(ends).await;
        assert_ne!(
            body(&mut connection, request("GET", "/x")).await.1,
            shared,
            "an answer said that it is authenticated"
        );
    }
}

#[tokio::test]
async fn to_an_upstream_over_http2_a_connection_of_its_own_counts() {
    let (closed, opened) = (Arc::<Mutex<usize>>::default(), Arc::<Mutex<usize>>::default());
    let service = by_http2(closed, Arc::clone(&opened)).await;
    let upstreams =
        format!("upstreams: {{legacy: {{servers: [\"http://{service}\"], protocol: http2, max_connections: 1}}}}");
    let gateway = Gateway::start(&config(service, &[OPEN], &upstreams));
    let client = Client::new(&gateway);
    assert_eq!(client.get("/x").await.status, 200);
    assert_eq!(client.send(saying("/x", "NTLM negotiate")).await.status, 503);
    assert_eq!((client.get("/x").await.status, *opened.lock().unwrap()), (200, 1));
}

#[tokio::test]
async fn a_refused_http2_request_with_identity_is_not_resent() {
    let opened = Arc::<Mutex<usize>>::default();
    let gateway = Gateway::before_http2(by_http2(Arc::default(), Arc::clone(&opened)).await, &[OPEN]);
    assert_eq!(Client::new(&gateway).send(saying("/refused", "NTLM negotiate")).await.status, 502);
    assert_eq!(*opened.lock().unwrap(), 1);
}

/// More than an address may have pinned, so that connections end and are pinned all the time.
#[tokio::test]
async fn many_callers_at_once_never_share_an_identity() {
    let domain = Domain::start().await;
    let routes = ["path: /a/**, access: public, name: a", "path: /b/**, access: public, name: b"];
    let gateway = Gateway::start(&config(domain.address, &routes, "workers: 2"));
    let mut callers = tokio::task::JoinSet::new();
    for number in 0..24 {
        let client = if number % 4 == 0 { Client::http2(&gateway) } else { Client::new(&gateway) };
        callers.spawn(async move {
            let user = format!("user{number}");
            for round in 0..12 {
                let mut connection = client.connect().await;
                let (path, open) = [("/a/x", "/a/open"), ("/b/x", "/b/open")][round % 2];
                log_in_at_once(&mut connection, path, &user).await;
                for asked in [open, path, open] {
                    let (_, said) = body(&mut connection, request("GET", asked)).await;
                    assert!([&*user, NOBODY, "no"].contains(&&*said), "{user} was taken for {said}");
                }
                let (_, said) = body(&mut connection, request("POST", ["/b/open", "/a/open"][round % 2])).await;
                assert_eq!(said, NOBODY, "{user} on the other route");
            }
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }
}
