//! Listening sockets of a service manager: they outlast the gateway, so that a restart refuses no connection.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::client::request;
use crate::support::gateway::{folder, inheriting};
use crate::support::port::free_port;
use crate::support::wire::within;
use crate::support::world::config;
use crate::support::{Client, Gateway, Upstream};

const ROUTES: [&str; 1] = ["name: all, path: /**, access: public, respond: {body: hello}"];
const TLS: &str = "tls: {certificates: [{cert: certs/localhost.crt, key: certs/localhost.key, self_signed: true}]}";
const REDIRECT: &str = "redirect_to: \"https://api.example.com\"";

/// A socket that this process keeps, as a service manager does.
fn socket() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// With the audit log in a file.
fn yaml(upstream: SocketAddr, routes: &[&str], sections: &str) -> String {
    config(upstream, routes, &format!("audit: {{file: audit.jsonl}}\n{sections}"))
}

fn write(folder: &Path, yaml: &str) {
    fs::write(folder.join("gateway.yaml"), yaml).unwrap();
}

/// Requests, each on a connection of its own, that go on over restarts. None is repeated.
struct Load {
    answered: watch::Sender<usize>,
    done: Arc<AtomicBool>,
    clients: JoinSet<()>,
}

impl Load {
    fn start(clients: Vec<Client>) -> Self {
        let (answered, done) = (watch::Sender::new(0), Arc::new(AtomicBool::new(false)));
        let mut load = Self { answered, done, clients: JoinSet::new() };
        for client in clients {
            let (answered, done) = (load.answered.clone(), Arc::clone(&load.done));
            load.clients.spawn(async move {
                while !done.load(Ordering::Relaxed) {
                    let answer = client.connect().await.try_send(request("GET", "/x")).await.unwrap();
                    assert_eq!(answer.status, 200);
                    answered.send_modify(|answered| *answered += 1);
                }
            });
        }
        load
    }

    /// Waits for so many more answers.
    async fn more(&self, count: usize) {
        let wanted = *self.answered.borrow() + count;
        let mut answered = self.answered.subscribe();
        within(answered.wait_for(|answered| *answered >= wanted)).await.unwrap();
    }

