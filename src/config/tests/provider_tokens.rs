//! Mutations of the tokens in `tests/issuers`, against the entries of the pages in `docs/how-to/issuers` that accept
//! them: a token is accepted exactly if the entry names it, and none causes a panic.
//!
//! A mutation that the issuer did not sign must be refused. One that the issuer's key signs must be accepted as
//! [`WrittenEntry::caller`] reads the entry, which shares no code with the checks, and refused otherwise.
//! `PORTCULLIS_MUTATIONS` is the number of mutations of each shape; the usual number keeps the test short.

mod entry;
mod mutation;
mod signer;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use self::entry::{NamedCaller, WrittenEntry};
use self::mutation::{Mutated, Mutation};
use self::signer::Signers;
use super::*;
use crate::jose::key_set::KeySet;
use crate::oauth::identity::Identity;
use crate::oauth::observer::Unobserved;
use crate::pipeline::routing::access::{Access, AccessRule};
use crate::trust::issuer::TrustedIssuer;
use crate::trust::key_cache::KeyCache;
use crate::trust::verify::Trust;

const USUAL_MUTATIONS: usize = 300;
const ROOT: &str = env!("CARGO_MANIFEST_DIR");

#[tokio::test]
async fn a_mutated_token_is_accepted_exactly_if_its_entry_names_it() {
    let count = std::env::var("PORTCULLIS_MUTATIONS").map_or(USUAL_MUTATIONS, |count| count.parse().unwrap());
    let signers = Signers::generate();
    let (mut shapes, mut accepted) = (0, 0);
    for path in shape_files() {
        let target = Target::load(&path, &signers);
        target.accepts_the_shape().await;
        let mut mutation = Mutation::of(&target.header, &target.claims, &target.signed(&target.header, &target.claims));
        for _ in 0..count {
            accepted += usize::from(target.accepts_if_named(mutation.next()).await);
        }
        shapes += 1;
    }
    assert!(shapes >= 50, "{shapes}");
    // Changes of claims that no check is about. Without any, the other refusals would prove little.
    assert!(accepted > shapes * count / 100, "{accepted}");
}

/// A shape, and the entry that accepts it.
struct Target<'s> {
    name: String,
    written: WrittenEntry,
    trust: Trust,
    rule: Arc<AccessRule>,
    signers: &'s Signers,
    algorithm: String,
    header: Value,
    claims: Value,
}

impl<'s> Target<'s> {
    fn load(path: &Path, signers: &'s Signers) -> Self {
        let shape: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        let provider = fs::read_to_string(path.with_file_name("provider.json")).unwrap();
        let provider: Value = serde_json::from_str(&provider).unwrap();
        let (header, algorithm) = (shape["header"].clone(), shape["header"]["alg"].as_str().unwrap().to_owned());
        let mut jwk = signers.public_jwk(&algorithm);
        jwk["kid"] = header["kid"].clone();
        jwk["alg"] = json!(algorithm);
        let block = block(provider["page"].as_str().unwrap(), shape["entry"].as_str().unwrap());
        let config = configuration(&block, &json!({ "keys": [jwk] }).to_string());
        let issuer = |settings: &crate::trust::issuer::IssuerSettings| {
            let document = json!({ "keys": [jwk] }).to_string();
            let keys = KeySet::parse(document.as_bytes(), &settings.algorithms, &mut Vec::new()).unwrap();
            Arc::new(TrustedIssuer {
                settings: settings.clone(),
                keys: Arc::new(KeyCache::own(keys)),
                introspection: None,
            })
        };
        let trust = Trust::new(config.all_issuers().map(issuer).collect(), Arc::default());
        let [route] = config.routes.routes() else { panic!("not one route:\n{block}") };
        let Access::Protected(rule) = &route.access else { panic!("a public route:\n{block}") };
        Self {
            name: path.display().to_string(),
            written: WrittenEntry::read(&block),
            trust,
            rule: Arc::clone(rule),
            signers,
            algorithm,
            claims: claims_at(&shape["claims"], NOW),
            header,
        }
    }

    fn signed(&self, header: &Value, claims: &Value) -> String {
        self.signers.sign(&self.algorithm, &header.to_string(), claims.to_string().as_bytes())
    }

    async fn accepts_the_shape(&self) {
        let named = self.named(&self.header, &self.claims);
        assert!(named.is_some(), "{} is not named by its entry", self.name);
        let found = self.found(&self.signed(&self.header, &self.claims)).await;
        assert_eq!(found, named, "{}", self.name);
    }

