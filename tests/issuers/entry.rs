//! The entries of the pages in `docs/how-to/issuers`, as they are written and with the keys of a plain entry alone.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::provider::{Provider, Site};
use crate::support::command::run;
use crate::support::gateway::program;
use crate::support::pages::Page;

pub(super) const FOLDER: &str = "docs/how-to/issuers/";

/// The keys that name the issuer and its keys. All others accept more or less than a plain entry.
const PLAIN: [&str; 6] = ["issuer", "jwks_uri", "jwks_file", "ca", "fetch", "audiences"];

/// A block of a page: one issuer, and routes that require its tokens.
pub(super) struct Entry {
    pub(super) name: String,
    text: String,
}

impl Entry {
    /// The block of the provider's page that has the issuer of this name.
    pub(super) fn of(provider: &Provider, name: &str) -> Self {
        let page = Page::new(format!("{FOLDER}{}", provider.page));
        let mut blocks = page.blocks().into_iter().filter(|block| block.language == "yaml");
        let block = blocks.find(|block| self::name(&block.text) == name);
        let block = block.unwrap_or_else(|| panic!("{} has no entry {name}", page.name));
        Self { name: name.to_owned(), text: block.text }
    }

    /// The block with other hosts.
    pub(super) fn documented(&self, site: &Site) -> String {
        site.placed_text(&self.text)
    }

    /// The block with the plain keys of its issuer alone.
    pub(super) fn default(&self, site: &Site) -> String {
        let mut block: Value = serde_saphyr::from_str(&self.documented(site)).unwrap();
        let written = block["issuers"][&self.name].as_object().unwrap().clone();
        let mut plain: Map<String, Value> = written.clone();
        plain.retain(|key, _| PLAIN.contains(&key.as_str()));
        if let Some(spiffe) = written.get("spiffe") {
            plain.insert("issuer".to_owned(), "https://oidc.acme.example".into());
            let bundle = spiffe["bundle"].as_str().unwrap();
            let key = if bundle.starts_with('/') { "jwks_file" } else { "jwks_uri" };
            plain.insert(key.to_owned(), bundle.into());
        }
        if let Some(tenants) = written.get("tenants") {
            let issuer = written["issuer"].as_str().unwrap().replace("{tenant}", tenants[0].as_str().unwrap());
            plain.insert("issuer".to_owned(), issuer.into());
        }
        if written["audiences"] == "unlimited" {
            plain.insert("audiences".to_owned(), json!(["https://api.example.com"]));
        }
        block["issuers"][&self.name] = Value::Object(plain);
        let sections = block.as_object().unwrap().iter();
        sections.map(|(name, section)| format!("{name}: {section}\n")).collect()
    }

    /// Whether its keys come from a site.
    pub(super) fn is_fetched(&self) -> bool {
        !self.text.contains("jwks_file: ") && !self.text.contains("bundle: /")
    }
}

/// The name of the first issuer of a block.
pub(super) fn name(block: &str) -> String {
    let (_, issuers) = block.split_once("issuers:\n").unwrap_or_else(|| panic!("no issuers in:\n{block}"));
    let name = issuers.lines().map(str::trim).find(|line| !line.starts_with('#')).unwrap_or_default();
    name.split(':').next().unwrap().to_owned()
}

/// A whole file with this block.
pub(super) fn complete(block: &str, service: SocketAddr) -> String {
    format!(
        r#"
version: 1
workers: 1
listeners:
  - address: 127.0.0.1:0
    tls: {{certificates: [{{cert: certs/localhost.crt, key: certs/localhost.key, self_signed: true}}]}}
upstreams: {{orders: "http://{service}"}}
audit: {{file: "-", refusals_per_second: unlimited}}
admin: {{address: 127.0.0.1:0}}
{block}"#
    )
}

/// The faults of a configuration, if there are any. Absolute paths are moved into the folder.
pub(super) fn check(folder: &Path, yaml: &str) -> Result<(), String> {
    fs::write(folder.join("gateway.yaml"), yaml).unwrap();
    let said = run(program(folder).arg("check"));
    if said.code == Some(0) { Ok(()) } else { Err(said.stderr) }
}
