//! Client certificates: the handshake that asks for them, sessions that are resumed, new authorities, and proxies that
//! state the certificates of their clients.

mod authentication;
mod open_connections;
mod outside;
mod statements;
mod tokens;

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderValue, Request};
use http_body_util::Full;
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind, SupportedProtocolVersion};

use crate::support::authority::{Authority, Issued};
use crate::support::client::{Connection, request, with_body, with_header};
use crate::support::gateway::folder;
use crate::support::world::config;
use crate::support::{Answer, Client, Gateway, Upstream};
use crate::tls::{client, handshake};

const URI: &str = "spiffe://example.com/app";
const NEVER: Option<&Issued> = None;

/// A gateway with a listener that asks for certificates, and another by TLS that does not.
struct Mutual {
    gateway: Gateway,
    authority: Authority,
    upstream: Upstream,
}

/// The TLS of a listener with these keys.
fn listener(keys: &str) -> String {
    let certificates = "certificates: [{cert: certs/localhost.crt, key: certs/localhost.key, self_signed: true}]";
    format!("{{address: 127.0.0.1:0, tls: {{{certificates}{keys}}}}}")
}

fn asking(mode: &str) -> String {
    let ca = if mode == "none" { "" } else { ", ca: ca.crt" };
    listener(&format!(", client_auth: {{mode: {mode}{ca}}}"))
}

impl Mutual {
    /// With this mode, and a public `/x`.
    async fn start(mode: &str) -> Self {
        Self::with(mode, &["path: /x, access: public"], "").await
    }

    async fn with(mode: &str, routes: &[&str], sections: &str) -> Self {
        let listeners = format!("listeners: [{}, {}]\n{sections}", asking(mode), listener(""));
        Self::with_listeners(routes, &listeners).await
    }

    async fn with_listeners(routes: &[&str], sections: &str) -> Self {
        let (authority, upstream, folder) = (Authority::new(), Upstream::start().await, folder());
        fs::write(folder.join("ca.crt"), &authority.certificate).unwrap();
        let yaml = config(upstream.address, routes, sections);
        Self { gateway: Gateway::start_in(folder, &yaml, &[]), authority, upstream }
    }

    fn issue(&self, name: &str) -> Issued {
        self.authority.issue_to(name, &format!("{name}.example.com"), &format!("spiffe://example.com/{name}"))
    }

    /// Its configuration.
    fn yaml(&self) -> String {
        fs::read_to_string(self.gateway.folder.join("gateway.yaml")).unwrap()
    }

    /// The listener that asks for certificates.
    fn asking(&self) -> SocketAddr {
        self.gateway.addresses[0]
    }

    /// The listener that does not.
    fn other(&self) -> SocketAddr {
        self.gateway.addresses[1]
    }
}

/// A client that presents this certificate where it is asked for one. It resumes its sessions.
fn presenting<'i>(issued: impl Into<Option<&'i Issued>>, alpn: &str) -> Arc<ClientConfig> {
    presenting_by(issued, &[&TLS13, &TLS12], alpn)
}

fn presenting_by<'i>(
    issued: impl Into<Option<&'i Issued>>,
    versions: &[&'static SupportedProtocolVersion],
    alpn: &str,
) -> Arc<ClientConfig> {
    let mut config = client(versions, &[alpn]);
    if let Some(issued) = issued.into() {
        config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(issued.pair()));
    }
    Arc::new(config)
}

async fn connect(to: SocketAddr, by: &Arc<ClientConfig>) -> std::io::Result<Connection> {
    Client::over(handshake(to, Arc::clone(by), "localhost").await?).await
}

/// `None` if the connection is refused. Over TLS 1.3 a client learns of it only when it reads.
async fn ask(to: SocketAddr, by: &Arc<ClientConfig>, request: Request<Full<Bytes>>) -> Option<Answer> {
    connect(to, by).await.ok()?.try_send(request).await.ok()
}

async fn status(to: SocketAddr, by: &Arc<ClientConfig>) -> Option<u16> {
    ask(to, by, request("GET", "/x")).await.map(|answer| answer.status)
}

/// `x5t#S256` of a certificate.
fn thumbprint(issued: &Issued) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, &issued.der()))
}

