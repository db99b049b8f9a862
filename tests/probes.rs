//! The listeners of the control plane on addresses that others can reach: probes alone, and an admin listener for the
//! networks of `allow_from`.

use std::net::SocketAddr;

use tokio::net::TcpStream;

use crate::support::command::run;
use crate::support::gateway::{folder, program};
use crate::support::port::free_port;
use crate::support::wire::{Wire, within};
use crate::support::world::config;
use crate::support::{Client, Gateway, Upstream};

/// On every address of the machine.
async fn everywhere(sections: &str) -> Gateway {
    let upstream = Upstream::start().await;
    Gateway::open(upstream.address, sections)
}

/// The status and body of this page. `None` if the connection was closed without an answer.
async fn page(address: SocketAddr, path: &str, fields: &str) -> Option<(u16, String)> {
    let local = SocketAddr::from(([127, 0, 0, 1], address.port()));
    let mut wire = Wire::new(TcpStream::connect(local).await.unwrap());
    wire.send(format!("GET {path} HTTP/1.1\r\nHost: {local}\r\n{fields}Connection: close\r\n\r\n")).await;
    let answer = within(wire.answer()).await?;
    Some((answer.status, String::from_utf8(answer.body).unwrap()))
}

#[tokio::test]
async fn probes_are_served_alone_on_any_address_and_to_any_name() {
    let sections = "probes: {address: 0.0.0.0:0}\nissuers: {corp: {issuer: https://127.0.0.1:1, audiences: [api]}}";
    let mut gateway = everywhere(&format!("{sections}\nshutdown: {{delay: 1h}}")).await;
    let (admin, probes) = (gateway.admin.unwrap(), gateway.probes.unwrap());
    gateway.log_line("cannot refresh the JWK Set");
    assert!(page(admin, "/readyz", "").await.unwrap().1.contains("issuer `corp` is unreachable"));
    for fields in ["", "X-Forwarded-For: 203.0.113.9\r\n"] {
        for path in ["/livez", "/readyz"] {
            assert_eq!(page(probes, path, fields).await, Some((200, "ok\n".to_owned())), "without remarks");
        }
    }
    for path in ["/metrics", "/issuers", "/", "/x"] {
        assert_eq!(page(probes, path, "").await, Some((404, "try /livez or /readyz\n".to_owned())), "{path}");
    }
    let mut wire = Wire::new(TcpStream::connect(("127.0.0.1", probes.port())).await.unwrap());
    wire.send("GET /livez HTTP/1.1\r\nHost: gateway.example\r\n\r\n").await;
    assert_eq!(within(wire.answer()).await.unwrap().status, 200);
    gateway.signal("TERM");
    gateway.log_line("shutting down");
    let unready = async { while page(probes, "/readyz", "").await != Some((503, "shutting down\n".to_owned())) {} };
    within(unready).await;
    assert_eq!(page(probes, "/livez", "").await, Some((200, "ok\n".to_owned())));
    gateway.stop();
}

/// Otherwise anyone could have the process restarted.
#[tokio::test]
async fn idle_connections_do_not_keep_a_probe_from_its_answer() {
    let gateway = everywhere("probes: {address: 0.0.0.0:0}").await;
    let probes = gateway.probes.unwrap();
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(TcpStream::connect(("127.0.0.1", probes.port())).await.unwrap());
    }
    assert_eq!(page(probes, "/livez", "").await, Some((200, "ok\n".to_owned())));
}

#[tokio::test]
async fn an_open_admin_listener_serves_probes_and_metrics_only() {
    let gateway = everywhere("admin: {address: 0.0.0.0:0, allow_from: [127.0.0.1, 10.0.0.0/8]}").await;
    let admin = gateway.admin.unwrap();
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(page(admin, path, "").await.unwrap().0, 200, "{path}");
    }
    let (status, text) = page(admin, "/issuers", "").await.unwrap();
    assert_eq!(status, 404, "{text}");
    assert!(text.contains("on a loopback address only"), "{text}");
    let said = run(program(&gateway.folder).arg("issuers"));
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.stderr.contains("shows issuers on a loopback address only"), "{}", said.stderr);
}

#[tokio::test]
async fn an_admin_listener_admits_by_the_socket_alone() {
    let sections = "admin: {address: 0.0.0.0:0, allow_from: [10.0.0.0/8]}\ntrusted_proxies: [127.0.0.0/8]";
    let gateway = everywhere(sections).await;
    for fields in ["", "X-Forwarded-For: 10.0.0.1\r\n", "Forwarded: for=10.0.0.1\r\n", "X-Real-IP: 10.0.0.1\r\n"] {
        assert_eq!(page(gateway.admin.unwrap(), "/livez", fields).await, None, "{fields}");
    }
    let log = gateway.log_line("the addresses are not in `admin.allow_from`");
    assert!(log.contains("\"network.peer.address\":\"127.0.0.1\""), "{log}");
    assert_eq!(Client::new(&gateway).get("/x").await.status, 200);
}

#[test]
fn check_shows_open_listeners_and_warns_of_them() {
    let folder = folder();
    let checked = |sections: &str| {
        let yaml = config("127.0.0.1:9".parse().unwrap(), &["path: /x, access: public"], sections);
        std::fs::write(folder.join("gateway.yaml"), yaml).unwrap();
        run(program(&folder).arg("check"))
    };
    let admin = "admin: {address: 0.0.0.0:9901, allow_from: [10.0.0.7], hosts: [gateway.internal]}";
    let said = checked(&format!("{admin}\nprobes: {{address: '[::]:9902'}}"));
    assert_eq!((said.code, &*said.stderr), (Some(0), ""));
    for shown in [
        "0.0.0.0:9901 http, without authentication from 10.0.0.7/32, by the name gateway.internal",
        "[::]:9902 http, /livez and /readyz only",
    ] {
        assert!(said.stdout.contains(shown), "{shown}:\n{}", said.stdout);
    }
    let said = checked("admin: {address: 0.0.0.0:9901, allow_from: [0.0.0.0/0]}");
    assert_eq!(said.code, Some(0));
    assert!(said.stderr.contains("everyone can read the metrics"), "{}", said.stderr);
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn health_asks_the_running_gateway_by_its_probes() {
    let port = free_port();
    let mut gateway = everywhere(&format!("probes: {{address: 0.0.0.0:{port}}}\nshutdown: {{delay: 1h}}")).await;
    let folder = gateway.folder.clone();
    let ask = |arguments: &[&str]| {
        let said = run(program(&folder).arg("health").args(arguments));
        (said.code, said.stdout)
    };
    assert_eq!(ask(&[]), (Some(0), "ok\n".to_owned()));
    assert_eq!(ask(&["--ready"]), (Some(0), "ok\n".to_owned()));
    gateway.signal("TERM");
    gateway.log_line("shutting down");
    while ask(&["--ready"]).0 == Some(0) {}
    assert_eq!(ask(&["--ready"]), (Some(1), "shutting down\n".to_owned()));
    assert_eq!(ask(&[]), (Some(0), "ok\n".to_owned()), "it is alive while it drains");
    gateway.signal("KILL");
    gateway.wait();
    let said = run(program(&folder).arg("health"));
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.stderr.contains(&format!("no gateway answers at 127.0.0.1:{port}")), "{said:?}");
}
