//! Kinds of wrong files. Each leaves the configuration in use as it is, with an error that names its place.

use std::fs;
use std::net::TcpListener;

use super::config_page;
use crate::support::command::run;
use crate::support::gateway::program;
use crate::support::world::config;
use crate::support::{Client, Gateway, Upstream};

const DATA: &str = "name: data, path: /data, access: {scopes: [read:data]}";
const OPEN: &str = "name: open, path: /open, access: public";

/// A text of the good file, its replacement, and the place and the words of the error.
const WRONG: &[(&str, &str, &str)] = &[
    // Syntax.
    ("version: 1", "version: 1\n\tworkers: 1", "gateway.yaml:2:"),
    ("routes:", "routes", "gateway.yaml:"),
    ("allow_literal_secrets: true", "allow_literal_secrets: [true", "gateway.yaml:"),
    ("allow_literal_secrets: true", "allow_literal_secrets: \"true", "gateway.yaml:"),
    ("allow_literal_secrets: true", "allow_literal_secrets: true: true", "gateway.yaml:"),
    ("version: 1", "%YAML 1.2\nversion: 1", "gateway.yaml:"),
    ("version: 1", "version: 1\n---\nversion: 1", "gateway.yaml:"),
    ("version: 1", "version: &one 1", "gateway.yaml:1:"),
    ("version: 1", "version: !!int 1", "gateway.yaml:1:"),
    ("version: 1", "version: *one", "gateway.yaml:1:"),
    ("version: 1", "version: \u{7}1", "gateway.yaml:1:10: the control character"),
    ("version: 1", "\u{feff}version: 1", "byte order mark"),
    // Keys.
    ("version: 1\n", "", "version"),
    ("version: 1", "version: 2", "gateway.yaml:1:10:"),
    ("version: 1", "version: 1\nversion: 1", "gateway.yaml:2:1: duplicate key"),
    ("version: 1", "version: 1\nsurprise: 2", "gateway.yaml:2:1: unknown key"),
    ("upstreams:", "upstream:", "unknown key `upstream`, did you mean `upstreams`"),
    ("path: /data", "paths: /data", "missing key `path`"),
    ("audit: {file", "audit: {fil", "did you mean `file`"),
    ("workers: 1", "workers: many", "gateway.yaml:2:10:"),
    ("workers: 1", "workers: 0", "gateway.yaml:2:10:"),
    ("workers: 1", "workers: [1]", "gateway.yaml:2:10:"),
    ("allow_literal_secrets: true", "allow_literal_secrets: maybe", "gateway.yaml:"),
    ("allow_literal_secrets: true\n", "", "allow_literal_secrets"),
    ("access: public", "access: publik", "gateway.yaml:"),
    ("access: public, ", "", "access"),
    ("per: address", "per: planet", "gateway.yaml:"),
    ("rate: 5/s", "rate: 5/parsec", "gateway.yaml:"),
    ("stale_for: 30s", "stale_for: 30", "gateway.yaml:"),
    ("uri_bytes: 8KiB", "uri_bytes: 8 pages", "gateway.yaml:"),
    ("uri_bytes: 8KiB", "uri_bytes: 8GiB", "gateway.yaml:"),
    ("drain: 30s", "drain: soon", "gateway.yaml:"),
    ("watch: false", "watch: perhaps", "gateway.yaml:"),
    ("open_streams: recheck", "open_streams: drop", "gateway.yaml:"),
    // References.
    ("upstream: legacy", "upstream: legavy", "did you mean `legacy`"),
    ("access: {scopes", "access: {issuers: [corp], scopes", "unknown issuer `corp`"),
    ("access: {scopes", "access: {clients: [nobody], scopes", "nobody"),
    ("scopes: [read:data]}", "scopes: [\"a b\"]}", "gateway.yaml:"),
    ("path: /open", "path: open", "gateway.yaml:"),
    ("path: /open", "path: \"/open/../x\"", "gateway.yaml:"),
    ("path: /open", "path: /data", "gateway.yaml:"),
    ("path: /open", "path: /DATA", "gateway.yaml:"),
    ("name: open", "name: data", "gateway.yaml:"),
    ("path: /open", "path: /oauth/token", "gateway.yaml:"),
    // Files and variables.
    ("certs/localhost.key", "certs/other.key", "certs/other.key"),
    ("certs/localhost.crt", "gateway.yaml", "gateway.yaml"),
    ("correct horse battery staple", "\"${PORTCULLIS_TEST_UNSET}\"", "PORTCULLIS_TEST_UNSET"),
    ("correct horse battery staple", "\"${file:missing.txt}\"", "missing.txt"),
    ("correct horse battery staple", "\"${file:empty.txt}\"", "empty.txt"),
    ("correct horse battery staple", "\"${UNCLOSED\"", "gateway.yaml:"),
    ("correct horse battery staple", "short", "gateway.yaml:"),
    (
        "revoked: []",
        "issuers: {corp: {issuer: \"https://corp.example\", audiences: [a], jwks_file: no.json}}",
        "no.json",
    ),
    ("issuer: https://localhost:8443", "issuer: \"ftp://localhost\"", "gateway.yaml:"),
    ("algorithm: ES256", "algorithm: HS256", "gateway.yaml:"),
    ("legacy: \"http", "legacy: \"gopher", "gateway.yaml:"),
    // Addresses.
    ("address: 127.0.0.1:0, tls", "address: TAKEN, tls", "another process"),
    ("address: 127.0.0.1:0, tls", "address: 192.0.2.1:8443, tls", "192.0.2.1:8443"),
    ("address: 127.0.0.1:0, tls", "address: localhost, tls", "gateway.yaml:"),
    ("admin: {address: 127.0.0.1:0}", "admin: {address: 0.0.0.0:0}", "gateway.yaml:"),
    // A restart is needed.
    ("workers: 1", "workers: 2", "`workers` needs a restart"),
    ("file: \"-\"", "file: audit.jsonl", "`audit.file` needs a restart"),
    ("revoked: []", "state_directory: state/../state", "`state_directory` needs a restart"),
    ("{algorithm: ES256}", "{directory: moved}", "`oauth.signing_keys.directory` needs a restart"),
];

