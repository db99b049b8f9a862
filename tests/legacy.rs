//! Old servers serve browsers through the gateway as they do without it.
//!
//! `tests/legacy/` has the servers, which `serve.py` runs, and the sessions of a browser, `walk.py`. Each walk goes
//! straight to its server, and then through the gateway, under a prefix and over TLS, by HTTP/1.1 and by HTTP/2: every
//! request, cookie, status and page must be the same. See [`crate::outside`] for the installation.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::outside::{installed, outside, python, timed};
use crate::support::client::request;
use crate::support::command::run;
use crate::support::port::free_port;
use crate::support::world::{SECRET, config};
use crate::support::{Client, Gateway};

/// An old server. Dropped, it ends with all of its processes.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    /// Waits until it accepts connections. `None` if it is not installed.
    #[track_caller]
    fn start(program: &str, is_there: bool, variables: &[(&str, String)]) -> Option<Self> {
        let test = format!("{program}, walked by a browser");
        let (mut python, port) = (python(&test, "../legacy/serve.py")?, free_port());
        let httpx = Command::new(python.get_program()).args(["-c", "import httpx, h2"]).output();
        let has_browser = httpx.is_ok_and(|output| output.status.success());
        if !(installed(&test, "httpx with HTTP/2", has_browser) && installed(&test, program, is_there)) {
            return None;
        }
        python.args([program, &port.to_string()]).current_dir(outside()).env("PYTHONDONTWRITEBYTECODE", "1");
        python.envs(variables.iter().map(|(name, value)| (name, value)));
        python.stdin(Stdio::piped()).stdout(Stdio::piped());
        timed(&format!("{program} starts"), || {
            let mut child = python.spawn().unwrap();
            let mut line = String::new();
            BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
            let server = Self { child, port };
            assert!(line.contains("port"), "{program} does not start");
            Some(server)
        })
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The end of its input.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// The steps, each with what came of it.
type Walk = Vec<(String, Value)>;

/// Has a browser walk the server under this base.
#[track_caller]
fn walk(program: &str, base: &str, variables: &[(&str, &Path)]) -> Walk {
    let mut browser = python(program, "../legacy/walk.py").unwrap();
    browser.arg(program).current_dir(outside()).env("BASE", base).env("PYTHONDONTWRITEBYTECODE", "1");
    browser.envs(variables.iter().copied());
    let done = timed(&format!("{program} is walked"), || run(&mut browser));
    assert_eq!(done.code, Some(0), "{program} at {base}: {}{}", done.stdout, done.stderr);
    serde_json::from_str(&done.stdout).unwrap_or_else(|_| panic!("not JSON: {}", done.stdout))
}

/// The walk through the gateway over each version of HTTP.
#[track_caller]
fn walks(program: &str, gateway: &Gateway) -> [Walk; 2] {
    let base = format!("https://localhost:{}/old", gateway.address().port());
    let ca = gateway.folder.join("certs/localhost.crt");
    let variables = [("CA", &*ca), ("HTTP2", Path::new("1"))];
    [&variables[..1], &variables[..]].map(|variables| walk(program, &base, variables))
}

/// Every step has the same outcome. Gives the walk.
#[track_caller]
fn is_as_straight(program: &str, server: &Server, gateway: &Gateway) -> Walk {
    let host = if program == "apache" { "legacy.internal" } else { "127.0.0.1" };
    let straight = walk(program, &format!("http://{host}:{}", server.port), &[]);
    for through in walks(program, gateway) {
        same(&straight, &through, gateway);
    }
    straight
}

#[track_caller]
fn same(straight: &Walk, through: &Walk, gateway: &Gateway) {
    for (straight, through) in straight.iter().zip(through) {
        assert_eq!(straight, through, "\n{}", gateway.audit_text());
    }
    assert_eq!(straight.len(), through.len());
}

/// A gateway under `/old`, which the server does not know of.
fn before(server: &Server, route: &str, upstream: &str) -> Gateway {
    let upstreams = format!("upstreams: {{legacy: {{servers: [\"http://{}\"]{upstream}}}}}", server.address());
    let route = format!("path: /old/**, strip_prefix: /old, access: public{route}");
    Gateway::start(&config(server.address(), &[&route], &upstreams))
}

/// The status of the last page of a step, and its text.
#[track_caller]
fn page<'a>(walk: &'a Walk, step: &str) -> (u64, &'a str) {
    let (_, outcome) = walk.iter().find(|(name, _)| name == step).unwrap();
    let last = outcome["steps"].as_array().unwrap().last().unwrap();
    (last["status"].as_u64().unwrap(), outcome["page"].as_str().unwrap())
}