    /// Fails unless the token is accepted exactly if the entry names it. Gives whether it is accepted.
    async fn accepts_if_named(&self, mutated: Mutated) -> bool {
        let sign = |header: &str, claims: &[u8]| self.signers.sign(&self.algorithm, header, claims);
        let (token, named, may_be_refused) = match mutated {
            Mutated::Unsigned(token) => (token, None, false),
            Mutated::Repeated { header, claims } => (sign(&header, &claims), None, false),
            Mutated::Signed { header, claims } => (self.signed(&header, &claims), self.named(&header, &claims), false),
            Mutated::SignedBytes(claims) => {
                let read: Option<Value> = serde_json::from_slice(&claims).ok();
                let named = read.and_then(|claims| self.named(&self.header, &claims));
                (sign(&self.header.to_string(), &claims), named, true)
            }
        };
        let found = self.found(&token).await;
        let is_right = found == named || (found.is_none() && may_be_refused);
        assert!(is_right, "{}:\n{token}\naccepted: {found:?}\nnamed by the entry: {named:?}", self.name);
        found.is_some()
    }

    /// The caller if both decisions admit the token: whether it is valid, and whether its caller may use the route.
    async fn found(&self, token: &str) -> Option<NamedCaller> {
        let verified = self.trust.verify(token, self.rule.expectations(), NOW, &mut Unobserved).await.ok()?;
        self.rule.check(&verified, &mut Unobserved).ok()?;
        let (caller, scopes) = (&verified.caller, verified.caller.scope.to_string());
        let name = |identity: &Identity| identity.as_str().to_owned();
        Some(NamedCaller {
            iss: caller.issuer_header.to_str().unwrap().to_owned(),
            client: caller.client.as_ref().map(name),
            subject: caller.subject.as_ref().map(name),
            scopes: scopes.split(' ').filter(|scope| !scope.is_empty()).map(str::to_owned).collect(),
        })
    }

    /// The caller if the entry names this token.
    fn named(&self, header: &Value, claims: &Value) -> Option<NamedCaller> {
        let key = (self.algorithm.as_str(), &self.header["kid"]);
        let caller = self.written.caller(key, (header, claims), NOW.seconds());
        caller.filter(|caller| self.written.may_use(caller, claims))
    }
}

/// Every shape, in order.
fn shape_files() -> Vec<PathBuf> {
    let list = |folder: &Path| -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    };
    let folders = list(&Path::new(ROOT).join("tests/issuers")).into_iter().filter(|path| path.is_dir());
    folders.flat_map(|folder| list(&folder)).filter(|path| !path.ends_with("provider.json")).collect()
}

/// The block of a page that has this issuer.
fn block(page: &str, issuer: &str) -> String {
    let page = fs::read_to_string(Path::new(ROOT).join("docs/how-to/issuers").join(page)).unwrap();
    let mut blocks = page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.find(|block| block.contains(&format!("\n  {issuer}:\n"))).unwrap().to_owned()
}

/// A whole configuration with this block. Files that it names have these keys.
fn configuration(block: &str, keys: &str) -> Config {
    let folder = tempfile::tempdir().unwrap();
    let moved = block.replace("/var/", &format!("{}/var/", folder.path().display()));
    for path in moved.split(|letter: char| letter.is_whitespace() || ",}".contains(letter)).map(Path::new) {
        if !path.starts_with(folder.path()) {
            continue;
        }
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let is_authority = path.extension().is_some_and(|extension| extension == "crt");
        fs::write(path, if is_authority { signer::certificate() } else { keys.to_owned() }).unwrap();
    }
    let text = format!(
        "version: 1\nlisteners: [{{address: 127.0.0.1:8080}}]\nupstreams: {{orders: 'http://127.0.0.1:9002'}}\n{moved}"
    );
    let variable = |_: &str| Err(VarError::NotPresent);
    let file = |_: &Path| Err(io::Error::from(io::ErrorKind::NotFound));
    let surroundings = Surroundings { variable: &variable, file: &file, now: NOW };
    load_text(&folder.path().join("gateway.yaml"), text, &surroundings)
        .unwrap_or_else(|errors| panic!("{}", errors.render(false)))
}

/// With times for seconds from now.
fn claims_at(claims: &Value, now: UnixTime) -> Value {
    let mut all: Map<String, Value> = claims.as_object().unwrap().clone();
    for name in mutation::TIMES {
        if let Some(offset) = all.get(name).and_then(Value::as_i64) {
            all.insert(name.to_owned(), now.seconds().checked_add_signed(offset).unwrap().into());
        }
    }
    Value::Object(all)
}
