//! Upstreams by TLS: who is at the other end is always checked, and a failed check is no answer.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::{HandshakeKind, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::authority::{Authority, Issued, listen_by_tls};
use crate::support::client::{request, with_body};
use crate::support::command::run;
use crate::support::gateway::{folder, program};
use crate::support::wire::{Wire, field};
use crate::support::world::config;
use crate::support::{Client, Gateway};

/// A service that answers every request with what the TLS session and the request told it.
struct Service {
    address: SocketAddr,
    /// Sessions that were resumed.
    resumed: Arc<AtomicUsize>,
    served: Arc<AtomicUsize>,
}

impl Service {
    async fn start(tls: Arc<ServerConfig>) -> Self {
        let (resumed, served) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counts = (Arc::clone(&resumed), Arc::clone(&served));
        let address = listen_by_tls(tls, move |stream| {
            let (resumed, served) = counts.clone();
            async move {
                let session = stream.get_ref().1;
                if session.handshake_kind() == Some(HandshakeKind::Resumed) {
                    resumed.fetch_add(1, Ordering::SeqCst);
                }
                let sni = session.server_name().unwrap_or("none").to_owned();
                let client = if session.peer_certificates().is_some() { "known" } else { "unknown" };
                let mut wire = Wire::new(stream);
                while let Some(head) = wire.head().await {
                    served.fetch_add(1, Ordering::SeqCst);
                    let length = field(&head, "content-length").map_or(0, |length| length.parse().unwrap());
                    let body = wire.take(length).await;
                    let said = format!("{sni} {client} {} {}", field(&head, "host").unwrap(), body.len());
                    let close = if head.contains("/close ") { "Connection: close\r\n" } else { "" };
                    wire.send(format!("HTTP/1.1 200 OK\r\n{close}Content-Length: {}\r\n\r\n{said}", said.len())).await;
                    if !close.is_empty() {
                        return;
                    }
                }
            }
        })
        .await;
        Self { address, resumed, served }
    }

    async fn showing(issued: &Issued) -> Self {
        Self::start(issued.config(&[b"http/1.1"], None)).await
    }

    fn served(&self) -> usize {
        self.served.load(Ordering::SeqCst)
    }
}

/// A folder with the authority's certificate in `ca.crt`.
fn trusting(authority: &Authority) -> PathBuf {
    let folder = folder();
    fs::write(folder.join("ca.crt"), &authority.certificate).unwrap();
    folder
}

fn yaml(upstream: &str) -> String {
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
    config(nowhere, &["path: /**, access: public, name: all"], &format!("upstreams: {{legacy: {upstream}}}"))
}

fn before(folder: PathBuf, host: &str, service: &Service, tls: &str) -> Gateway {
    let url = format!("https://{host}:{}", service.address.port());
    Gateway::start_in(folder, &yaml(&format!("{{servers: [\"{url}\"], tls: {{{tls}}}}}")), &[])
}

/// 502 by the rule, a line in the log that names the upstream and the cause, and no request gets through.
async fn is_refused(gateway: &Gateway, service: &Service, rule: &str, cause: &str) {
    is_unreachable(gateway, rule, cause).await;
    assert_eq!(service.served(), 0);
}

async fn is_unreachable(gateway: &Gateway, rule: &str, cause: &str) {
    for client in gateway.both() {
        let answer = client.get("/x").await;
        assert_eq!(answer.status, 502, "{answer:?}");
        let line = gateway.audit_of(answer.request_id());
        assert_eq!((&line["gateway.reason"], &line["gateway.rule"]), (&"upstream_connect".into(), &rule.into()));
        assert!(line["gateway.found"].is_string() && line["gateway.wanted"].is_string(), "{line}");
    }
    let line = gateway.log_line("cannot connect to a server of the upstream");
    assert!(line.contains(rule), "{line}");
    assert!(line.contains(cause) && line.contains("\"upstream.name\":\"legacy\""), "{line}");
}

/// A gateway that trusts only the certificates of this file.
fn trusting_only(pem: &str, service: &Service) -> Gateway {
    let folder = folder();
    fs::write(folder.join("ca.crt"), pem).unwrap();
    before(folder, "localhost", service, "ca: ca.crt")
}

#[tokio::test]
async fn a_tls_service_is_reached_by_name_and_by_address() {
    let authority = Authority::new();
    let service = Service::showing(&authority.issue(&["localhost", "127.0.0.1"])).await;
    for (host, sni) in [("localhost", "localhost"), ("127.0.0.1", "none")] {
        let gateway = before(trusting(&authority), host, &service, "ca: ca.crt");
        for client in gateway.both() {
            let said = client.send(with_body(request("POST", "/x"), vec![0; 100_000])).await;
            let expected = format!("{sni} unknown {host}:{} 100000", service.address.port());
            assert_eq!((said.status, &said.body[..]), (200, expected.as_bytes()));
        }
    }
}

