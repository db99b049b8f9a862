//! Libraries that we did not write read our metadata, fetch our JWK Set and verify our tokens, with each signing
//! algorithm that they know. They are as their package registries and Debian have them.
//!
//! Go's `go-oidc` and `x/oauth2` are too large a download for every run: `tests/adversarial/go_clients.py` does the
//! same.

use std::path::Path;
use std::process::Command;

use serde_json::{Map, Value, json};

use crate::outside::{SECRET, World, command, curl_is_there, installed, node, python, runs};

const RSA_AND_EC: [&str; 4] = ["RS256", "PS256", "ES256", "ES384"];
const ALL: [&str; 5] = ["RS256", "PS256", "ES256", "ES384", "EdDSA"];
/// With and without a path, and with a slash at the end.
const PATHS: [&str; 3] = ["", "/auth/v1", "/auth/"];

/// A gateway for each algorithm, and the facts about them for a program.
struct Gateways {
    worlds: Vec<World>,
    cases: Value,
}

impl Gateways {
    /// The issuers have different paths.
    async fn start(algorithms: &[&str]) -> Self {
        let (mut worlds, mut cases): (Vec<World>, _) = (Vec::new(), Vec::new());
        for (algorithm, path) in algorithms.iter().zip(PATHS.iter().cycle()) {
            let world = World::signing(algorithm, path, worlds.first()).await;
            let below = world.issuer.trim_end_matches('/');
            cases.push(json!({
                "algorithm": algorithm, "issuer": world.issuer, "jwks_uri": format!("{below}/.well-known/jwks.json"),
                "token": world.token(),
            }));
            worlds.push(world);
        }
        Self { worlds, cases: Value::Array(cases) }
    }

    #[track_caller]
    fn told(&self, script: &mut Command) -> Value {
        self.worlds[0].told(script.env("CASES", self.cases.to_string()), ("app", SECRET))
    }
}

/// The program takes the token of each algorithm, and no other signature, for which it has this error.
async fn verifies(script: Option<Command>, algorithms: &[&str], refusal: &str) {
    let Some(mut script) = script.filter(|_| curl_is_there("verifiers")) else { return };
    let told = Gateways::start(algorithms).await.told(&mut script);
    let expected: Map<String, Value> =
        algorithms.iter().map(|algorithm| ((*algorithm).to_owned(), json!(["app", refusal]))).collect();
    assert_eq!(told, Value::Object(expected));
}

/// An interpreter of Debian, if it has this library.
fn debian(program: &str, library: &[&str], script: &str) -> Option<Command> {
    installed(script, program, runs(program, library)).then(|| command(Path::new(program), script))
}

#[tokio::test(flavor = "multi_thread")]
async fn pyjwt_verifies_tokens_of_each_algorithm() {
    verifies(python("PyJWT, each algorithm", "verify_pyjwt.py"), &ALL, "InvalidSignatureError").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn joserfc_verifies_tokens_of_each_algorithm() {
    verifies(python("joserfc, each algorithm", "verify_joserfc.py"), &ALL, "BadSignatureError").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn authlib_verifies_tokens_of_each_algorithm() {
    verifies(python("Authlib, each algorithm", "verify_authlib.py"), &ALL, "BadSignatureError").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jose_verifies_tokens_of_each_algorithm() {
    verifies(node("jose, each algorithm", "verify_jose.mjs"), &ALL, "ERR_JWS_SIGNATURE_VERIFICATION_FAILED").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jwks_rsa_verifies_tokens_of_each_algorithm_it_knows() {
    verifies(node("jwks-rsa, each algorithm", "verify_jwks_rsa.mjs"), &RSA_AND_EC, "invalid signature").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ruby_jwt_verifies_tokens_of_each_algorithm_it_knows() {
    let ruby = debian("ruby", &["-rjwt", "-e", ""], "verify_ruby.rb");
    verifies(ruby, &RSA_AND_EC, "JWT::VerificationError").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn perls_crypt_jwt_verifies_tokens_of_each_algorithm() {
    let perl = debian("perl", &["-MCrypt::JWT", "-e", ""], "verify_perl.pl");
    verifies(perl, &ALL, "JWS: invalid signature").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn authlib_finds_our_metadata_valid() {
    let script = python("Authlib, metadata", "metadata_authlib.py");
    let Some(mut script) = script.filter(|_| curl_is_there("metadata")) else { return };
    let told = Gateways::start(&["RS256", "ES256", "PS256"]).await.told(&mut script);
    // OpenID Connect requires every provider to support RS256. The list has the algorithms that are really used.
    let only_rs256 = json!([null, "\"RS256\" MUST be included in \"id_token_signing_alg_values_supported\""]);
    assert_eq!(told, json!({"RS256": [null, null], "ES256": only_rs256, "PS256": only_rs256}));
}

#[tokio::test(flavor = "multi_thread")]
async fn openid_client_discovers_and_asks_for_two_resources() {
    let Some(mut script) = node("openid-client", "openid_client.mjs") else { return };
    if !curl_is_there("openid-client") {
        return;
    }
    let told = Gateways::start(&["RS256", "ES256", "EdDSA"]).await.told(&mut script);
    let each = json!(["read:data", ["https://api.example.com", "https://other.example.com"], false]);
    for algorithm in ["RS256", "ES256", "EdDSA"] {
        assert_eq!(told[algorithm], json!([each, each]), "{told}");
    }
}
