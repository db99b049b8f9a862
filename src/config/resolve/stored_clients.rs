//! `oauth.clients_in`: clients in a database, whose entries have the keys of `oauth.clients.ID` and the same meaning.
//!
//! An entry is JSON. It may come from another process at any time, so it must not name a file, a URL or a variable.

use std::env::VarError;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::super::decode::{MapField as _, Named};
use super::super::diagnostics::Faults;
use super::super::interpolate::Surroundings;
use super::super::needs::Needs;
use super::super::raw::client_key::RawClientKey;
use super::super::raw::oauth::{ClientsIn, KeptSecrets, RawClient};
use super::super::reader::Reader;
use super::super::revision::NamedContent;
use super::super::source::{At, Source};
use super::super::tree::{self, YamlNode};
use super::super::{resolver, secrecy};
use super::Resolver;
use super::federation::FederatedIssuers;
use crate::clock;
use crate::issuer::client::Client;
use crate::issuer::stored_clients::{ClientDatabase, ClientReader, StoredClientSettings};

/// The file of SQLite, below the state directory.
const SQLITE_FILE: &str = "clients.db";
/// For SQLite. The default of `shared.postgres.stale` is the same.
const STALE: Duration = Duration::from_secs(3600);
/// Bytes of an entry.
const LONGEST_ENTRY: usize = 64 << 10;

/// The parts of the configuration that entries refer to.
pub(super) struct ClientEntryRules {
    audiences: Vec<String>,
    token_ttl: Duration,
    /// The names of all issuers.
    issuers: Vec<String>,
    federated: FederatedIssuers,
}

impl Resolver<'_> {
    pub(super) fn stored_clients(
        &mut self,
        place: &At<ClientsIn>,
        state_directory: &At<PathBuf>,
        rules: ClientEntryRules,
    ) -> Option<StoredClientSettings> {
        let (database, stale) = match (place.value, self.postgres_stale) {
            (ClientsIn::File, _) => return None,
            (ClientsIn::Sqlite, _) => {
                let file = self.source.locate(&state_directory.value).join(SQLITE_FILE);
                (ClientDatabase::Sqlite(file), STALE)
            }
            (ClientsIn::Postgres, Some(stale)) => (ClientDatabase::Postgres, stale),
            (ClientsIn::Postgres, None) => {
                if self.needs.includes("shared.postgres") {
                    self.faults.at(place.span, "`shared.postgres` is missing: add it, with the `url` of the database");
                }
                return None;
            }
        };
        let rules = Arc::new(rules);
        let reader = ClientReader::new(move |id, entry| rules.client(id, entry));
        Some(StoredClientSettings { place: database, stale, reader })
    }
}

impl ClientEntryRules {
    pub(super) fn new(
        audiences: &[String],
        token_ttl: Duration,
        (issuers, federated): (&[String], &FederatedIssuers),
    ) -> Self {
        Self { audiences: audiences.to_owned(), token_ttl, issuers: issuers.to_owned(), federated: federated.clone() }
    }

    fn client(&self, id: &str, entry: &str) -> Result<Client, String> {
        if entry.len() > LONGEST_ENTRY {
            return Err(format!("the entry is longer than {LONGEST_ENTRY} bytes"));
        }
        let entry: Map<String, Value> =
            serde_json::from_str(entry).map_err(|fault| format!("no JSON object: {fault}"))?;
        // Parsed as a part of a file, so that messages hide its secrets by the same rules.
        let source = Source::new(Path::new("entry"), json!({"oauth": {"clients": {id: entry}}}).to_string());
        let tree = tree::read(source.text()).map_err(|fault| fault.message)?;
        source.hide(secrecy::hidden(source.text(), &tree));
        source.show_keys(secrecy::shown_keys(&tree));
        let root = tree.root.as_ref().ok_or("the entry is empty")?;
        let clients = below(root, "oauth").and_then(|oauth| below(oauth, "clients")).ok_or("the entry is empty")?;
        let (mut faults, mut named, now) = (Faults::default(), NamedContent::default(), clock::now());
        for found in &tree.unsupported {
            faults.at(found.span, found.value.message(source.quote(found.span)));
        }
        let surroundings = Surroundings {
            variable: &|_| Err(VarError::NotPresent),
            file: &|_| Err(io::Error::from(io::ErrorKind::Unsupported)),
            now,
        };
        let needs = Needs::EVERYTHING;
        let mut reader = Reader {
            source: &source,
            surroundings: &surroundings,
            faults: &mut faults,
            needs,
            interpolated_bytes: 0,
            named: &mut named,
        };
        let raw = Named::<RawClient>::given(clients, &mut reader);
        let refused =
            raw.entries.iter().filter_map(|(_, client)| client.as_ref().ok()).find_map(|raw| refused(&raw.value));
        if let Some(refused) = refused {
            return Err(refused.to_owned());
        }
        let mut resolver = resolver(&source, &mut faults, (needs, named), now);
        let (known, used) = ((&*self.audiences, true), (&*self.issuers, &self.federated));
        let (mut clients, _) = resolver.clients(raw, known, self.token_ttl, used);
        // Values are quoted as they stand in the source, which is JSON.
        let bare = |message: String| message.replace("`\"", "`").replace("\"`", "`");
        let messages: Vec<String> = faults.diagnostics(&source).into_iter().map(|fault| bare(fault.message)).collect();
        if !messages.is_empty() {
            return Err(messages.join("; "));
        }
        let client = clients.pop().ok_or_else(|| "the entry is empty".to_owned())?;
        if client.token_ttl > self.token_ttl {
            // Signing keys are published no longer than the tokens of the configuration live.
            let most = self.token_ttl.as_secs();
            return Err(format!("`token_ttl` is longer than `oauth.token_ttl`, {most}s: shorten it, or lengthen that"));
        }
        Ok(client)
    }
}