#[tokio::test]
async fn server_name_stands_for_the_host_of_the_url_in_sni_and_host() {
    let authority = Authority::new();
    let service = Service::showing(&authority.issue(&["sim.internal"])).await;
    let gateway = before(trusting(&authority), "127.0.0.1", &service, "ca: ca.crt, server_name: sim.internal");
    let said = Client::new(&gateway).get("/x").await;
    assert_eq!(said.body, format!("sim.internal unknown sim.internal:{} 0", service.address.port()));
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let authority = Authority::new();
    let service = Service::showing(&authority.issue(&["other.internal", "127.0.0.2"])).await;
    for host in ["localhost", "127.0.0.1"] {
        let gateway = before(trusting(&authority), host, &service, "ca: ca.crt");
        is_refused(&gateway, &service, "tls_name", "is for `other.internal`, `127.0.0.2`, not for").await;
    }
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let authority = Authority::new();
    let service = Service::showing(&authority.issue_expired(&["localhost"])).await;
    let gateway = before(trusting(&authority), "localhost", &service, "ca: ca.crt");
    is_refused(&gateway, &service, "tls_expired", "has expired: it was valid until 2021-01-01").await;
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_refused() {
    let authority = Authority::new();
    let service = Service::showing(&Authority::new().issue(&["localhost"])).await;
    let gateway = before(trusting(&authority), "localhost", &service, "ca: ca.crt");
    is_refused(&gateway, &service, "tls_unknown_issuer", "an authority that is not trusted").await;
}

#[tokio::test]
async fn a_pinned_certificate_is_accepted_of_an_authority_or_not() {
    let authority = Authority::new();
    for issued in [
        Issued::by_itself(&["localhost"], true),
        Issued::by_itself(&["localhost"], false),
        authority.issue(&["localhost"]),
    ] {
        let service = Service::showing(&issued).await;
        let gateway = trusting_only(&issued.certificate, &service);
        assert_eq!(Client::new(&gateway).get("/x").await.status, 200);
        assert_eq!(service.served(), 1);
    }
}

#[tokio::test]
async fn a_pinned_certificate_verifies_only_itself() {
    let pinned = Issued::by_itself(&["localhost"], false);
    for other in [pinned.sign(&["localhost"]), Issued::by_itself(&["localhost"], false)] {
        let service = Service::showing(&other).await;
        let gateway = trusting_only(&pinned.certificate, &service);
        is_refused(&gateway, &service, "tls_unknown_issuer", "an authority that is not trusted").await;
    }
}

#[tokio::test]
async fn a_pinned_certificate_is_for_its_names_and_its_time() {
    let other = Issued::by_itself(&["other.internal"], true);
    let service = Service::showing(&other).await;
    let gateway = trusting_only(&other.certificate, &service);
    is_refused(&gateway, &service, "tls_name", "is for `other.internal`, not for `localhost`").await;
    let expired = Authority::new().issue_expired(&["localhost"]);
    let service = Service::showing(&expired).await;
    let gateway = trusting_only(&expired.certificate, &service);
    is_refused(&gateway, &service, "tls_expired", "has expired: it was valid until 2021-01-01").await;
}

#[tokio::test]
async fn a_server_that_refuses_the_handshake_is_reported_as_that() {
    for (alert, rule, cause) in [
        (0x28, "tls_cipher", "no cipher suite in common"),
        (0x46, "tls_version", "no TLS version in common"),
        (0x70, "tls_unknown_name", "does not know the name `localhost`"),
        (0x50, "tls_other", "InternalError"),
    ] {
        let address = crate::support::upstream::listen(move |mut stream| async move {
            let _ = stream.read(&mut [0; 2048]).await;
            let _ = stream.write_all(&[0x15, 3, 3, 0, 2, 2, alert]).await;
            while stream.read(&mut [0; 2048]).await.is_ok_and(|count| count > 0) {}
        })
        .await;
        let service = Service { address, resumed: Arc::default(), served: Arc::default() };
        let gateway = before(trusting(&Authority::new()), "localhost", &service, "ca: ca.crt");
        is_unreachable(&gateway, rule, cause).await;
    }
}

#[tokio::test]
async fn a_server_in_clear_text_is_reported_as_that() {
    let address = crate::support::upstream::listen(|mut stream| async move {
        let _ = stream.read(&mut [0; 2048]).await;
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
    })
    .await;
    let service = Service { address, resumed: Arc::default(), served: Arc::default() };
    let gateway = before(trusting(&Authority::new()), "localhost", &service, "ca: ca.crt");
    is_unreachable(&gateway, "tls_not_spoken", "the server does not speak TLS").await;
}

/// In TLS 1.2 the server refuses the handshake, in TLS 1.3 the connection behind it.
#[tokio::test]
async fn a_missing_client_certificate_is_reported_as_that() {
    use rustls::version::{TLS12, TLS13};
    let (authority, clients) = (Authority::new(), Authority::new());
    let issued = authority.issue(&["localhost"]);
    for version in [&TLS12, &TLS13] {
        for (alpn, protocol) in [(&b"http/1.1"[..], "http1"), (b"h2", "http2")] {
            let service = Service::start(issued.config_of(&[version], &[alpn], Some(&clients))).await;
            let upstream = format!(
                "{{servers: [\"https://localhost:{}\"], protocol: {protocol}, tls: {{ca: ca.crt}}}}",
                service.address.port()
            );
            let gateway = Gateway::start_in(trusting(&authority), &yaml(&upstream), &[]);
            let cause = "asks for a client certificate";
            is_refused(&gateway, &service, "tls_client_certificate_missing", cause).await;
        }
    }
}

#[tokio::test]
async fn a_refused_client_certificate_is_reported_as_that() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let service = Service::start(authority.issue(&["localhost"]).config(&[b"http/1.1"], Some(&clients))).await;
    let folder = trusting(&authority);
    Authority::new().issue(&["gateway"]).write(&folder, "gw");
    let gateway = before(folder, "localhost", &service, "ca: ca.crt, client_cert: gw.crt, client_key: gw.key");
    is_refused(&gateway, &service, "tls_client_certificate_refused", "refuses the client certificate").await;
}

