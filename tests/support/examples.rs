//! The examples of the pages as whole files, and what `check` says of them.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::authority::Authority;
use super::command::{Finished, run};
use super::gateway::{folder, program};
use super::issuer::Key;

/// The parts that complete a `yaml` block without `version`: each is added unless the block has its key.
const BASE: &[(&str, &str)] = &[
    ("version", "version: 1"),
    ("listeners", "listeners: [{address: 127.0.0.1:8080}]"),
    (
        "upstreams",
        "upstreams: {legacy: 'http://127.0.0.1:9000', invoices: 'http://127.0.0.1:9001', orders: 'http://127.0.0.1:9002'}",
    ),
    (
        "oauth",
        "oauth: {issuer: 'https://localhost:8443', audiences: [https://api.example.com], clients: {billing: \
         {secrets: [{hash: 'sha256:2RG_ZklKftARNsx6xHruEHJ3_UP79NgbwkcHFg4N8BM'}], scopes: [invoices:read]}}}",
    ),
    ("routes", "routes: [{path: /, respond: {body: hello}, access: public}]"),
];

/// The example as a whole file.
pub(crate) fn complete(example: &str) -> String {
    let has = |key: &str| example.lines().any(|line| line.starts_with(&format!("{key}:")));
    if has("version") {
        return example.to_owned();
    }
    // With an issuer in it, the example needs no client of the gateway, unless it names the one.
    let has_callers = has("issuers") && !example.contains("billing");
    let is_given = |key: &str| has(key) || key == "oauth" && has_callers;
    let parts = BASE.iter().filter(|(key, _)| !is_given(key)).map(|(_, part)| *part);
    parts.chain([example]).collect::<Vec<_>>().join("\n")
}

/// The output of `check` for this file, in a new folder with the files that it names. Absolute paths are moved into the
/// folder.
pub(crate) fn check(yaml: &str, arguments: &[&str]) -> (PathBuf, Finished) {
    let folder = folder();
    let yaml = yaml.replace(" /var/", &format!(" {}/var/", folder.display()));
    fs::create_dir_all(folder.join("certs")).unwrap();
    fs::create_dir_all(folder.join("var/lib/portcullis")).unwrap();
    for name in yaml.split("certs/").skip(1).filter_map(|rest| rest.split(".crt").next()) {
        if !name.contains(|letter: char| letter.is_whitespace() || letter == ',') {
            let authority = Authority::new();
            let issued = match name {
                "clients-ca" => {
                    fs::write(folder.join("certs/clients-ca.crt"), authority.certificate).unwrap();
                    continue;
                }
                "ending" => authority.issue_for_days(&["localhost"], 10),
                _ => authority.issue(&["localhost"]),
            };
            issued.write(&folder.join("certs"), name);
        }
    }
    for name in yaml.split("${file:").skip(1).filter_map(|rest| rest.split('}').next()) {
        let content = match name.rsplit('/').next().unwrap() {
            "token" => "closed-until-july\n",
            "wrapping-key" => "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n",
            "database-url" => "postgres://gateway:only-an-example@db.internal/portcullis\n",
            _ => "closed for maintenance\n",
        };
        fs::create_dir_all(folder.join(name).parent().unwrap()).unwrap();
        fs::write(folder.join(name), content).unwrap();
    }
    write_named_files(&folder, &yaml);
    fs::write(folder.join("gateway.yaml"), yaml).unwrap();
    let said = run(program(&folder).arg("check").args(arguments));
    (folder, said)
}

/// The authorities, keys and tokens that entries of issuers name below this folder.
fn write_named_files(folder: &Path, yaml: &str) {
    let words = yaml.split(|letter: char| letter.is_whitespace() || ",}".contains(letter));
    for path in words.map(Path::new).filter(|word| word.starts_with(folder)) {
        let content = match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => Authority::new().certificate,
            Some("jwks") if path.ends_with("mixed.jwks") => {
                let symmetric = json!({ "kty": "oct", "kid": "old", "k": "AAAAAAAAAAAAAAAAAAAAAA" });
                json!({ "keys": [Key::new("k1", "ES256").jwk(), symmetric] }).to_string()
            }
            Some("jwks" | "bundle") => json!({ "keys": [Key::new("k1", "ES256").jwk()] }).to_string(),
            None if path.ends_with("token") => "the-token-of-a-service-account\n".to_owned(),
            _ => continue,
        };
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}