fn exists(path: &str) -> bool {
    Path::new(path).exists()
}

fn runs(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

#[test]
fn apache_httpd_with_cgi_and_passwords_is_as_without_a_gateway() {
    let Some(server) = Server::start("apache", exists("/usr/sbin/apache2"), &[]) else { return };
    let name = format!(", host: {{name: \"legacy.internal:{}\"}}", server.port);
    let gateway = before(&server, ", paths: {allow: [encoded_slash]}", &name);
    let walk = is_as_straight("apache", &server, &gateway);
    assert_eq!(page(&walk, "login"), (200, "cookies: session=ali, site=everywhere\n"));
    assert_eq!(page(&walk, "members, without a slash"), (200, "<h1>Members</h1>\n"));
    assert_eq!(page(&walk, "slash in a name"), (200, "GET /items/a%2Fb\n"));
}

#[test]
fn tomcat_with_sessions_in_urls_is_as_without_a_gateway() {
    let is_there = exists("/usr/share/tomcat10/bin/bootstrap.jar") && runs("java");
    let Some(server) = Server::start("tomcat", is_there, &[]) else { return };
    let gateway = before(&server, ", paths: {allow: [semicolon]}", "");
    let walk = is_as_straight("tomcat", &server, &gateway);
    assert_eq!(page(&walk, "account, login"), (200, "<h1>Account</h1>\n"));
    let (status, text) = page(&walk, "without cookies, refresh");
    assert_eq!((status, text.contains("Items: pen pen book")), (200, true), "{text}");
}

#[test]
fn the_server_of_php_is_as_without_a_gateway() {
    let Some(server) = Server::start("php", runs("php"), &[]) else { return };
    let walk = is_as_straight("php", &server, &before(&server, "", ""));
    assert!(page(&walk, "login").1.contains("Hello, ali"), "{walk:?}");
}

#[test]
fn a_wsgi_server_without_chunks_gets_whole_bodies() {
    let Some(server) = Server::start("wsgi", true, &[]) else { return };
    let gateway = before(&server, ", buffer_request: 128KiB", "");
    let mut straight = walk("wsgi", &format!("http://{}", server.address()), &[]);
    assert_eq!(page(&straight, "upload without a length").0, 411);
    straight.pop();
    let upload = straight.iter().find(|(step, _)| step == "upload").unwrap().1.clone();
    straight.push(("upload without a length".to_owned(), upload));
    for through in walks("wsgi", &gateway) {
        same(&straight, &through, &gateway);
    }
}

#[test]
fn node_with_short_keep_alive_is_as_without_a_gateway() {
    let Some(server) = Server::start("node", runs("node"), &[]) else { return };
    let walk = is_as_straight("node", &server, &before(&server, "", ""));
    assert_eq!(page(&walk, "login"), (200, "GET /app/home, cookies: user=ali\n"));
}

/// Node announces `Keep-Alive: timeout=5`.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_node_may_close_soon_is_not_used() {
    let Some(server) = Server::start("node", runs("node"), &[]) else { return };
    let gateway = before(&server, "", "");
    let client = Client::new(&gateway);
    let connection = async || client.send(request("POST", "/old/app/connection")).await.body;
    assert_eq!([connection().await, connection().await], ["connection 1\n", "connection 1\n"]);
    // The clock of the service tells when 4.3 s have gone by, over connection 2.
    let later = run(Command::new("curl").args(["--silent", &format!("http://{}/pause", server.address())]));
    assert_eq!(later.stdout, "4.3 s later\n", "{later:?}");
    assert_eq!(connection().await, "connection 3\n", "{}", gateway.audit_text());
}