    /// Panics if a request failed.
    async fn end(self) -> usize {
        self.done.store(true, Ordering::Relaxed);
        within(self.clients.join_all()).await;
        *self.answered.borrow()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_under_load_refuses_and_fails_nothing() {
    let upstream = Upstream::start().await;
    let (socket, address) = socket();
    let folder = folder();
    let sections = format!("workers: 2\nlisteners: [{{address: \"{address}\", {TLS}}}]");
    write(&folder, &yaml(upstream.address, &["name: all, path: /**, access: public"], &sections));
    let mut gateways = vec![Gateway::start_inheriting(folder.clone(), &[&socket], &[])];
    let clients = gateways[0].both().into_iter().cycle().take(8).collect();
    let load = Load::start(clients);
    for _ in 0..4 {
        load.more(30).await;
        assert_eq!(gateways.last_mut().unwrap().stop().code(), Some(0));
        gateways.push(Gateway::start_inheriting(folder.clone(), &[&socket], &[]));
    }
    load.more(30).await;
    let answered = load.end().await;
    assert_eq!(upstream.seen().len(), answered, "each request is sent once");
}

#[tokio::test]
async fn connections_that_come_while_nothing_runs_are_answered_later() {
    let (socket, address) = socket();
    let folder = folder();
    write(&folder, &yaml(address, &ROUTES, &format!("workers: 2\nlisteners: [{{address: \"{address}\"}}]")));
    let mut first = Gateway::start_inheriting(folder.clone(), &[&socket], &[]);
    assert_eq!(Client::plain(address).get("/").await.status, 200);
    assert_eq!(first.stop().code(), Some(0));
    let mut waiting = Vec::new();
    for _ in 0..5 {
        let mut connection = Client::plain(address).connect().await;
        waiting.push(tokio::spawn(async move { connection.send(request("GET", "/")).await.status }));
    }
    let _second = Gateway::start_inheriting(folder, &[&socket], &[]);
    for answer in waiting {
        assert_eq!(within(answer).await.unwrap(), 200);
    }
}

#[tokio::test]
async fn workers_share_an_inherited_socket_evenly() {
    let (socket, address) = socket();
    let folder = folder();
    write(&folder, &yaml(address, &ROUTES, &format!("workers: 2\nlisteners: [{{address: \"{address}\"}}]")));
    let gateway = Gateway::start_inheriting(folder, &[&socket], &[]);
    let mut open = Vec::new();
    for _ in 0..64 {
        let mut connection = Client::plain(address).connect().await;
        assert_eq!(connection.send(request("GET", "/")).await.status, 200);
        open.push(connection);
    }
    let page = Client::plain(gateway.admin.unwrap()).get("/metrics").await;
    let page = String::from_utf8(page.body.to_vec()).unwrap();
    let lines = page.lines().filter_map(|line| line.strip_prefix("portcullis_worker_connections{worker="));
    let counts: Vec<f64> = lines.map(|line| line.split(' ').next_back().unwrap().parse().unwrap()).collect();
    let [one, other] = counts[..] else { panic!("{page}") };
    assert!(one + other == 64.0 && (one - other).abs() <= 17.0, "{counts:?}");
}

#[tokio::test]
async fn admin_and_redirect_listeners_can_be_inherited() {
    let ((redirect, to), (admin, at)) = (socket(), socket());
    let folder = folder();
    let sections = format!(
        "listeners: [{{address: 127.0.0.1:0}}, {{address: \"{to}\", {REDIRECT}}}]\nadmin: {{address: \"{at}\"}}"
    );
    write(&folder, &yaml(to, &ROUTES, &sections));
    let gateway = Gateway::start_inheriting(folder, &[&admin, &redirect], &[]);
    assert_eq!(Client::plain(to).get("/").await.status, 308);
    assert_eq!(Client::plain(at).get("/livez").await.status, 200);
    assert_eq!(Client::plain(gateway.address()).get("/").await.status, 200);
    gateway.log_line("using the listening socket of the service manager");
}

#[tokio::test]
async fn a_removed_listener_lets_its_connections_wait() {
    let (socket, address) = socket();
    let other = free_port();
    let folder = folder();
    let at = |listeners: &str| yaml(address, &ROUTES, &format!("listeners: [{listeners}]\nshutdown: {{drain: 1s}}"));
    let with = at(&format!("{{address: \"{address}\"}}"));
    write(&folder, &with);
    let gateway = Gateway::start_inheriting(folder, &[&socket], &[]);
    let mut kept = Client::plain(address).connect().await;
    assert_eq!(kept.send(request("GET", "/")).await.status, 200);
    gateway.reloads(&at(&format!("{{address: 127.0.0.1:{other}}}")));
    gateway.log_line(&format!("no listener has the address of the inherited socket {address} (`web`)"));
    within(kept.closed()).await;
    let mut waiting = Client::plain(address).connect().await;
    gateway.reloads(&with.replace("body: hello", "body: again"));
    assert_eq!(within(waiting.send(request("GET", "/"))).await.body, "again");
    assert!(TcpStream::connect(("127.0.0.1", other)).await.is_err(), "that one was the gateway's own");
}

#[tokio::test]
async fn a_reload_changes_all_but_the_socket_of_a_listener() {
    let (socket, address) = socket();
    let folder = folder();
    let at = |more: &str| yaml(address, &ROUTES, &format!("listeners: [{{address: \"{address}\"{more}}}]"));
    write(&folder, &at(""));
    let gateway = Gateway::start_inheriting(folder, &[&socket], &[]);
    assert_eq!(Client::plain(address).get("/").await.status, 200);
    gateway.reloads(&at(&format!(", {TLS}")));
    assert_eq!(Client::new(&gateway).get("/").await.status, 200);
    gateway.reloads(&at(&format!(", {REDIRECT}")));
    assert_eq!(Client::plain(address).get("/").await.status, 308);
}

/// The exit code 2 and this text.
#[track_caller]
fn refuses_start(folder: &Path, sockets: &[&TcpListener], text: &str) {
    let output = inheriting(folder, sockets).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains(text), "{told}");
}

#[test]
fn a_socket_that_fits_no_listener_refuses_the_start() {
    let ((one, first), (two, second)) = (socket(), socket());
    let folder = folder();
    write(&folder, &yaml(first, &ROUTES, &format!("listeners: [{{address: \"{first}\"}}]")));
    let unused = format!("inherited sockets {second} (`other`); it has {first}, 127.0.0.1:0");
    refuses_start(&folder, &[&one, &two], &unused);
    refuses_start(&folder, &[&one, &one], &format!("two inherited sockets have the address {first}"));
    fs::remove_dir_all(folder).unwrap();
}
