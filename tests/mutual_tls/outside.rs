//! The commands of the page about client certificates, run as they are: `openssl` issues, `curl` presents.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::*;
use crate::outside::{curl_is_there, installed, runs};
use crate::support::command::run;

const PAGE: &str = "docs/how-to/authenticate-clients-by-certificate.md";

/// The first block of commands on the page.
fn commands() -> String {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE)).unwrap();
    let (_, rest) = page.split_once("```sh\n").unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_gets_a_token_by_a_certificate_of_openssl() {
    let test = "client certificates of openssl";
    if !curl_is_there(test) || !installed(test, "openssl", runs("openssl", &["version"])) {
        return;
    }
    let folder = folder();
    let made = run(Command::new("sh").args(["-e", "-c", &commands()]).current_dir(&folder));
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let listeners = format!("listeners: [{}]", asking("required").replace("ca.crt", "clients-ca.crt"));
    let oauth = "oauth:
  issuer: https://localhost:8443
  audiences: [https://api.example.com]
  clients:
    billing: {certificates: [{san_uri: \"spiffe://example.com/billing\"}], scopes: [read:data]}
    subject: {certificates: [{subject_dn: \"CN=billing,O=Example\"}], scopes: [read:data]}";
    let upstream = Upstream::start().await;
    let yaml = config(upstream.address, &["path: /bound, access: {}"], &format!("{listeners}\n{oauth}"));
    let gateway = Gateway::start_in(folder, &yaml, &[]);
    let curl = |with: &[&str], path: &str, more: &[&str]| {
        let url = format!("https://localhost:{}{path}", gateway.address().port());
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--cacert", "certs/localhost.crt"]).args(with).args(more);
        run(command.arg(url).current_dir(&gateway.folder))
    };
    let certificate = ["--cert", "billing.crt", "--key", "billing.key"];
    for client in ["billing", "subject"] {
        let form = format!("grant_type=client_credentials&client_id={client}");
        let said = curl(&certificate, "/oauth/token", &["--data", &form]);
        let answer: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|_| panic!("{}", said.stderr));
        let bearer = format!("Authorization: Bearer {}", answer["access_token"].as_str().unwrap_or_default());
        let status = ["--header", &bearer, "--output", "/dev/null", "--write-out", "%{http_code}"];
        assert_eq!(curl(&certificate, "/bound", &status).stdout, "200", "{client} {answer}");
    }
    assert_ne!(curl(&[], "/bound", &[]).code, Some(0), "without a certificate");
}