/// Behind nginx, which terminates TLS: once before PHP, once before the gateway before PHP.
#[tokio::test(flavor = "multi_thread")]
async fn behind_nginx_all_is_as_without_a_gateway() {
    let Some(server) = Server::start("php", runs("php"), &[]) else { return };
    let sections = "listeners: [{address: 127.0.0.1:0, believe: [scheme, host, port]}]
trusted_proxies: [127.0.0.1]
oauth: {issuer: https://localhost:8443, audiences: [https://api.example.com], signing_keys: {algorithm: ES256},
  clients: {app: {secrets: [{value: correct horse battery staple}], scopes: [read:data]}}}";
    let route = "path: /**, hosts: [localhost], host: preserve, access: public";
    let gateway = Gateway::start(&config(server.address(), &[route], sections));
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (gateway.folder.join("nginx.crt"), gateway.folder.join("nginx.key"));
    std::fs::write(&certificate, pair.cert.pem()).unwrap();
    std::fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
    let balancer = |behind: u16| {
        let files = [("CERTIFICATE", &certificate), ("KEY", &key)];
        let mut variables = files.map(|(name, file)| (name, file.display().to_string())).to_vec();
        variables.push(("BEHIND", behind.to_string()));
        Server::start("nginx", exists("/usr/sbin/nginx"), &variables)
    };
    let servers = (balancer(server.port), balancer(gateway.address().port()));
    let (Some(before_php), Some(before_gateway)) = servers else { return };
    let [straight, through] = [&before_php, &before_gateway].map(|nginx| {
        [None, Some(("HTTP2", Path::new("1")))].map(|http2| {
            let variables: Vec<_> = [("CA", &*certificate)].into_iter().chain(http2).collect();
            walk("nginx", &format!("https://localhost:{}", nginx.port), &variables)
        })
    });
    for (straight, through) in straight.iter().zip(&through) {
        same(straight, through, &gateway);
    }
    let (status, text) = page(&straight[0], "secure, again");
    assert_eq!((status, text), (200, "BASE/secure.php, the same port\n"));
    // Secrets came to the gateway in clear text, but to nginx by TLS.
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--cacert"]).arg(&certificate).args(["-u", &format!("app:{SECRET}")]);
    let url = format!("https://localhost:{}/oauth/token", before_gateway.port);
    let granted = run(curl.args(["-d", "grant_type=client_credentials", &url]));
    assert!(granted.stdout.contains("access_token"), "{granted:?}");
}

/// The password of the service stays between the gateway and the service; the caller has a token.
#[tokio::test(flavor = "multi_thread")]
async fn apache_httpd_gets_the_password_from_the_gateway() {
    let Some(server) = Server::start("apache", exists("/usr/sbin/apache2"), &[]) else { return };
    let upstreams = format!(
        "upstreams: {{legacy: {{servers: [\"http://{}\"], authorization: {{basic: {{user: ali, password: open sesame}}}}}}}}",
        server.address()
    );
    let route = "path: /members/**, access: {scopes: [read:data]}";
    let gateway = Gateway::start(&config(server.address(), &[route], &upstreams));
    let client = Client::new(&gateway);
    let token = client.granted("app", SECRET, "scope=read:data").await;
    let answer = client.get_with("/members/", &token).await;
    assert_eq!((answer.status, &*answer.body), (200, &b"<h1>Members</h1>\n"[..]));
    assert_eq!(client.get("/members/").await.status, 401);
    assert!(!gateway.log_text().contains("sesame") && !gateway.audit_text().contains("sesame"));
}
