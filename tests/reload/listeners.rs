//! Listeners come and go with a reload, and their certificates change.

use std::fs;
use std::net::TcpListener;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::version::TLS13;
use tokio::net::TcpStream;

use crate::support::authority::Authority;
use crate::support::client::request;
use crate::support::gateway::folder;
use crate::support::port::free_port;
use crate::support::wire::within;
use crate::support::world::config;
use crate::support::{Client, Gateway, Upstream};
use crate::tls::{client, handshake};

const ROUTES: [&str; 1] = ["name: all, path: /**, access: public, respond: {body: hello}"];
const NOWHERE: &str = "127.0.0.1:9";

/// With a listener at each of these ports, and `shutdown.drain` of a second.
fn yaml(ports: &[u16]) -> String {
    let listeners: Vec<String> = ports.iter().map(|port| format!("{{address: 127.0.0.1:{port}}}")).collect();
    let sections = format!("workers: 2\nlisteners: [{}]\nshutdown: {{drain: 1s}}", listeners.join(", "));
    config(NOWHERE.parse().unwrap(), &ROUTES, &sections)
}

fn at(port: u16) -> Client {
    Client::plain(([127, 0, 0, 1], port).into())
}

#[tokio::test]
async fn a_new_listener_accepts_and_a_removed_one_drains() {
    let [first, second] = [free_port(), free_port()];
    let gateway = Gateway::start(&yaml(&[first]));
    let mut kept = at(first).connect().await;
    assert_eq!(kept.send(request("GET", "/")).await.status, 200);
    gateway.reloads(&yaml(&[first, second]));
    for _ in 0..8 {
        assert_eq!(at(second).get("/").await.status, 200);
    }
    assert_eq!(kept.send(request("GET", "/")).await.status, 200, "the connection is untouched");
    let mut other = at(second).connect().await;
    assert_eq!(other.send(request("GET", "/")).await.status, 200);
    gateway.reloads(&yaml(&[second]));
    within(kept.closed()).await;
    let refused = async {
        while TcpStream::connect(("127.0.0.1", first)).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    within(refused).await;
    assert_eq!(other.send(request("GET", "/")).await.status, 200);
    gateway.reloads(&yaml(&[first]));
    assert_eq!(at(first).get("/").await.status, 200, "it may come back");
}

#[tokio::test]
async fn a_request_on_a_removed_listener_ends_within_the_drain() {
    let upstream = Upstream::start().await;
    let [first, second] = [free_port(), free_port()];
    let yaml = |port: u16| {
        let sections = format!("listeners: [{{address: 127.0.0.1:{port}}}]\nshutdown: {{drain: 1s}}");
        config(upstream.address, &["name: all, path: /**, access: public"], &sections)
    };
    let gateway = Gateway::start(&yaml(first));
    // Its body never comes, so that only the end of the drain ends it.
    let mut stalled = crate::support::wire::Wire::new(TcpStream::connect(("127.0.0.1", first)).await.unwrap());
    stalled.send("POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n").await;
    gateway.reloads(&yaml(second));
    within(stalled.rest()).await;
    assert_eq!(at(second).get("/").await.status, 200);
}

#[tokio::test]
async fn a_taken_address_refuses_the_whole_reload() {
    let [first, second] = [free_port(), free_port()];
    let gateway = Gateway::start(&yaml(&[first]));
    let holder = TcpListener::bind(("127.0.0.1", second)).unwrap();
    let more = yaml(&[first, second]).replace("body: hello", "body: other");
    gateway.refuses_reload(&more, &format!("cannot listen on 127.0.0.1:{second}: another process has it"));
    assert_eq!(at(first).get("/").await.body, "hello");
    drop(holder);
    gateway.reloads(&more);
    assert_eq!((at(first).get("/").await.body, at(second).get("/").await.body), ("other".into(), "other".into()));
}

#[tokio::test]
async fn a_reload_changes_certificates_and_modes_for_new_connections() {
    let authority = Authority::new();
    let issued = ["a", "b"].map(|_| authority.issue(&["localhost"]));
    let folder = folder();
    fs::create_dir(folder.join("certs")).unwrap();
    for (name, issued) in ["a", "b"].iter().zip(&issued) {
        issued.write(&folder.join("certs"), name);
    }
    let port = free_port();
    let yaml = |tls: &str| {
        config(NOWHERE.parse().unwrap(), &ROUTES, &format!("listeners: [{{address: 127.0.0.1:{port}{tls}}}]"))
    };
    let with =
        |name: &str| yaml(&format!(", tls: {{certificates: [{{cert: certs/{name}.crt, key: certs/{name}.key}}]}}"));
    let gateway = Gateway::start_in(folder, &with("a"), &[]);
    let shown = async || {
        let stream = handshake(gateway.address(), client(&[&TLS13], &[]), "localhost").await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
    };
    let wanted = |at: usize| CertificateDer::from_pem_slice(issued[at].certificate.as_bytes()).unwrap();
    assert_eq!(shown().await, wanted(0));
    gateway.reloads(&with("b"));
    assert_eq!(shown().await, wanted(1));
    // In place: the reload takes it, without waiting for the watch.
    issued[0].write(&gateway.folder.join("certs"), "b");
    gateway.reloads(&with("b"));
    assert_eq!(shown().await, wanted(0));
    gateway.reloads(&yaml(""));
    assert_eq!(at(port).get("/").await.status, 200, "in clear text");
}

#[tokio::test]
async fn the_admin_listener_moves() {
    let port = free_port();
    let yaml = |admin: &str| config(NOWHERE.parse().unwrap(), &ROUTES, admin);
    let gateway = Gateway::start(&yaml("admin: {address: 127.0.0.1:0}"));
    gateway.reloads(&yaml(&format!("admin: {{address: 127.0.0.1:{port}, hosts: [gw.internal]}}")));
    assert_eq!(at(port).get("/config").await.status, 200);
    assert!(TcpStream::connect(gateway.admin.unwrap()).await.is_err());
    gateway.reloads(&yaml(&format!("admin: {{address: 127.0.0.1:{port}}}")));
    let named = crate::support::client::with_header(request("GET", "/livez"), "x-a", "b");
    assert_eq!(at(port).send(named).await.status, 200);
}