/// The value of `Client-Cert`.
fn statement(issued: &Issued) -> String {
    format!(":{}:", STANDARD.encode(issued.der()))
}

/// A token request without credentials but these parameters.
fn token_request(parameters: &str) -> Request<Full<Bytes>> {
    let form = "application/x-www-form-urlencoded";
    let request = with_header(request("POST", "/oauth/token"), "content-type", form);
    with_body(request, format!("grant_type=client_credentials&{parameters}"))
}

fn access_token(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["access_token"].as_str().unwrap().to_owned()
}

fn with_bearer(token: &str) -> Request<Full<Bytes>> {
    let mut request = request("GET", "/bound");
    request.headers_mut().insert("authorization", HeaderValue::try_from(format!("Bearer {token}")).unwrap());
    request
}

#[tokio::test]
async fn a_required_certificate_is_demanded() {
    let mutual = Mutual::start("required").await;
    let good = mutual.issue("app");
    let foreign = Authority::new().issue_to("app", "app.example.com", URI);
    let (expired, own) = (mutual.authority.issue_expired(&["a"]), Issued::by_itself(&["a"], false));
    for alpn in ["http/1.1", "h2"] {
        for versions in [[&TLS12].as_slice(), &[&TLS13]] {
            let answer = async |issued| status(mutual.asking(), &presenting_by(issued, versions, alpn)).await;
            assert_eq!(answer(Some(&good)).await, Some(200), "{alpn} {versions:?}");
            for bad in [NEVER, Some(&foreign), Some(&expired), Some(&own)] {
                assert_eq!(answer(bad).await, None, "{alpn} {versions:?} {:?}", bad.map(thumbprint));
            }
        }
    }
    assert_eq!(mutual.upstream.seen().len(), 4);
    assert_eq!(status(mutual.other(), &presenting(None, "h2")).await, Some(200), "another listener asks for none");
}

#[tokio::test]
async fn an_optional_certificate_may_be_absent_but_not_wrong() {
    let mutual = Mutual::start("optional").await;
    let (good, foreign) = (mutual.issue("app"), Authority::new().issue_to("app", "app.example.com", URI));
    for alpn in ["http/1.1", "h2"] {
        assert_eq!(status(mutual.asking(), &presenting(&good, alpn)).await, Some(200));
        assert_eq!(status(mutual.asking(), &presenting(None, alpn)).await, Some(200));
        assert_eq!(status(mutual.asking(), &presenting(&foreign, alpn)).await, None);
        assert_eq!(status(mutual.asking(), &presenting(&mutual.authority.issue_expired(&["a"]), alpn)).await, None);
    }
}

#[tokio::test]
async fn mode_none_asks_for_no_certificate() {
    let mutual = Mutual::start("none").await;
    let foreign = Authority::new().issue_to("app", "app.example.com", URI);
    assert_eq!(status(mutual.asking(), &presenting(&foreign, "h2")).await, Some(200));
}

/// The kind of a handshake. The session is not used, but its ticket is read.
async fn kind(to: SocketAddr, by: &Arc<ClientConfig>) -> Option<HandshakeKind> {
    let stream = handshake(to, Arc::clone(by), "localhost").await.ok()?;
    let kind = stream.get_ref().1.handshake_kind();
    let mut connection: Connection = Client::over(stream).await.ok()?;
    connection.try_send(request("GET", "/x")).await.ok()?;
    kind
}

#[tokio::test]
async fn a_session_is_resumed_by_the_listener_that_began_it() {
    let mutual = Mutual::start("required").await;
    let app = mutual.issue("app");
    for versions in [[&TLS12].as_slice(), &[&TLS13]] {
        let by = presenting_by(&app, versions, "h2");
        assert_eq!(kind(mutual.asking(), &by).await, Some(HandshakeKind::Full));
        assert_eq!(kind(mutual.asking(), &by).await, Some(HandshakeKind::Resumed));
        // A session without a certificate does not replace one with it, and the reverse.
        let by = presenting_by(&app, versions, "h2");
        assert_eq!(kind(mutual.other(), &by).await, Some(HandshakeKind::Full));
        assert_eq!(kind(mutual.asking(), &by).await, Some(HandshakeKind::Full));
        assert_eq!(kind(mutual.other(), &by).await, Some(HandshakeKind::Full));
    }
}

