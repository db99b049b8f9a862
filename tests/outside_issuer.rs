//! An issuer that we did not write: the gateway accepts its tokens.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::outside::{SECRET, curl_is_there, installed, node, outside, timed};
use crate::support::command::run;
use crate::support::gateway::folder;
use crate::support::port::free_port;
use crate::support::{Client, Gateway, Upstream};

/// oidc-provider under a certificate of its own. Dropped, it ends.
struct OidcIssuer {
    child: Child,
    origin: String,
    folder: PathBuf,
}

impl OidcIssuer {
    /// Waits until it listens.
    fn start(mut node: Command, folder: PathBuf) -> Self {
        let origin = format!("https://localhost:{}", free_port());
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(folder.join("issuer.crt"), pair.cert.pem()).unwrap();
        fs::write(folder.join("issuer.key"), pair.signing_key.serialize_pem()).unwrap();
        node.current_dir(outside()).env("ORIGIN", &origin).env("CLIENT_ID", "their-app").env("CLIENT_SECRET", SECRET);
        node.env("CERTIFICATE", folder.join("issuer.crt")).env("KEY", folder.join("issuer.key"));
        let mut child = node.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let is_listening = timed("oidc_issuer.mjs starts", || lines.any(|line| line == "listening"));
        assert!(is_listening, "the issuer ended: {:?}", child.wait());
        // It continues to print, and must not block on a pipe that is not read.
        std::thread::spawn(move || lines.count());
        Self { child, origin, folder }
    }

    /// The grant of its token endpoint for this resource, requested by curl.
    #[track_caller]
    fn token(&self, resource: &str, scope: &str) -> String {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--cacert"]).arg(self.folder.join("issuer.crt"));
        curl.args(["-u", &format!("their-app:{SECRET}"), "-d", "grant_type=client_credentials"]);
        curl.args(["-d", &format!("resource={resource}"), "-d", &format!("scope={scope}")]);
        let told = run(curl.arg(format!("{}/token", self.origin)));
        let answer: Value = serde_json::from_str(&told.stdout).unwrap_or_else(|_| panic!("{told:?}"));
        answer["access_token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }
}

impl Drop for OidcIssuer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_oidc_provider_are_accepted_for_our_audience_only() {
    let test = "oidc-provider";
    let (Some(node), true) = (node(test, "oidc_issuer.mjs"), curl_is_there(test)) else { return };
    if !installed(test, "oidc-provider", outside().join("node_modules/oidc-provider").exists()) {
        return;
    }
    let (folder, upstream) = (folder(), Upstream::start().await);
    let issuer = OidcIssuer::start(node, folder.clone());
    let yaml = format!(
        r#"
version: 1
workers: 1
listeners:
  - address: 127.0.0.1:0
    tls: {{certificates: [{{cert: certs/localhost.crt, key: certs/localhost.key, self_signed: true}}]}}
issuers:
  theirs: {{issuer: "{}", audiences: [https://api.example.com], ca: issuer.crt}}
upstreams: {{legacy: "http://{}"}}
routes:
  - {{path: /data, methods: [GET], upstream: legacy, access: {{scopes: [read:data]}}}}
audit: {{file: "-"}}
"#,
        issuer.origin, upstream.address
    );
    let gateway = Gateway::start_in(folder, &yaml, &[]);
    let client = Client::new(&gateway);
    for (resource, scope, status, reason) in [
        ("https://api.example.com", "read:data", 200, Value::Null),
        ("https://api.example.com", "write:data", 403, json!("missing_scope")),
        ("https://other.example.com", "read:data", 401, json!("bad_audience")),
    ] {
        let answer = client.get_with("/data", &issuer.token(resource, scope)).await;
        let line = gateway.audit_of(answer.request_id());
        assert_eq!((answer.status, &line["gateway.reason"]), (status, &reason), "{line}");
        assert_eq!((&line["oauth.issuer"], &line["oauth.client_id"]), (&json!("theirs"), &json!("their-app")));
    }
    assert_eq!(upstream.only().header("x-auth-client-id"), "their-app");
}
