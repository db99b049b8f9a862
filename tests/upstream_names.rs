//! Upstreams by name: every address is used, a change is followed, and a name server that is down takes nothing down
//! with it.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use http::Response;
use http_body_util::Full;

use crate::support::dns::NameServer;
use crate::support::gateway::PATIENCE;
use crate::support::world::config;
use crate::support::{Client, Gateway, Upstream};

const NAME: &str = "service.internal";

/// Services at 127.0.0.1 and 127.0.0.2 on one port, which say which one they are.
struct Two {
    port: u16,
    _services: [Upstream; 2],
}

impl Two {
    fn start(keep_alive: bool) -> Self {
        loop {
            let first = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = first.local_addr().unwrap().port();
            let Ok(second) = TcpListener::bind(("127.0.0.2", port)) else { continue };
            let service = |listener, said: &'static str| {
                Upstream::answering_at(listener, move |_| {
                    let answer =
                        Response::builder().header("connection", if keep_alive { "keep-alive" } else { "close" });
                    answer.body(Full::from(said)).unwrap()
                })
            };
            return Self { port, _services: [service(first, "one"), service(second, "two")] };
        }
    }
}

fn before(names: &NameServer, port: u16) -> Gateway {
    before_with(names, port, "30s")
}

/// With this time for which a name that loses all addresses keeps its last ones.
fn before_with(names: &NameServer, port: u16, stale_for: &str) -> Gateway {
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
    let dns = format!("{{servers: [\"{}\"], stale_for: {stale_for}}}", names.address);
    let sections = format!("upstreams: {{legacy: \"http://{NAME}:{port}\"}}\ndns: {dns}");
    Gateway::start(&config(nowhere, &["path: /**, access: public, name: all"], &sections))
}

/// Asks until the answer is this.
async fn until(client: &Client, status: u16, body: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = client.get("/").await;
        if answer.status == status && (body.is_empty() || answer.body == body) {
            return;
        }
        assert!(Instant::now() < deadline, "{answer:?}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn new_connections_take_all_addresses_in_turn_without_a_look_up() {
    let (names, services) = (NameServer::start(), Two::start(false));
    names.tell(NAME, &["127.0.0.1", "127.0.0.2"], 60);
    let gateway = before(&names, services.port);
    let client = Client::new(&gateway);
    let mut said = Vec::new();
    for _ in 0..10 {
        said.push(client.get("/").await.body);
    }
    for one in ["one", "two"] {
        assert_eq!(said.iter().filter(|body| *body == one).count(), 5, "{said:?}");
    }
    assert_eq!(names.asked(), 2, "once for each family");
}

#[tokio::test]
async fn a_change_of_address_is_followed_when_its_time_has_run_out() {
    let (names, services) = (NameServer::start(), Two::start(false));
    names.tell(NAME, &["127.0.0.1"], 1);
    let gateway = before(&names, services.port);
    let client = Client::new(&gateway);
    assert_eq!(client.get("/").await.body, "one");
    names.tell(NAME, &["127.0.0.2"], 60);
    until(&client, 200, "two").await;
    assert_eq!(client.get("/").await.body, "two");
}

#[tokio::test]
async fn connections_to_an_address_that_is_gone_are_not_kept() {
    let (names, services) = (NameServer::start(), Two::start(true));
    names.tell(NAME, &["127.0.0.1"], 1);
    let gateway = before(&names, services.port);
    let client = Client::new(&gateway);
    assert_eq!(client.get("/").await.body, "one");
    names.tell(NAME, &["127.0.0.2"], 60);
    until(&client, 200, "two").await;
}

#[tokio::test]
async fn an_address_that_refuses_costs_no_request() {
    let (names, services) = (NameServer::start(), Two::start(false));
    names.tell(NAME, &["127.0.0.3", "127.0.0.2", "::1"], 60);
    let gateway = before(&names, services.port);
    for _ in 0..6 {
        assert_eq!(Client::new(&gateway).get("/").await.body, "two");
    }
}

/// It takes no connection and refuses none: its backlog is full.
fn black_hole(port: u16) -> (socket2::Socket, Vec<TcpStream>) {
    let address = SocketAddr::from(([127, 0, 0, 3], port));
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&address.into()).unwrap();
    socket.listen(0).unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        waiting.push(stream);
    }
    (socket, waiting)
}

