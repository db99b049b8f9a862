//! Programs that we did not write and did not change work with the gateway: clients that get tokens and use them,
//! services that verify our tokens by themselves, from the JWK Set alone. `outside_issuer.rs` has an issuer whose
//! tokens the gateway accepts, `outside_verifiers.rs` tokens of each signing algorithm.
//!
//! They are in `tests/outside/`, and `tests/install-outside.sh` installs what they need. Programs that are not
//! installed are left out, by name; with `PORTCULLIS_OUTSIDE=required` that is a failure.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};

use crate::support::command::run;
use crate::support::gateway::folder;
use crate::support::port::free_port;
use crate::support::{Gateway, Upstream};

pub(crate) const SECRET: &str = "correct-horse-battery-staple";
/// Basic credentials are form-encoded first (RFC 6749 §2.3.1), which is where clients and servers disagree.
const AWKWARD: &str = "100% sure: a+b & c=d/ü \"quoted\"";

/// A gateway that is reached under the name that its tokens bear.
pub(crate) struct World {
    gateway: Gateway,
    _upstream: Upstream,
    origin: String,
    pub(crate) issuer: String,
}

impl World {
    async fn start() -> Self {
        Self::signing("RS256", "", None).await
    }

    /// A gateway whose keys have this algorithm, and whose issuer has this path. It has the TLS certificate of the
    /// other one, if there is one.
    pub(crate) async fn signing(algorithm: &str, path: &str, beside: Option<&Self>) -> Self {
        let (folder, upstream) = (folder(), Upstream::start().await);
        if let Some(other) = beside {
            fs::create_dir(folder.join("certs")).unwrap();
            for file in ["certs/localhost.crt", "certs/localhost.key"] {
                fs::copy(other.gateway.folder.join(file), folder.join(file)).unwrap();
            }
        }
        let port = free_port();
        let origin = format!("https://localhost:{port}");
        let issuer = format!("{origin}{path}");
        let yaml = format!(
            r#"
version: 1
workers: 1
listeners:
  - address: 127.0.0.1:{port}
    tls: {{certificates: [{{cert: certs/localhost.crt, key: certs/localhost.key, self_signed: true}}]}}
allow_literal_secrets: true
oauth:
  issuer: {issuer}
  audiences: [https://api.example.com, https://other.example.com]
  signing_keys: {{algorithm: {algorithm}}}
  token_endpoint: {{rate_limits: [{{rate: 10000/s, per: address}}]}}
  clients:
    app: {{secrets: [{{value: "{SECRET}"}}], scopes: [read:data, write:data]}}
    awkward: {{secrets: [{{value: '{AWKWARD}'}}], scopes: [read:data]}}
upstreams: {{legacy: "http://{}"}}
routes:
  - {{path: /data, methods: [GET], upstream: legacy, access: {{scopes: [read:data]}}}}
  - {{path: /admin, methods: [GET], upstream: legacy, access: {{scopes: [admin:all]}}}}
audit: {{file: "-"}}
"#,
            upstream.address
        );
        Self { gateway: Gateway::start_in(folder, &yaml, &[]), _upstream: upstream, origin, issuer }
    }

    fn ca(&self) -> PathBuf {
        self.gateway.folder.join("certs/localhost.crt")
    }

    /// Runs a program in the surroundings that those in `tests/outside/` know.
    #[track_caller]
    fn run(&self, command: &mut Command, (id, secret): (&str, &str)) -> String {
        let ca = self.ca();
        command.current_dir(outside()).env("ORIGIN", &self.origin).env("CA", &ca);
        command.env("CLIENT_ID", id).env("CLIENT_SECRET", secret);
        command.env("REQUESTS_CA_BUNDLE", &ca).env("NODE_EXTRA_CA_CERTS", &ca).env("PYTHONDONTWRITEBYTECODE", "1");
        let done = timed(&name_of(command), || run(command));
        assert_eq!(done.code, Some(0), "{command:?}\n{}{}\n{}", done.stdout, done.stderr, self.gateway.audit_text());
        done.stdout
    }

    #[track_caller]
    pub(crate) fn told(&self, command: &mut Command, client: (&str, &str)) -> Value {
        let text = self.run(command, client);
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("not JSON: {text}"))
    }

    fn curl(&self) -> Command {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--cacert"]).arg(self.ca());
        curl
    }

    /// A token, got by curl as its manual says.
    pub(crate) fn token(&self) -> String {
        let url = format!("{}/oauth/token", self.issuer.trim_end_matches('/'));
        let basic = format!("app:{SECRET}");
        let told = self.told(
            self.curl().args(["-u", &basic, "-d", "grant_type=client_credentials", "-d", "scope=read:data", &url]),
            ("", ""),
        );
        told["access_token"].as_str().unwrap().to_owned()
    }
}

pub(crate) fn outside() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/outside")
}