#[tokio::test]
async fn new_authorities_count_for_new_connections_and_sessions() {
    let mutual = Mutual::start("required").await;
    let (by_watch, by_reload) = (Authority::new(), Authority::new());
    let mut old = presenting(&mutual.issue("app"), "http/1.1");
    for (authority, reload) in [(&by_watch, false), (&by_reload, true)] {
        let mut kept = connect(mutual.asking(), &old).await.unwrap();
        assert_eq!(kept.send(request("GET", "/x")).await.status, 200);
        assert_eq!(kind(mutual.asking(), &old).await, Some(HandshakeKind::Resumed));
        let file = mutual.gateway.folder.join("ca.crt");
        fs::write(file.with_extension("new"), &authority.certificate).unwrap();
        fs::rename(file.with_extension("new"), file).unwrap();
        if reload {
            let end = mutual.gateway.reload_file();
            assert!(end.contains("the configuration was reloaded"), "{end}");
        } else {
            mutual.gateway.log_line("a changed certificate is in use for new connections");
        }
        assert_eq!(kind(mutual.asking(), &old).await, None, "its session is not resumed");
        assert_eq!(kept.send(request("GET", "/x")).await.status, 200, "open connections stay");
        old = presenting(&authority.issue_to("app", "app.example.com", URI), "http/1.1");
        assert_eq!(kind(mutual.asking(), &old).await, Some(HandshakeKind::Full));
    }
}

#[tokio::test]
async fn a_file_without_authorities_leaves_those_in_use() {
    let mutual = Mutual::start("required").await;
    let by = presenting(&mutual.issue("app"), "h2");
    fs::write(mutual.gateway.folder.join("ca.crt"), &mutual.issue("leaf").certificate).unwrap();
    mutual.gateway.log_line("cannot use a changed certificate");
    assert_eq!(status(mutual.asking(), &by).await, Some(200));
    let end = mutual.gateway.reload_file();
    assert!(end.contains("the configuration was not reloaded"), "{end}");
    assert_eq!(status(mutual.asking(), &by).await, Some(200));
}

#[tokio::test]
async fn a_reload_that_changes_the_mode_counts_for_new_connections() {
    let mutual = Mutual::start("optional").await;
    let yaml = fs::read_to_string(mutual.gateway.folder.join("gateway.yaml")).unwrap();
    let without = presenting(None, "h2");
    assert_eq!(status(mutual.asking(), &without).await, Some(200));
    mutual.gateway.reloads(&yaml.replace("mode: optional", "mode: required"));
    assert_eq!(status(mutual.asking(), &without).await, None, "a session without a certificate is not resumed");
    mutual.gateway.reloads(&yaml.replace("mode: optional, ca: ca.crt", "mode: none"));
    assert_eq!(status(mutual.asking(), &without).await, Some(200));
}

#[tokio::test]
async fn a_certificate_is_presented_for_one_host() {
    let mutual = Mutual::with("optional", &["path: /x, access: public"], "").await;
    let app = mutual.issue("app");
    let for_host = |host: &str| {
        let uri = format!("https://{host}/x");
        Request::builder().uri(uri).header("host", host).body(Full::<Bytes>::default()).unwrap()
    };
    for alpn in ["http/1.1", "h2"] {
        for (issued, host, expected) in [
            (Some(&app), "localhost", 200),
            (Some(&app), "localhost.:8443", 200),
            (Some(&app), "other.example", 421),
            (Some(&app), "127.0.0.1", 421),
            (None, "other.example", 200),
        ] {
            let answer = ask(mutual.asking(), &presenting(issued, alpn), for_host(host)).await.unwrap();
            assert_eq!(answer.status, expected, "{alpn} {host} {}", issued.is_some());
            if expected == 421 {
                let line = mutual.gateway.audit_of(answer.request_id());
                assert_eq!(
                    (&line["gateway.reason"], &line["gateway.rule"]),
                    (&"bad_request".into(), &"server_name".into())
                );
            }
        }
    }
    // Without SNI the client has named no host.
    let stream = handshake(mutual.asking(), presenting(&app, "http/1.1"), "127.0.0.1").await.unwrap();
    let mut connection: Connection = Client::over(stream).await.unwrap();
    assert_eq!(connection.send(for_host("other.example")).await.status, 200);
}