#[tokio::test]
async fn a_service_that_speaks_no_tls_is_refused() {
    let clear = crate::support::wire::RawUpstream::saying("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let authority = Authority::new();
    let service = Service { address: clear.address, resumed: Arc::default(), served: Arc::default() };
    let gateway = before(trusting(&authority), "localhost", &service, "ca: ca.crt");
    // It reads a handshake, which is no head: it waits, and so does the gateway, until the time is up.
    assert!([502, 504].contains(&Client::new(&gateway).get("/x").await.status));
}

#[tokio::test]
async fn a_service_that_asks_for_a_certificate_gets_ours() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let issued = authority.issue(&["localhost"]);
    let service = Service::start(issued.config(&[b"http/1.1"], Some(&clients))).await;
    let folder = trusting(&authority);
    clients.issue(&["gateway"]).write(&folder, "gw");
    let tls = "ca: ca.crt, client_cert: gw.crt, client_key: gw.key";
    let gateway = before(folder, "localhost", &service, tls);
    let said = Client::new(&gateway).get("/x").await;
    assert_eq!(said.body, format!("localhost known localhost:{} 0", service.address.port()));
    let bare = before(trusting(&authority), "localhost", &service, "ca: ca.crt");
    let answer = Client::new(&bare).get("/x").await;
    assert_eq!((answer.status, service.served()), (502, 1));
}

#[tokio::test]
async fn sessions_are_resumed() {
    let authority = Authority::new();
    let service = Service::showing(&authority.issue(&["localhost"])).await;
    let gateway = before(trusting(&authority), "localhost", &service, "ca: ca.crt");
    for _ in 0..3 {
        assert_eq!(Client::new(&gateway).get("/close").await.status, 200);
    }
    assert_eq!(service.resumed.load(Ordering::SeqCst), 2);
}

#[test]
fn a_key_that_everyone_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    let authority = Authority::new();
    authority.issue(&["gateway"]).write(&folder, "gw");
    let tls = "tls: {client_cert: gw.crt, client_key: gw.key}";
    fs::write(folder.join("gateway.yaml"), yaml(&format!("{{servers: [\"https://127.0.0.1\"], {tls}}}"))).unwrap();
    fs::set_permissions(folder.join("gw.key"), fs::Permissions::from_mode(0o604)).unwrap();
    let told = run(program(&folder).arg("check"));
    assert_eq!(told.code, Some(2));
    assert!(told.stderr.contains("can be read by everyone (mode 604)"), "{}", told.stderr);
    authority.issue(&["other"]).write(&folder, "other");
    fs::copy(folder.join("other.key"), folder.join("gw.key")).unwrap();
    fs::set_permissions(folder.join("gw.key"), fs::Permissions::from_mode(0o604)).unwrap();
    let told = run(program(&folder).arg("check"));
    assert!(told.stderr.contains("can be read by everyone (mode 604)"), "before it is read: {}", told.stderr);
    fs::set_permissions(folder.join("gw.key"), fs::Permissions::from_mode(0o600)).unwrap();
    let told = run(program(&folder).arg("check"));
    assert!(told.stderr.contains("is not the one of the certificate"), "{}", told.stderr);
}