const SECTIONS: &str = "limits: {uri_bytes: 8KiB}
shutdown: {drain: 30s}
reload: {watch: false, open_streams: recheck}
dns: {stale_for: 30s}
rate_limits: {some: {rate: 5/s, per: address}}
revoked: []";

/// A gateway whose configuration is to be replaced by wrong ones, with the file.
async fn started() -> (Gateway, String, Upstream) {
    let upstream = Upstream::start().await;
    let good = config(upstream.address, &[DATA, OPEN], SECTIONS);
    let gateway = Gateway::start(&good);
    fs::write(gateway.folder.join("empty.txt"), "").unwrap();
    (gateway, good, upstream)
}

/// Reloads by the command. Gives the errors.
#[track_caller]
fn refused(gateway: &Gateway, yaml: impl AsRef<[u8]>) -> String {
    fs::write(gateway.folder.join("gateway.yaml"), yaml).unwrap();
    // A wrong file may name another folder.
    let refused = run(program(&gateway.folder).args(["reload", "--state-directory", "state"]));
    assert_eq!((refused.code, &*refused.stdout), (Some(2), ""), "{refused:?}");
    assert!(refused.stderr.contains("is not in use"), "{refused:?}");
    refused.stderr
}

async fn serves_as_before(gateway: &Gateway, before: &serde_json::Value) {
    assert_eq!(Client::new(gateway).get("/open").await.status, 200);
    assert_eq!(Client::new(gateway).get("/data").await.status, 401);
    let page = config_page(gateway).await;
    assert_eq!((&page["config"], &page["since"]), (&before["config"], &before["since"]));
}

#[tokio::test]
async fn every_kind_of_wrong_file_leaves_the_good_one_in_use() {
    assert!(WRONG.len() >= 50);
    let (gateway, good, _upstream) = started().await;
    let before = config_page(&gateway).await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    for (found, replacement, error) in WRONG {
        assert!(good.contains(found), "{found}");
        let replacement = replacement.replace("TAKEN", &taken.local_addr().unwrap().to_string());
        let said = refused(&gateway, good.replacen(found, &replacement, 1));
        assert!(said.contains(error), "{replacement}: {error}: {said}");
        serves_as_before(&gateway, &before).await;
    }
    gateway.reloads(&(good + "# better\n"));
}

/// A file that is cut stays without parts that a gateway cannot do without, or ends within one.
#[tokio::test]
async fn a_file_that_is_cut_anywhere_is_refused() {
    let (gateway, good, _upstream) = started().await;
    let before = config_page(&gateway).await;
    let routes = good.find("routes:").unwrap();
    for tenth in 0..20 {
        let said = refused(&gateway, &good[..routes * tenth / 20]);
        assert!(said.contains("gateway.yaml"), "{said}");
        serves_as_before(&gateway, &before).await;
    }
    let said = refused(&gateway, b"version: 1\n# \xff\n");
    assert!(said.contains("gateway.yaml:2:3: this byte is not UTF-8"), "{said}");
    for not_a_file in ["folder", "nothing"] {
        fs::remove_file(gateway.folder.join("gateway.yaml")).unwrap();
        if not_a_file == "folder" {
            fs::create_dir(gateway.folder.join("gateway.yaml")).unwrap();
        }
        let failed = run(program(&gateway.folder).arg("reload"));
        assert!(failed.code == Some(2) && failed.stderr.contains("gateway.yaml"), "{failed:?}");
        serves_as_before(&gateway, &before).await;
        if not_a_file == "folder" {
            fs::remove_dir(gateway.folder.join("gateway.yaml")).unwrap();
            fs::write(gateway.folder.join("gateway.yaml"), "").unwrap();
        }
    }
    gateway.reloads(&good);
}