/// True if it is there; else the test is left out, which it says.
#[track_caller]
pub(crate) fn installed(test: &str, what: &str, there: bool) -> bool {
    if !there {
        let message = format!("left out: {test}, for want of {what}; run tests/install-outside.sh");
        assert!(std::env::var("PORTCULLIS_OUTSIDE").as_deref() != Ok("required"), "{message}");
        // Not by a macro, whose text would be seen only if the test failed.
        let _ = std::io::stderr().write_all(format!("{message}\n").as_bytes());
    }
    there
}

pub(crate) fn curl_is_there(test: &str) -> bool {
    installed(test, "curl", runs("curl", &["--version"]))
}

pub(crate) fn runs(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).output().is_ok_and(|output| output.status.success())
}

/// The interpreter that knows the packages of `requirements.txt`, for a script.
pub(crate) fn python(test: &str, script: &str) -> Option<Command> {
    let python = outside().join(".venv/bin/python");
    let there = installed(test, "the packages of tests/outside/requirements.txt", python.exists());
    there.then(|| command(&python, script))
}

pub(crate) fn node(test: &str, script: &str) -> Option<Command> {
    let packages = outside().join("node_modules/jose").exists() && runs("node", &["--version"]);
    let there = installed(test, "node and the packages of tests/outside/package.json", packages);
    there.then(|| {
        let mut node = Command::new("node");
        node.args(["--dns-result-order=ipv4first", "--import=./webcrypto.mjs", script]);
        node
    })
}

pub(crate) fn command(program: &Path, script: &str) -> Command {
    let mut command = Command::new(program);
    command.arg(script);
    command
}

/// Does this, and adds a line with its name and the seconds that it took to the file that `PORTCULLIS_OUTSIDE_TIMES`
/// names.
pub(crate) fn timed<T>(name: &str, work: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let done = work();
    if let Some(file) = std::env::var_os("PORTCULLIS_OUTSIDE_TIMES") {
        let line = format!("{:.1}\t{name}\n", started.elapsed().as_secs_f64());
        let mut file = fs::OpenOptions::new().create(true).append(true).open(file).unwrap();
        file.write_all(line.as_bytes()).unwrap();
    }
    done
}

const SCRIPTS: [&str; 4] = [".py", ".mjs", ".rb", ".pl"];

/// The script that the command runs, or its program.
pub(crate) fn name_of(command: &Command) -> String {
    let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
    let script = words.iter().find(|word| SCRIPTS.iter().any(|kind| word.ends_with(kind)) && !word.starts_with("--"));
    script.map_or_else(|| command.get_program().to_string_lossy().into_owned(), |script| script.to_string())
}

