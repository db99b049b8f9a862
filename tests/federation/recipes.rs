//! The recipes of `docs/how-to/let-platforms-authenticate.md`: each runs in a gateway, with tokens of the exact shape
//! that the platform issues. Only the place of the keys is replaced.

use serde_json::{Value, json};

use super::{Asked, by_assertion, by_grant};
use crate::support::issuer::{Key, now};
use crate::support::pages::{Page, ROOT};
use crate::support::{Client, Gateway};

const PAGE: &str = "docs/how-to/let-platforms-authenticate.md";
const OWN: &str = "https://gateway.example.com";

/// An entry of the page, a shape of its platform's tokens, and changes with their result.
struct Recipe {
    issuer: &'static str,
    shape: &'static str,
    accepted: Vec<Value>,
    refused: Vec<(Value, &'static str)>,
}

fn recipes() -> Vec<Recipe> {
    let nobody = "no_federated_client";
    let sub = |text: &str| json!({"sub": text});
    let subjects =
        |all: &[&str]| all.iter().map(|text| (json!({"sub": text}), "no_federated_client")).collect::<Vec<_>>();
    let recipe = |issuer, shape, accepted: Vec<Value>, refused: Vec<Vec<(Value, &'static str)>>| Recipe {
        issuer,
        shape,
        accepted,
        refused: refused.concat(),
    };
    let account = |namespace: &str| format!("system:serviceaccount:{namespace}:batch");
    vec![
        recipe(
            "cluster",
            "kubernetes/projected",
            vec![json!({})],
            vec![subjects(&[
                &account("other"),
                &account("orders-evil"),
                &account(""),
                "system:serviceaccount:orders:x",
            ])],
        ),
        recipe(
            "cluster-b",
            "kubernetes/projected-keys-in-a-file",
            vec![json!({}), sub(&account("other"))],
            vec![subjects(&[
                &account(""),
                &account("a:b"),
                &account("a/b"),
                "system:serviceaccount:orders:batch-evil",
            ])],
        ),
        recipe(
            "github",
            "github-actions/branch",
            vec![json!({})],
            vec![
                subjects(&[
                    "repo:acme/orders-evil:ref:refs/heads/main",
                    "repo:evil/orders:ref:refs/heads/main",
                    "repo:acme/orders:ref:refs/heads/main-evil",
                    "repo:acme/orders:pull_request",
                    "repo:acme/orders:environment:production",
                    "repo:acme/*:ref:refs/heads/main",
                ]),
                vec![(json!({"repository_owner_id": "66"}), nobody), (json!({"repository_owner_id": null}), nobody)],
            ],
        ),
        recipe(
            "gitlab",
            "gitlab-ci/branch",
            vec![json!({}), sub("project_path:acme/other:ref_type:branch:ref:main")],
            vec![
                subjects(&[
                    "project_path:evil/orders:ref_type:branch:ref:main",
                    "project_path:acme/a/b:ref_type:branch:ref:main",
                    "project_path:acme/:ref_type:branch:ref:main",
                    "project_path:acme/orders:ref_type:tag:ref:main",
                    "project_path:acme/orders:ref_type:branch:ref:main:x",
                ]),
                vec![(json!({"ref_protected": "false"}), nobody), (json!({"ref_protected": true}), nobody)],
            ],
        ),
        recipe(
            "spire",
            "spire/bundle-file",
            vec![json!({}), sub("spiffe://acme.example/ns/orders/sa/other")],
            vec![
                subjects(&["spiffe://acme.example/ns/other/sa/batch", "spiffe://acme.example/ns/orders/sa/a/b"]),
                vec![
                    (sub("spiffe://other.example/ns/orders/sa/batch"), "unknown_issuer"),
                    (sub("spiffe://acme.example/ns/orders/sa/"), "malformed"),
                ],
            ],
        ),
        recipe(
            "google",
            "google/service-account",
            vec![json!({})],
            vec![
                subjects(&["104029292853099978294", "1040292928530999782930"]),
                vec![(json!({"email": "other@acme-prod.iam.gserviceaccount.com"}), nobody)],
            ],
        ),
        recipe(
            "entra",
            "entra-id/v1-managed-identity",
            vec![json!({})],
            vec![
                subjects(&["1895cd34-e475-433a-9a21-1487b4dad842"]),
                vec![
                    (json!({"appid": "00000000-5a13-4ef6-a53a-c976ea2d06b6"}), nobody),
                    (json!({"iss": "https://sts.windows.net/00000000-63ce-4bc1-acdc-b64943502e9d/"}), "unknown_issuer"),
                ],
            ],
        ),
    ]
}

/// The block of the page with this issuer, with a key in it.
fn block(issuer: &str, key: &Key, folder: &std::path::Path) -> String {
    let page = Page::new(PAGE.to_owned());
    let is_meant = |text: &str| text.contains(&format!("\n  {issuer}:\n"));
    let block = page.blocks().into_iter().find(|block| block.language == "yaml" && is_meant(&block.text)).unwrap();
    let mut all: Value = serde_saphyr::from_str(&block.text).unwrap();
    let entry = all["issuers"][issuer].as_object_mut().unwrap();
    for name in ["jwks_uri", "jwks_file", "ca", "fetch"] {
        entry.remove(name);
    }
    let set = json!({"keys": [key.jwk()]});
    if let Some(spiffe) = entry.get_mut("spiffe") {
        std::fs::write(folder.join("bundle"), set.to_string()).unwrap();
        spiffe["bundle"] = folder.join("bundle").to_str().unwrap().into();
    } else {
        entry.insert("jwks".to_owned(), set);
    }
    let oauth =
        all["oauth"].to_string().replacen('{', "{token_endpoint: {rate_limits: [{rate: 10000/s, per: address}]}, ", 1);
    let base = "version: 1\naudit: {file: \"-\", refusals_per_second: unlimited}\n\
                listeners: [{address: 127.0.0.1:0, tls: {certificates: [{cert: certs/localhost.crt, \
                key: certs/localhost.key, self_signed: true}]}}]\n\
                routes: [{path: /any, access: {}, respond: {body: hello}}]\n";
    format!("{base}issuers: {}\noauth: {oauth}\n", all["issuers"])
}

fn shape(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(format!("{ROOT}/tests/issuers/{name}.json")).unwrap()).unwrap()
}

