//! Providers and the shapes of their tokens, from the files beside this one, and a site that serves their documents.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::support::authority::{Authority, listen_by_tls};
use crate::support::gateway::folder;
use crate::support::issuer::Key;
use crate::support::pages::ROOT;

/// Claims that are seconds from now in the files.
pub(super) const TIMES: [&str; 4] = ["exp", "iat", "nbf", "auth_time"];

/// The documents of a provider, and the shapes of its tokens.
#[derive(Deserialize)]
pub(super) struct Provider {
    /// Its page in `docs/how-to/issuers`.
    pub(super) page: String,
    hosts: Vec<String>,
    /// Metadata, by path.
    #[serde(default)]
    documents: BTreeMap<String, Value>,
    /// Lists of keys or whole documents, by path. Empty parameters are those of the test's keys.
    key_sets: BTreeMap<String, Value>,
    /// The `Authorization` that a path requires.
    #[serde(default)]
    requires: HashMap<String, String>,
    /// Files that entries name, by path.
    #[serde(default)]
    files: BTreeMap<String, Value>,
    #[serde(skip)]
    pub(super) shapes: Vec<Shape>,
}

/// A token as the provider makes it, and the expected decisions.
#[derive(Clone, Deserialize)]
pub(super) struct Shape {
    #[serde(skip)]
    pub(super) name: String,
    /// The name of the entry of the page that accepts it.
    pub(super) entry: String,
    /// The header field that carries it, if it is not `Authorization`.
    pub(super) field: Option<String>,
    pub(super) header: Value,
    pub(super) claims: Value,
    pub(super) caller: Value,
    #[serde(deserialize_with = "refusals")]
    pub(super) refused: Vec<(Value, String)>,
    /// The reason for which an entry with `issuer` and `audiences` alone refuses it, or `accepted`.
    pub(super) by_default: String,
}

/// A provider's documents over TLS on loopback, and its keys.
pub(super) struct Site {
    authority: String,
    /// The provider's hosts, longest first, all of which are this site.
    hosts: Vec<String>,
    host: String,
    keys: HashMap<String, Key>,
    files: BTreeMap<String, String>,
}

/// All of them, in order.
pub(super) fn providers() -> Vec<Provider> {
    let folder = Path::new(ROOT).join("tests/issuers");
    let mut folders: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.retain(|path| path.is_dir());
    folders.sort();
    folders.iter().map(|folder| Provider::read(folder)).collect()
}

impl Provider {
    fn read(folder: &Path) -> Self {
        let text = |path: &Path| fs::read_to_string(path).unwrap();
        let mut provider: Self = parsed(&text(&folder.join("provider.json")), folder);
        let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| !path.ends_with("provider.json"));
        paths.sort();
        let shape = |path: &PathBuf| {
            let name = format!("{}/{}", folder.file_name().unwrap().display(), path.file_stem().unwrap().display());
            Shape { name, ..parsed(&text(path), path) }
        };
        provider.shapes = paths.iter().map(shape).collect();
        provider
    }

    pub(super) fn by_entry(&self) -> BTreeMap<&str, Vec<&Shape>> {
        let mut entries: BTreeMap<&str, Vec<&Shape>> = BTreeMap::new();
        self.shapes.iter().for_each(|shape| entries.entry(&shape.entry).or_default().push(shape));
        entries
    }
}