/// The claims of every token that the gateway issues to `app`.
#[track_caller]
fn assert_claims(claims: &Value, world: &World) {
    let expected = json!({
        "iss": world.origin, "sub": "app", "client_id": "app", "aud": claims["aud"], "scope": "read:data",
        "iat": claims["iat"], "nbf": claims["nbf"], "exp": claims["exp"], "jti": claims["jti"],
    });
    assert_eq!(claims, &expected);
    assert!(claims["aud"] == "https://api.example.com" || claims["aud"] == json!(["https://api.example.com"]));
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 3600);
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_gets_tokens_by_basic_form_and_json_and_uses_them() {
    if !curl_is_there("curl") {
        return;
    }
    let world = World::start().await;
    let url = format!("{}/oauth/token", world.origin);
    let body = json!({ "client_id": "app", "client_secret": SECRET, "scope": "read:data" }).to_string();
    let (basic, id, secret) = (format!("app:{SECRET}"), "client_id=app", format!("client_secret={SECRET}"));
    let grant = "grant_type=client_credentials";
    for arguments in [
        &["-u", &basic, "-d", grant][..],
        &["-d", grant, "-d", id, "--data-urlencode", &secret],
        &["--json", &body],
        &["--http1.1", "-H", "Content-Type: application/json; charset=utf-8", "-d", &body],
    ] {
        let granted = world.told(world.curl().args(arguments).arg(&url), ("", ""));
        assert_eq!((&granted["token_type"], &granted["expires_in"]), (&json!("Bearer"), &json!(3600)), "{arguments:?}");
        let bearer = format!("Authorization: Bearer {}", granted["access_token"].as_str().unwrap());
        let data = format!("{}/data", world.origin);
        let status = world.run(world.curl().args(["-H", &bearer, "-w", " %{http_code}", &data]), ("", ""));
        assert_eq!(status, "ok 200", "{arguments:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_posts_json_gets_json_answers() {
    let Some(mut script) = python("requests, four cases", "json_four_cases.py") else { return };
    let world = World::start().await;
    let expected = json!({
        "granted": [200, "ok"], "wrong_secret": [401, "invalid_client"], "scope_not_allowed": [400, "invalid_scope"],
        "no_token": [401],
    });
    assert_eq!(world.told(&mut script, ("app", SECRET)), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_posts_no_scope_gets_all_its_scopes() {
    let Some(mut script) = python("requests, with an audience", "json_with_audience.py") else { return };
    let world = World::start().await;
    let expected = json!({
        "status": 200, "members": ["access_token", "expires_in", "scope", "token_type"], "token_type": "Bearer",
        "expires_in": 3600, "scope": "read:data write:data", "data": 200,
    });
    assert_eq!(world.told(&mut script, ("app", SECRET)), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn authlib_gets_tokens_both_ways_and_understands_refusals() {
    let Some(mut script) = python("Authlib", "authlib_client.py") else { return };
    let world = World::start().await;
    let expected = json!({
        "basic": ["read:data", 200], "post": ["read:data", 200], "refused": ["invalid_client", "invalid_client"],
    });
    assert_eq!(world.told(&mut script, ("app", SECRET)), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_oauthlib_gets_tokens_and_understands_refusals() {
    let Some(mut script) = python("requests-oauthlib", "requests_oauthlib_client.py") else { return };
    let world = World::start().await;
    let told = world.told(&mut script, ("app", SECRET));
    assert_eq!(told, json!({ "scope": ["read:data"], "data": 200, "refused": "invalid_scope" }));
}

#[tokio::test(flavor = "multi_thread")]
async fn oauth4webapi_discovers_and_authenticates_with_odd_secrets() {
    let Some(mut script) = node("oauth4webapi", "oauth4webapi_client.mjs") else { return };
    let world = World::start().await;
    let expected = json!({
        "same_metadata": true,
        "granted": [["bearer", 3600, "read:data"], ["bearer", 3600, "read:data"]],
        "data": [200],
        "forbidden": [403, "bearer", {
            "realm": "portcullis", "error": "insufficient_scope", "scope": "admin:all",
        }],
        "garbage": [401, "bearer", {
            "realm": "portcullis", "error": "invalid_token", "error_description": "the access token is invalid or expired",
        }],
        "wrong_secret": "invalid_client",
        "wrong_scope": "invalid_scope",
        "subject": "awkward",
    });
    assert_eq!(world.told(&mut script, ("awkward", AWKWARD)), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn pyjwt_verifies_our_tokens_from_the_jwk_set_alone() {
    let test = "PyJWT";
    let (Some(mut script), true) = (python(test, "pyjwt_verify.py"), curl_is_there(test)) else { return };
    let world = World::start().await;
    let told = world.told(script.env("TOKEN", world.token()), ("app", SECRET));
    assert_claims(&told["claims"], &world);
    assert_eq!(told["type"], "at+jwt");
    assert_eq!(
        (&told["changed"], &told["other_audience"]),
        (&json!("InvalidSignatureError"), &json!("InvalidAudienceError"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn jose_verifies_our_tokens_from_the_jwk_set_alone() {
    let test = "jose";
    let (Some(mut script), true) = (node(test, "jose_verify.mjs"), curl_is_there(test)) else { return };
    let world = World::start().await;
    let told = world.told(script.env("TOKEN", world.token()), ("app", SECRET));
    assert_claims(&told["claims"], &world);
    assert_eq!(told["changed"], "ERR_JWS_SIGNATURE_VERIFICATION_FAILED");
    assert_eq!(told["other_audience"], "ERR_JWT_CLAIM_VALIDATION_FAILED");
}

/// Before, during and after a rotation of the gateway's keys.
#[track_caller]
fn assert_verified_throughout(world: &World, script: &mut Command) {
    script.env("PORTCULLIS", env!("CARGO_BIN_EXE_portcullis")).env("FOLDER", &world.gateway.folder);
    let expected = json!({ "before": "app", "during": ["app", "app"], "after": ["app", "app", "app"] });
    assert_eq!(world.told(script, ("app", SECRET)), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn pyjwt_verifies_our_tokens_all_through_a_rotation() {
    let Some(mut script) = python("PyJWT, rotation", "pyjwt_rotation.py") else { return };
    assert_verified_throughout(&World::start().await, &mut script);
}

#[tokio::test(flavor = "multi_thread")]
async fn jose_verifies_our_tokens_all_through_a_rotation() {
    let Some(mut script) = node("jose, rotation", "jose_rotation.mjs") else { return };
    assert_verified_throughout(&World::start().await, &mut script);
}

#[tokio::test(flavor = "multi_thread")]
async fn our_signatures_hold_by_nothing_but_integers_and_a_hash() {
    let test = "RS256 by hand";
    let there = installed(test, "python3", runs("python3", &["--version"])) && curl_is_there(test);
    if !there {
        return;
    }
    let world = World::start().await;
    let mut script = command(Path::new("python3"), "by_hand_verify.py");
    let told = world.told(script.env("TOKEN", world.token()), ("app", SECRET));
    assert_claims(&told["claims"], &world);
    assert_eq!((&told["header"]["alg"], &told["header"]["typ"]), (&json!("RS256"), &json!("at+jwt")));
    assert_eq!(told["members"], json!(["alg", "e", "kid", "kty", "n", "use"]));
    assert_eq!((&told["bits"], &told["thumbprint_is_kid"]), (&json!(2048), &json!(true)));
    assert_eq!((&told["holds"], &told["forged_holds"]), (&json!(true), &json!(false)));
}