/// The reason for which a part of an entry is not allowed in a database.
fn refused(client: &RawClient) -> Option<&'static str> {
    for key in client.keys() {
        match &key.value {
            RawClientKey::Jwk(_) => {}
            RawClientKey::File(_) => return Some("`keys` with `file` is for the configuration file: write `jwk`"),
            RawClientKey::Uri(_) => return Some("`keys` with `jwks_uri` is for the configuration file: write `jwk`"),
        }
    }
    let is_value = |secret: &KeptSecrets| matches!(secret, KeptSecrets::Value(_));
    if client.secrets().iter().any(|secret| is_value(&secret.value.kept)) {
        return Some("a secret in a database is a `hash`, never a `value`");
    }
    if !client.rate_limits.is_empty() {
        return Some(
            "`rate_limits` of a client is for the configuration file: limit by `client` in `rate_limits` of routes",
        );
    }
    None
}

fn below<'n, 's>(node: &'n At<YamlNode<'s>>, key: &str) -> Option<&'n At<YamlNode<'s>>> {
    let YamlNode::Map(pairs) = &node.value else { return None };
    pairs.iter().find(|(name, _)| name.value == key).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> ClientEntryRules {
        let audiences = vec!["https://api.example.com".to_owned()];
        ClientEntryRules::new(&audiences, STALE, (&["corp".to_owned()], &FederatedIssuers::default()))
    }

    const HASH: &str = "sha256:n4bQgYhMfWWaL-qgxVrQFaO_TxsrC4Is0V1sFbDwCgg";

    fn read(id: &str, entry: &Value) -> Result<Client, String> {
        rules().client(id, &entry.to_string())
    }

    #[test]
    fn an_entry_has_the_meaning_of_one_of_the_file() {
        let entry = json!({"secrets": [{"hash": HASH, "expires_at": "2027-01-01T00:00:00Z"}], "scopes": ["a", "b"],
                           "token_ttl": "10m", "claims": {"team": "x"}, "allow_from": ["10.0.0.0/8"]});
        let client = read("app \"one\"", &entry).unwrap();
        assert_eq!(client.id.as_str(), "app \"one\"");
        assert_eq!((client.scopes.to_string(), client.token_ttl), ("a b".to_owned(), Duration::from_secs(600)));
        assert_eq!(client.audiences, ["https://api.example.com"]);
        assert_eq!((client.credentials.secrets.len(), client.claims["team"].as_str()), (1, Some("x")));
        assert!(client.allow_from.is_some());
    }

    #[test]
    fn an_entry_names_no_file_no_variable_and_no_secret() {
        let with = |key: &str, value: Value| {
            let mut entry = json!({"scopes": ["a"], "secrets": [{"hash": HASH}]});
            entry[key] = value;
            read("app", &entry).unwrap_err()
        };
        assert!(with("keys", json!([{"file": "/etc/passwd"}])).contains("`file`"));
        assert!(with("keys", json!([{"jwks_uri": "https://a.example/jwks"}])).contains("`jwks_uri`"));
        let literal = with("secrets", json!([{"value": "a-secret-of-many-characters"}]));
        assert!(literal.contains("`hash`") && !literal.contains("many"), "{literal}");
        assert!(with("secrets", json!([{"hash": "${HOME}"}])).contains("HOME"));
        assert!(with("scopes", json!(["${file:/etc/passwd}"])).contains("/etc/passwd"));
        assert!(with("audiences", json!(["https://other.example"])).contains("unknown audience"));
        // A line with a secret is not quoted.
        let unknown = read("app", &json!({"scopes": ["a"], "audiences": ["https://other.example"]})).unwrap_err();
        assert!(unknown.contains("unknown audience `https://other.example`"), "{unknown}");
        assert!(with("token_ttl", json!("2h")).contains("longer than `oauth.token_ttl`"));
        assert!(with("scope", json!(["b"])).contains("unknown key"));
        assert!(rules().client("app", "[]").is_err() && rules().client("app", "").is_err());
        assert!(read("corp/app", &json!({"scopes": ["a"], "secrets": [{"hash": HASH}]})).is_err());
    }

    #[test]
    fn an_entry_without_a_credential_is_refused() {
        assert!(read("app", &json!({"scopes": ["a"]})).unwrap_err().contains("no way to authenticate"));
    }
}