#[tokio::test]
async fn an_address_that_does_not_answer_is_soon_passed_over() {
    let (names, services) = (NameServer::start(), Two::start(false));
    let _hole = black_hole(services.port);
    names.tell(NAME, &["127.0.0.3", "127.0.0.2"], 60);
    let gateway = before(&names, services.port);
    for _ in 0..4 {
        let begun = Instant::now();
        assert_eq!(Client::new(&gateway).get("/").await.body, "two");
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn the_last_answer_serves_while_the_name_server_is_down() {
    let (names, services) = (NameServer::start(), Two::start(false));
    names.tell(NAME, &["127.0.0.1"], 1);
    let gateway = before(&names, services.port);
    assert_eq!(Client::new(&gateway).get("/").await.body, "one");
    names.fall_silent();
    gateway.log_line("cannot be resolved");
    assert_eq!(Client::new(&gateway).get("/").await.body, "one");
}

#[tokio::test]
async fn one_address_family_survives_a_failure_of_the_other() {
    let (names, services) = (NameServer::start(), Two::start(false));
    names.tell(NAME, &["127.0.0.1", "::1"], 1);
    let gateway = before(&names, services.port);
    let client = Client::new(&gateway);
    assert_eq!(client.get("/").await.body, "one");
    names.fail_for_v4(true);
    names.tell(NAME, &["127.0.0.2", "::1"], 60);
    gateway.log_line("cannot be resolved");
    assert_eq!(client.get("/").await.body, "one");
    // The other's answer is good for a minute, but this one's is looked for.
    names.fail_for_v4(false);
    until(&client, 200, "two").await;
}

#[tokio::test]
async fn a_name_without_address_is_out_of_reach_until_it_has_one() {
    let (names, services) = (NameServer::start(), Two::start(false));
    let gateway = before_with(&names, services.port, "0s");
    let client = Client::new(&gateway);
    let answer = client.get("/").await;
    assert_eq!(answer.status, 502);
    assert_eq!(gateway.audit_of(answer.request_id())["gateway.reason"], "upstream_connect");
    gateway.log_line("the name has no address");
    names.tell(NAME, &["127.0.0.1"], 1);
    until(&client, 200, "one").await;
    names.forget(NAME);
    until(&client, 502, "").await;
}

#[tokio::test]
async fn a_name_that_loses_all_addresses_keeps_them_for_stale_for() {
    let services = Two::start(false);
    // Neither an answer that the name does not exist nor one that it has no address.
    let losses: [fn(&NameServer); 2] = [|names| names.forget(NAME), |names| names.tell(NAME, &[], 1)];
    for lose in losses {
        let names = NameServer::start();
        names.tell(NAME, &["127.0.0.1"], 1);
        let gateway = before_with(&names, services.port, "1d");
        let client = Client::new(&gateway);
        assert_eq!(client.get("/").await.body, "one");
        lose(&names);
        gateway.log_line("the name has no address");
        assert_eq!(client.get("/").await.body, "one");
        names.tell(NAME, &["127.0.0.2"], 60);
        until(&client, 200, "two").await;
    }
}

#[tokio::test]
async fn a_name_without_addresses_is_unreachable_after_stale_for() {
    let (names, services) = (NameServer::start(), Two::start(false));
    names.tell(NAME, &["127.0.0.1"], 1);
    let gateway = before_with(&names, services.port, "1s");
    let client = Client::new(&gateway);
    assert_eq!(client.get("/").await.body, "one");
    names.tell(NAME, &[], 1);
    gateway.log_line("the name has no address");
    until(&client, 502, "").await;
}

#[tokio::test]
async fn names_of_the_hosts_file_need_no_name_server() {
    let (names, services) = (NameServer::start(), Two::start(false));
    names.fall_silent();
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
    let sections = format!(
        "upstreams: {{legacy: \"http://localhost:{}\"}}\ndns: {{servers: [\"{}\"]}}",
        services.port, names.address
    );
    let gateway = Gateway::start(&config(nowhere, &["path: /**, access: public, name: all"], &sections));
    assert_eq!(Client::new(&gateway).get("/").await.body, "one");
}
