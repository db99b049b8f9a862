//! Clients that we did not write and did not change get tokens without a shared secret, and bound to their keys; agents
//! with the MCP SDKs find everything by the first 401. As in `outside.rs`, a program that is not installed is left out.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::outside::{SECRET, installed, name_of, node, outside, python, runs, timed};
use crate::support::authority::Authority;
use crate::support::command::{run, run_with};
use crate::support::gateway::{folder, program};
use crate::support::port::free_port;
use crate::support::{Gateway, Upstream};

/// A gateway with a client that has a secret, one that has a key, and one that has a certificate.
struct Callers {
    gateway: Gateway,
    _upstream: Upstream,
    origin: String,
    /// What `client new --key` has printed after the YAML: the commands of the client.
    printed: String,
}

impl Callers {
    async fn start() -> Self {
        Self::before(free_port()).await
    }

    /// With a tool server at this port. The client `signer` has the YAML and the key of `portcullis client new --key`.
    async fn before(tools: u16) -> Self {
        let (folder, upstream) = (folder(), Upstream::start().await);
        let port = free_port();
        let origin = format!("https://localhost:{port}");
        let key = folder.join("signer.pem");
        let new = ["client", "new", "signer", "--scopes", "read:data", "--issuer", &origin, "--key", "--out"];
        let made = run_with(program(&folder).args(new).arg(&key), "");
        let lines: Vec<&str> = made.stdout.lines().collect();
        let (entry, printed) = (lines[..3].join("\n"), lines[3..].join("\n"));
        let authority = Authority::new();
        fs::write(folder.join("clients.crt"), &authority.certificate).unwrap();
        authority.issue(&["mutual.example.com"]).write(&folder, "mutual");
        let yaml = format!(
            r#"
version: 1
workers: 1
listeners:
  - address: 127.0.0.1:{port}
    tls: {{certificates: [{{cert: certs/localhost.crt, key: certs/localhost.key, self_signed: true}}], client_auth: {{mode: optional, ca: clients.crt}}}}
allow_literal_secrets: true
oauth:
  issuer: {origin}
  audiences: [https://api.example.com, "{origin}/mcp"]
  signing_keys: {{algorithm: ES256}}
  token_endpoint: {{rate_limits: [{{rate: 10000/s, per: address}}]}}
  clients:
    app: {{secrets: [{{value: "{SECRET}"}}], scopes: [read:data]}}
    mutual: {{certificates: [{{san_dns: mutual.example.com}}], scopes: [read:data]}}
{entry}
resources: {{tools: {{url: "{origin}/mcp"}}}}
upstreams: {{legacy: "http://{}", tools: "http://127.0.0.1:{tools}"}}
routes:
  - {{path: /data, methods: [GET], upstream: legacy, access: {{scopes: [read:data]}}}}
  - {{path: /mcp, upstream: tools, access: {{scopes: [read:data]}}, resource: tools}}
audit: {{file: "-"}}
"#,
            upstream.address
        );
        Self { gateway: Gateway::start_in(folder, &yaml, &[]), _upstream: upstream, origin, printed }
    }

    /// The JSON that the program prints.
    #[track_caller]
    fn told(&self, command: &mut Command) -> Value {
        let ca = self.gateway.folder.join("certs/localhost.crt");
        command.current_dir(outside()).env("ORIGIN", &self.origin).env("CA", &ca);
        command.env("CLIENT_ID", "app").env("CLIENT_SECRET", SECRET).env("KEY", self.gateway.folder.join("signer.pem"));
        command.env("CERTIFICATE", self.gateway.folder.join("mutual.crt"));
        command.env("CERTIFICATE_KEY", self.gateway.folder.join("mutual.key")).env("ISSUER", &self.origin);
        command.env("REQUESTS_CA_BUNDLE", &ca).env("NODE_EXTRA_CA_CERTS", &ca).env("SSL_CERT_FILE", &ca);
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        let done = timed(&name_of(command), || run(command));
        assert_eq!(done.code, Some(0), "{command:?}\n{}{}\n{}", done.stdout, done.stderr, self.gateway.audit_text());
        let text = done.stdout.trim();
        serde_json::from_str(text).unwrap_or_else(|_| panic!("not JSON: {text}"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn authlib_authenticates_by_a_private_key() {
    let Some(mut script) = python("Authlib, private_key_jwt", "authlib_key.py") else { return };
    let callers = Callers::start().await;
    let expected = json!({
        "scopes": ["read:data", "read:data"], "data": 200, "an_hour": "invalid_client", "other_key": "invalid_client",
    });
    assert_eq!(callers.told(&mut script), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_of_client_new_work_as_printed() {
    let Some(mut python) = python("Authlib, as printed", "-c") else { return };
    let callers = Callers::start().await;
    let (shell, script) = callers.printed.split_once("import time\n").unwrap();
    let call = format!("print(session.get('{}/data').status_code)", callers.origin);
    assert_eq!(callers.told(python.arg(format!("import time\n{script}\n{call}"))), json!(200));
    let first = shell.lines().next().unwrap();
    let portcullis = Path::new(env!("CARGO_BIN_EXE_portcullis")).parent().unwrap();
    let path = format!("{}:{}", portcullis.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{first}\nprintf '\"%s\"' \"${{TOKEN%%.*}}\"")]).env("PATH", path);
    assert!(callers.told(&mut shell).as_str().unwrap().starts_with("eyJ"));
}

#[tokio::test(flavor = "multi_thread")]
async fn oauth4webapi_authenticates_by_a_key_and_binds_its_tokens() {
    let Some(mut script) = node("oauth4webapi, private_key_jwt and DPoP", "oauth4webapi_key.mjs") else { return };
    let callers = Callers::start().await;
    let expected = json!({
        "methods": true,
        "plain": ["bearer", 200],
        "bound": ["dpop", 200],
        "without_proof": [401, "dpop", "invalid_token"],
        "proof_of_another_key": [401, "dpop", "invalid_dpop_proof"],
        "other_key": "invalid_client",
    });
    assert_eq!(callers.told(&mut script), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn openid_client_authenticates_by_a_key_and_binds_its_tokens() {
    let Some(mut script) = node("openid-client, private_key_jwt and DPoP", "openid_client_key.mjs") else { return };
    let callers = Callers::start().await;
    assert_eq!(callers.told(&mut script), json!({ "plain": ["bearer", 200], "bound": ["dpop", 200] }));
}

#[tokio::test(flavor = "multi_thread")]
async fn oauth4webapi_authenticates_by_a_certificate() {
    let Some(mut script) = node("oauth4webapi, tls_client_auth", "oauth4webapi_certificate.mjs") else { return };
    let callers = Callers::start().await;
    let expected = json!({ "methods": true, "bound": 200, "elsewhere": 401, "without": "invalid_client" });
    assert_eq!(callers.told(&mut script), expected);
}

/// A tool server of an MCP SDK. Dropping it ends it.
struct ToolServer(Child);

impl ToolServer {
    /// Starts the server at this port, and waits until it listens.
    #[track_caller]
    fn start(command: &mut Command, port: u16) -> Self {
        command.current_dir(outside()).env("PORT", port.to_string()).env("PYTHONDONTWRITEBYTECODE", "1");
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let is_listening = lines.any(|line| line.contains(&format!("127.0.0.1:{port}")));
        assert!(is_listening, "the tool server ended: {:?}", child.wait());
        // It continues to print, and must not block on a pipe that is not read.
        std::thread::spawn(move || lines.count());
        Self(child)
    }
}

impl Drop for ToolServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The client and the tool server of an MCP SDK, with the gateway between them.
async fn calls_a_tool(mut server: Command, mut client: Command) {
    let port = free_port();
    let _server = ToolServer::start(&mut server, port);
    let callers = Callers::before(port).await;
    assert_eq!(callers.told(&mut client), json!({ "secret": ["5", "read:data"], "key": ["5", "read:data"] }));
    let line = callers.gateway.audit_line(|line| line["gateway.reason"] == "no_token");
    assert_eq!(line["url.path"], "/mcp", "the first request has no token: {line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_of_the_python_mcp_sdk_call_a_tool() {
    let test = "MCP SDK for Python";
    let (Some(server), Some(client)) = (python(test, "mcp_tool_server.py"), python(test, "mcp_client.py")) else {
        return;
    };
    let has_package = runs(server.get_program().to_str().unwrap(), &["-c", "import mcp"]);
    if installed(test, "the package mcp", has_package) {
        calls_a_tool(server, client).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_of_the_typescript_mcp_sdk_call_a_tool() {
    let test = "MCP SDK for TypeScript";
    let (Some(server), Some(client)) = (node(test, "mcp_tool_server.mjs"), node(test, "mcp_client.mjs")) else {
        return;
    };
    if installed(test, "its package", outside().join("node_modules/@modelcontextprotocol/sdk").exists()) {
        calls_a_tool(server, client).await;
    }
}

/// The packages of Debian's `golang-golang-x-oauth2-dev`.
const GOPATH: &str = "/usr/share/gocode";

#[tokio::test(flavor = "multi_thread")]
async fn go_oauth2_gets_tokens_by_a_secret() {
    let there =
        Path::new(GOPATH).join("src/golang.org/x/oauth2/clientcredentials").exists() && runs("go", &["version"]);
    if !installed("golang.org/x/oauth2", "Go and its package", there) {
        return;
    }
    let callers = Callers::start().await;
    let built = callers.gateway.folder.join("go_clientcredentials");
    let mut build = Command::new("go");
    build.current_dir(outside().join("go_clientcredentials")).args(["build", "-o"]).arg(&built).arg("main.go");
    build.env("GO111MODULE", "off").env("GOPATH", GOPATH).env("GOCACHE", callers.gateway.folder.join("go-cache"));
    let done = timed("go build", || run(&mut build));
    assert_eq!(done.code, Some(0), "{done:?}");
    let told = callers.told(&mut Command::new(&built));
    assert_eq!(told, json!({ "header": 200, "body": 200, "wrong_secret": "refused" }));
    fs::remove_file(built).unwrap();
}