/// A gateway with one recipe, and the platform's key.
struct Running {
    gateway: Gateway,
    client: Client,
    key: Key,
    shape: Value,
    number: std::cell::Cell<u32>,
}

impl Running {
    fn start(recipe: &Recipe) -> Self {
        let shape = shape(recipe.shape);
        let header = &shape["header"];
        let key = match header["alg"].as_str().unwrap() {
            "RS256" => Key::rsa().alias(header["kid"].as_str().unwrap(), "RS256"),
            "ES384" => Key::new(header["kid"].as_str().unwrap(), "ES384"),
            _ => Key::new(header["kid"].as_str().unwrap(), "ES256"),
        };
        let folder = crate::support::gateway::folder();
        let yaml = block(recipe.issuer, &key, &folder);
        let gateway = Gateway::start_in(folder, &yaml, &[]);
        Self { client: Client::new(&gateway), gateway, key, shape, number: 0.into() }
    }

    /// A token of the shape for our issuer, with these changes and an id of its own if it has one.
    fn token(&self, changes: &Value, typ: Option<&str>) -> String {
        let mut claims = self.shape["claims"].clone();
        for name in ["exp", "iat", "nbf"] {
            if let Some(offset) = claims[name].as_i64() {
                claims[name] = (now() as i64 + offset).into();
            }
        }
        claims["aud"] = if claims["aud"].is_array() { json!([OWN]) } else { OWN.into() };
        self.number.set(self.number.get() + 1);
        if claims["jti"].is_string() {
            claims["jti"] = format!("token-{}", self.number.get()).into();
        }
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        let mut header = self.shape["header"].clone();
        if let Some(typ) = typ {
            header["typ"] = typ.into();
        }
        self.key.sign_with(&header, &claims)
    }

    /// The client that is granted a token, or the reason of the refusal.
    async fn result(&self, asked: Asked) -> String {
        let answer = self.client.send(asked).await;
        let line = self.gateway.audit_of(answer.request_id());
        let name = if answer.status == 200 { "oauth.client_id" } else { "gateway.reason" };
        line[name].as_str().unwrap_or_else(|| panic!("{answer:?} {line}")).to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_recipe_takes_its_platforms_tokens_and_no_others() {
    for recipe in recipes() {
        let running = Running::start(&recipe);
        let clients = ["batch", "deploy"];
        for changes in &recipe.accepted {
            for asked in [by_assertion, by_grant] {
                let found = running.result(asked(&running.token(changes, None), &[])).await;
                assert!(clients.contains(&found.as_str()), "{} {changes}: {found}", recipe.issuer);
            }
        }
        let api = "https://api.example.com";
        let usual = [
            (json!({"aud": api}), "bad_audience"),
            (json!({"aud": [OWN, api]}), "bad_audience"),
            (json!({"aud": null}), "missing_claim"),
            (json!({"exp": now() - 3600}), "expired"),
        ];
        for (changes, reason) in recipe.refused.iter().chain(&usual) {
            let found = running.result(by_grant(&running.token(changes, None), &[])).await;
            assert_eq!(found, *reason, "{} {changes}", recipe.issuer);
        }
        let found = running.result(by_grant(&running.token(&json!({}), Some("at+jwt")), &[])).await;
        assert_eq!(found, "type_not_allowed", "{}", recipe.issuer);
        for changes in [json!({}), json!({"aud": api})] {
            let answer = running.client.get_with("/any", &running.token(&changes, None)).await;
            assert_eq!(answer.status, 401, "{}: a platform's token is no access token", recipe.issuer);
        }
    }
}

#[test]
fn every_recipe_of_the_page_is_tried() {
    let page = Page::new(PAGE.to_owned());
    let tried: Vec<&str> = recipes().iter().map(|recipe| recipe.issuer).collect();
    let mut blocks = 0;
    for block in page.blocks().iter().filter(|block| block.language == "yaml") {
        let all: Value = serde_saphyr::from_str(&block.text).unwrap();
        let names: Vec<&String> = all["issuers"].as_object().unwrap().keys().collect();
        assert!(names.iter().all(|name| tried.contains(&name.as_str())), "{PAGE}:{} {names:?}", block.line);
        blocks += 1;
    }
    assert_eq!(blocks, tried.len());
}