fn parsed<T: serde::de::DeserializeOwned>(text: &str, path: &Path) -> T {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn refusals<'d, D: serde::Deserializer<'d>>(from: D) -> Result<Vec<(Value, String)>, D::Error> {
    #[derive(Deserialize)]
    struct Refusal {
        claims: Value,
        reason: String,
    }
    Ok(Vec::<Refusal>::deserialize(from)?.into_iter().map(|refusal| (refusal.claims, refusal.reason)).collect())
}

impl Shape {
    /// The claims of a token that is made at this time.
    pub(super) fn claims_at(&self, now: u64) -> Value {
        let mut claims = self.claims.clone();
        for name in TIMES {
            if let Some(offset) = self.claims[name].as_i64() {
                claims[name] = (now as i64 + offset).into();
            }
        }
        claims
    }

    pub(super) fn lifetime(&self) -> u64 {
        self.claims["exp"].as_u64().unwrap()
    }

    /// With the site's host for the provider's.
    pub(super) fn at(&self, site: &Site) -> Self {
        let placed = |value: &Value| site.placed(value);
        Self { claims: placed(&self.claims), caller: placed(&self.caller), ..self.clone() }
    }
}

impl Site {
    pub(super) async fn start(provider: &Provider) -> Self {
        static AUTHORITY: OnceLock<Authority> = OnceLock::new();
        let authority = AUTHORITY.get_or_init(Authority::new);
        let mut hosts = provider.hosts.clone();
        hosts.sort_by_key(|host| std::cmp::Reverse(host.len()));
        let mut keys = HashMap::new();
        let mut documents = provider.documents.clone();
        for (path, set) in &provider.key_sets {
            let set = if set.is_array() { json!({ "keys": set }) } else { set.clone() };
            documents.insert(path.clone(), with_keys(set, &mut keys));
        }
        let file = |(path, content): (&String, &Value)| match content {
            Value::String(text) => (path.clone(), text.clone()),
            set => (path.clone(), with_keys(set.clone(), &mut keys).to_string()),
        };
        let files = provider.files.iter().map(file).collect();
        let served = Arc::new(Served { documents, requires: provider.requires.clone(), hosts: hosts.clone() });
        let config = authority.issue(&["127.0.0.1"]).config(&[b"http/1.1"], None);
        let address = listen_by_tls(config, move |stream| {
            let served = Arc::clone(&served);
            async move {
                let answer = service_fn(move |request| {
                    let answer = served.answer(&request);
                    async move { Ok::<_, std::convert::Infallible>(answer) }
                });
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
            }
        })
        .await;
        Self { authority: authority.certificate.clone(), hosts, host: address.to_string(), keys, files }
    }

    /// A new folder with the site's authority and the files that entries name.
    pub(super) fn folder(&self) -> PathBuf {
        let folder = folder();
        fs::write(folder.join("authority.pem"), &self.authority).unwrap();
        let ca = ("/var/run/secrets/kubernetes.io/serviceaccount/ca.crt".to_owned(), self.authority.clone());
        for (path, content) in self.files.clone().into_iter().chain([ca]) {
            let path = folder.join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        folder
    }

    /// The text with this site for each of the provider's hosts.
    pub(super) fn placed_text(&self, text: &str) -> String {
        placed(text, &self.hosts, &self.host)
    }

    pub(super) fn placed(&self, value: &Value) -> Value {
        serde_json::from_str(&self.placed_text(&value.to_string())).unwrap()
    }

    /// By the key that the header names.
    pub(super) fn sign(&self, header: &Value, claims: &Value) -> String {
        let id = header["kid"].as_str().unwrap_or_default();
        let algorithms = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"];
        let algorithm = algorithms.into_iter().find(|name| header["alg"] == *name).unwrap();
        let key = self.keys.get(id).unwrap_or_else(|| panic!("no key {id}"));
        key.alias(id, algorithm).sign_with(header, claims)
    }
}

fn placed(text: &str, hosts: &[String], site: &str) -> String {
    hosts.iter().fold(text.to_owned(), |text, host| text.replace(&format!("://{host}"), &format!("://{site}")))
}

/// The set with parameters of keys, which are kept by their ids.
fn with_keys(mut set: Value, keys: &mut HashMap<String, Key>) -> Value {
    for jwk in set["keys"].as_array_mut().unwrap() {
        let id = jwk["kid"].as_str().unwrap_or_default().to_owned();
        let key = keys.entry(id.clone()).or_insert_with(|| match (jwk["kty"].as_str(), jwk["crv"].as_str()) {
            (Some("RSA"), _) => Key::rsa().alias(&id, "RS256"),
            (_, Some("P-256")) => Key::new(&id, "ES256"),
            (_, Some("P-384")) => Key::new(&id, "ES384"),
            (_, Some("Ed25519")) => Key::new(&id, "EdDSA"),
            other => panic!("no keys for {other:?}"),
        });
        for name in ["n", "e", "x", "y"] {
            if let Some(parameter) = jwk.get_mut(name) {
                *parameter = key.jwk()[name].clone();
            }
        }
    }
    set
}

struct Served {
    documents: BTreeMap<String, Value>,
    requires: HashMap<String, String>,
    hosts: Vec<String>,
}

impl Served {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let (path, field) = (request.uri().path(), |name: &str| request.headers().get(name)?.to_str().ok());
        let status = |status: u16| Response::builder().status(status).body(Full::default()).unwrap();
        if self.requires.get(path).is_some_and(|required| field("authorization") != Some(required)) {
            return status(401);
        }
        let host = field("host").unwrap();
        match self.documents.get(path) {
            Some(document) => Response::new(Full::from(placed(&document.to_string(), &self.hosts, host))),
            None => status(404),
        }
    }
}
