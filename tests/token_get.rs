//! `portcullis token get`: a token by each way, alone on standard output; a refusal with the endpoint's words and what
//! to do; no secret in an argument.

mod hints;
mod metadata;
mod platform;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::support::authority::Authority;
use crate::support::client::{request, with_header};
use crate::support::command::{Finished, run_with};
use crate::support::gateway::{folder, program};
use crate::support::issuer::{Key, now};
use crate::support::port::free_port;
use crate::support::{Client, Gateway, Upstream};

const SECRET: &str = "correct horse: battery & staple";

/// A gateway whose issuer is where it listens.
struct World {
    gateway: Gateway,
    _upstream: Upstream,
    issuer: String,
}

impl World {
    /// With these entries of `oauth.clients` beside `app`, and files in the folder of the gateway.
    async fn start(folder: PathBuf, clients: &str) -> Self {
        let upstream = Upstream::start().await;
        let authority = Authority::new();
        fs::write(folder.join("clients.crt"), &authority.certificate).unwrap();
        authority.issue(&["mutual.example.com"]).write(&folder, "mutual");
        let port = free_port();
        let issuer = format!("https://localhost:{port}/auth");
        let yaml = format!(
            r#"
version: 1
workers: 1
listeners:
  - address: 127.0.0.1:{port}
    tls: {{certificates: [{{cert: certs/localhost.crt, key: certs/localhost.key, self_signed: true}}], client_auth: {{mode: optional, ca: clients.crt}}}}
allow_literal_secrets: true
oauth:
  issuer: {issuer}
  audiences: [https://api.example.com, https://other.example.com]
  signing_keys: {{algorithm: ES256}}
  token_endpoint: {{rate_limits: [{{rate: 10000/s, per: address}}]}}
  clients:
    app: {{secrets: [{{value: "{SECRET}"}}], scopes: [read:data, write:data]}}
    mutual: {{certificates: [{{san_dns: mutual.example.com}}], scopes: [read:data]}}
{clients}
upstreams: {{legacy: "http://{}"}}
routes:
  - {{path: /data, methods: [GET], upstream: legacy, access: {{scopes: [read:data]}}}}
audit: {{file: "-"}}
"#,
            upstream.address
        );
        Self { gateway: Gateway::start_in(folder, &yaml, &[]), _upstream: upstream, issuer }
    }

    /// `token get` at this gateway with these arguments, this variable for the secret, and this input.
    #[track_caller]
    fn get_with(&self, arguments: &[&str], secret: Option<&str>, input: &str) -> Finished {
        let mut command = program(&self.gateway.folder);
        command.args(["token", "get", "--ca", "certs/localhost.crt"]).args(arguments);
        command.env_remove("PORTCULLIS_CLIENT_SECRET");
        if let Some(secret) = secret {
            command.env("PORTCULLIS_CLIENT_SECRET", secret);
        }
        run_with(&mut command, input)
    }

    /// The status of a request with these header fields.
    async fn status(&self, fields: &str) -> u16 {
        let mut asked = request("GET", "/data");
        for field in fields.lines() {
            let (name, value) = field.split_once(": ").unwrap();
            let name = if name == "DPoP" { "dpop" } else { "authorization" };
            asked = with_header(asked, name, value);
        }
        Client::new(&self.gateway).send(asked).await.status
    }
}

/// The token that was printed.
#[track_caller]
fn token(said: &Finished) -> &str {
    assert_eq!((said.code, &*said.stderr), (Some(0), ""), "{said:?}");
    said.stdout.strip_suffix('\n').unwrap()
}

/// The claims of a token.
#[track_caller]
fn claims(token: &str) -> Value {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice(&claims).unwrap()
}

#[tokio::test]
async fn a_secret_from_each_place_gets_a_token_that_works() {
    let world = World::start(folder(), "").await;
    fs::write(world.gateway.folder.join("secret.txt"), format!("{SECRET}\n")).unwrap();
    let url = format!("{}/oauth/token", world.issuer);
    for (arguments, variable, input) in [
        (&["--issuer", &world.issuer, "--secret-file", "secret.txt"][..], None, ""),
        (&["--issuer", &world.issuer, "--secret-file", "-"], None, SECRET),
        (&["--issuer", &world.issuer], Some(SECRET), ""),
        (&["--url", &url], Some(SECRET), ""),
        (&["--config", "gateway.yaml"], Some(SECRET), ""),
    ] {
        let said = world.get_with(&[arguments, &["--client", "app"]].concat(), variable, input);
        assert_eq!(world.status(&format!("authorization: Bearer {}", token(&said))).await, 200, "{arguments:?}");
    }
}

#[tokio::test]
async fn scopes_and_audiences_are_those_that_were_asked_for() {
    let world = World::start(folder(), "").await;
    let asked = ["--client", "app", "--scope", "read:data", "--audience", "https://other.example.com"];
    let said = world.get_with(&[&["--issuer", &world.issuer], &asked[..]].concat(), Some(SECRET), "");
    let claims = claims(token(&said));
    assert_eq!((&claims["scope"], &claims["aud"]), (&json!("read:data"), &json!("https://other.example.com")));
    let said = world.get_with(&["--config", "gateway.yaml", "--client", "app", "--format", "json"], Some(SECRET), "");
    let answer: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!((&answer["token_type"], &answer["scope"]), (&json!("Bearer"), &json!("read:data write:data")));
    let said = world.get_with(&["--config", "gateway.yaml", "--client", "app", "--header"], Some(SECRET), "");
    assert_eq!(world.status(said.stdout.trim_end()).await, 200, "{said:?}");
}

#[tokio::test]
async fn a_refusal_has_the_words_of_the_endpoint_and_what_to_do() {
    let world = World::start(folder(), "").await;
    for (arguments, error, advice) in [
        (&["--client", "app", "--scope", "admin"][..], "400 invalid_scope: ", "leave out --scope"),
        (&["--client", "other"], "401 invalid_client: ", "Check the client id"),
        (&["--client", "app", "--audience", "x"], "400 invalid_target: ", "leave out --audience"),
    ] {
        let said = world.get_with(&[&["--issuer", &world.issuer], arguments].concat(), Some(SECRET), "");
        assert_eq!((said.code, &*said.stdout), (Some(1), ""), "{said:?}");
        assert!(said.stderr.contains(error) && said.stderr.contains(advice), "{}", said.stderr);
        assert!(said.stderr.contains("audit query --request-id"), "{}", said.stderr);
        assert!(!said.stderr.contains(SECRET), "{}", said.stderr);
    }
    let arguments = ["--issuer", &world.issuer, "--client", "app", "--scope", "admin", "--format", "json"];
    let said = world.get_with(&arguments, Some(SECRET), "");
    let answer: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!((said.code, &answer["error"]), (Some(1), &json!("invalid_scope")));
}

#[tokio::test]
async fn a_wrong_use_is_exit_code_2_with_a_hint() {
    let world = World::start(folder(), "").await;
    fs::write(
        world.gateway.folder.join("public.pem"),
        fs::read(world.gateway.folder.join("certs/localhost.crt")).unwrap(),
    )
    .unwrap();
    fs::write(world.gateway.folder.join("empty"), "\n").unwrap();
    let issuer = world.issuer.as_str();
    for (arguments, hint) in [
        (&["--client", "app"][..], "--issuer"),
        (&["--issuer", issuer], "--client"),
        (&["--issuer", issuer, "--client", "app"], "give --secret-file, --key, --assertion-file or --cert"),
        (&["--issuer", issuer, "--client", "app", "--key", "a", "--secret-file", "b"], "cannot be used with"),
        (&["--issuer", issuer, "--client", "app", "--cert", "a"], "--cert-key"),
        (&["--issuer", issuer, "--client", "app", "--key", "none.pem"], "cannot read none.pem"),
        (&["--issuer", issuer, "--client", "app", "--key", "public.pem"], "it holds a public key or a certificate"),
        (&["--issuer", issuer, "--client", "app", "--secret-file", "empty"], "empty is empty"),
        (&["--issuer", "http://gateway.example", "--client", "app", "--secret-file", "public.pem"], "must be https"),
        (&["--issuer", &format!("{issuer}/x"), "--client", "app", "--secret-file", "public.pem"], "found no metadata"),
        (&["--url", "https://localhost:1/token", "--client", "app", "--secret-file", "public.pem"], "no answer from"),
        (&["--issuer", issuer, "--client", "app", "--secret", "x"], "unexpected argument '--secret'"),
    ] {
        let said = world.get_with(arguments, None, "");
        assert_eq!((said.code, &*said.stdout), (Some(2), ""), "{arguments:?} {said:?}");
        assert!(said.stderr.contains(hint), "{arguments:?} lacks {hint:?}:\n{}", said.stderr);
    }
    let mut untrusted = program(&world.gateway.folder);
    untrusted.args(["token", "get", "--issuer", issuer, "--client", "app", "--secret-file", "public.pem"]);
    let said = run_with(&mut untrusted, "");
    assert!(said.code == Some(2) && said.stderr.contains("--ca FILE"), "{said:?}");
}

#[test]
fn a_new_key_is_private_and_never_overwritten() {
    let folder = folder();
    let new =
        |more: &[&str]| run_with(program(&folder).args(["client", "new", "a/b", "--scopes", "read"]).args(more), "");
    let said = new(&["--key"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let file = folder.join("a_b.key.pem");
    let pem = fs::read_to_string(&file).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(pem.starts_with("-----BEGIN PRIVATE KEY-----\n"), "no PKCS#8");
    assert!(!said.stdout.contains("\"d\"") && said.stdout.contains("\"a/b\":\n      keys: [{jwk: {\"alg\":\"ES256\""));
    assert!(said.stderr.contains("a_b.key.pem"), "{said:?}");
    let again = new(&["--key"]);
    assert_eq!((again.code, &*again.stdout), (Some(2), ""));
    assert!(again.stderr.contains("it is not overwritten: choose another by --out"), "{}", again.stderr);
    assert_eq!(fs::read_to_string(&file).unwrap(), pem);
    for algorithm in ["RS256", "EdDSA"] {
        let said = new(&["--key", algorithm, "--out", algorithm]);
        assert!(said.code == Some(0) && said.stdout.contains(&format!("\"alg\":\"{algorithm}\"")), "{said:?}");
    }
    let said = new(&["--key", "HS256"]);
    assert!(said.code == Some(2) && said.stderr.contains("expected ES256, RS256 or EdDSA"), "{said:?}");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_public_key_is_taken_and_a_private_one_refused() {
    let folder = folder();
    let new =
        |file: &str| run_with(program(&folder).args(["client", "new", "app", "--scopes", "a", "--public", file]), "");
    let made =
        run_with(program(&folder).args(["client", "new", "app", "--scopes", "a", "--key", "--out", "key.pem"]), "");
    let entry = made.stdout.lines().find(|line| line.contains("keys: [{jwk: ")).unwrap();
    let jwk = entry.trim().strip_prefix("keys: [{jwk: ").unwrap().strip_suffix("}]").unwrap();
    fs::write(folder.join("key.jwk"), jwk).unwrap();
    let said = new("key.jwk");
    assert!(said.code == Some(0), "{said:?}");
    let again: Value = {
        let entry = said.stdout.lines().find(|line| line.contains("keys: [{jwk: ")).unwrap();
        let jwk = entry.trim().strip_prefix("keys: [{jwk: ").unwrap().strip_suffix("}]").unwrap();
        serde_json::from_str(jwk).unwrap()
    };
    assert_eq!(again, serde_json::from_str::<Value>(jwk).unwrap());
    let said = new("key.pem");
    assert_eq!((said.code, &*said.stdout), (Some(2), ""));
    assert!(said.stderr.contains("it holds a private key, which only the client may have"), "{}", said.stderr);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 2, "it makes nothing");
    fs::remove_dir_all(folder).unwrap();
}

/// The entry that `client new` prints.
fn entry(made: &Finished) -> String {
    assert_eq!(made.code, Some(0), "{made:?}");
    made.stdout.lines().take(3).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn a_key_of_each_algorithm_gets_a_token_by_the_printed_entry() {
    let folder = folder();
    let mut entries = Vec::new();
    for algorithm in ["ES256", "RS256", "EdDSA"] {
        let new = ["client", "new", algorithm, "--scopes", "read:data", "--key", algorithm];
        entries.push(entry(&run_with(program(&folder).args(new), "")));
    }
    let world = World::start(folder, &entries.join("\n")).await;
    let url = format!("{}/oauth/token", world.issuer);
    for algorithm in ["ES256", "RS256", "EdDSA"] {
        let key = format!("{algorithm}.key.pem");
        for place in [["--issuer", &world.issuer], ["--url", &url], ["--config", "gateway.yaml"]] {
            let said = world.get_with(&[&place[..], &["--client", algorithm, "--key", &key]].concat(), None, "");
            assert_eq!(world.status(&format!("authorization: Bearer {}", token(&said))).await, 200, "{place:?}");
        }
    }
    let said = world.get_with(&["--issuer", &world.issuer, "--client", "ES256", "--key", "EdDSA.key.pem"], None, "");
    assert!(said.code == Some(1) && said.stderr.contains("401 invalid_client"), "{said:?}");
}

#[tokio::test]
async fn a_token_bound_by_dpop_works_with_the_printed_proof_alone() {
    let folder = folder();
    let made =
        run_with(program(&folder).args(["client", "new", "x", "--scopes", "x", "--key", "--out", "dpop.pem"]), "");
    assert_eq!(made.code, Some(0), "{made:?}");
    let world = World::start(folder, "").await;
    // As the client of the tests names the host.
    let data = "https://localhost/data";
    let arguments =
        ["--issuer", &world.issuer, "--client", "app", "--dpop-key", "dpop.pem", "--header", "--dpop-for", "GET"];
    let said = world.get_with(&[&arguments[..], &[data]].concat(), Some(SECRET), "");
    let lines: Vec<&str> = said.stdout.lines().collect();
    assert!(lines.len() == 2 && lines[0].starts_with("Authorization: DPoP "), "{said:?}");
    let bound = lines[0].strip_prefix("Authorization: DPoP ").unwrap();
    let inspected = |format: &str| {
        let mut inspect = program(&world.gateway.folder);
        run_with(inspect.args(["token", "inspect", "--from", "127.0.0.1", "--format", format]), bound)
    };
    let jkt = claims(bound)["cnf"]["jkt"].as_str().unwrap().to_owned();
    let shown = inspected("text");
    let line = format!("bound to the key {jkt}: every request needs a DPoP proof of it");
    assert!(shown.code == Some(0) && shown.stdout.contains(&line), "{shown:?}");
    let found: Value = serde_json::from_str(&inspected("json").stdout).unwrap();
    assert_eq!(found["bound"], json!({ "key": jkt, "certificate": null }));
    assert_eq!(world.status(lines[0]).await, 401, "without its proof");
    assert_eq!(world.status(&lines[0].replace("DPoP", "Bearer")).await, 401, "as a bearer token");
    assert_eq!(world.status(said.stdout.trim_end()).await, 200);
    assert_eq!(world.status(said.stdout.trim_end()).await, 401, "the proof a second time");
}

#[tokio::test]
async fn a_certificate_gets_a_token_that_is_bound_to_it() {
    let world = World::start(folder(), "").await;
    let arguments = ["--issuer", &world.issuer, "--client", "mutual", "--cert", "mutual.crt", "--cert-key"];
    let said = world.get_with(&[&arguments[..], &["mutual.key"]].concat(), None, "");
    let token = token(&said);
    let thumbprint = claims(token)["cnf"]["x5t#S256"].as_str().unwrap().to_owned();
    assert_eq!(world.status(&format!("authorization: Bearer {token}")).await, 401, "without the certificate");
    let said = run_with(program(&world.gateway.folder).args(["token", "inspect", "--from", "127.0.0.1"]), token);
    let line = format!("bound to the certificate {thumbprint}: every request needs a connection with it");
    assert!(said.code == Some(0) && said.stdout.contains(&line), "{said:?}");
    let said = world.get_with(&[&arguments[..], &["clients.crt"]].concat(), None, "");
    assert!(
        said.code == Some(2) && said.stderr.contains("cannot use clients.crt: it holds a public key or a certificate"),
        "{said:?}"
    );
}

/// A gateway with clients of a platform, and the key that signs the platform's tokens.
async fn with_platform() -> (World, Key) {
    let (folder, key) = (folder(), Key::new("k1", "ES256"));
    fs::write(folder.join("platform.json"), json!({ "keys": [key.jwk()] }).to_string()).unwrap();
    let entry = |subject: &str| format!("{{issuer: platform, subject: '{subject}', claims: {{tier: gold}}}}");
    let clients = format!(
        "    pod: {{federation: [{}], scopes: [read:data]}}\n    job: {{federation: [{}], scopes: [read:data]}}\n\
         issuers:\n  platform: {{issuer: 'https://platform.example.com', jwks_file: platform.json}}",
        entry("system:serviceaccount:*:app"),
        entry("system:serviceaccount:ci:job"),
    );
    (World::start(folder, &clients).await, key)
}

fn platform_token(world: &World, key: &Key, subject: &str, tier: &str) -> String {
    let (now, audience) = (now(), &world.issuer);
    key.sign(&json!({
        "iss": "https://platform.example.com", "sub": subject, "aud": audience, "iat": now, "exp": now + 600, "tier": tier,
    }))
}

#[tokio::test]
async fn a_platform_token_gets_a_token_in_each_way() {
    let (world, key) = with_platform().await;
    let platform = platform_token(&world, &key, "system:serviceaccount:prod:app", "gold");
    fs::write(world.gateway.folder.join("platform.jwt"), format!("{platform}\n")).unwrap();
    for (more, input) in [
        (&["--assertion-file", "platform.jwt"][..], ""),
        (&["--assertion-file", "-"], &*platform),
        (&["--assertion-file", "platform.jwt", "--client", "pod"], ""),
        (&["--assertion-file", "platform.jwt", "--grant", "jwt-bearer"], ""),
    ] {
        let said = world.get_with(&[&["--issuer", &world.issuer], more].concat(), None, input);
        assert_eq!(claims(token(&said))["client_id"], "pod", "{more:?}");
    }
    let both =
        ["--assertion-file", "platform.jwt", "--grant", "jwt-bearer", "--spiffe", "--url", "https://localhost:1"];
    let said = world.get_with(&both, None, "");
    assert!(said.code == Some(2) && said.stderr.contains("--spiffe is for a client's credential"), "{said:?}");
}

#[tokio::test]
async fn inspect_says_which_entry_of_federation_fits_and_why_not() {
    let (world, key) = with_platform().await;
    let inspect = |subject: &str, tier: &str| {
        let token = platform_token(&world, &key, subject, tier);
        let mut inspect = program(&world.gateway.folder);
        let said = run_with(inspect.args(["token", "inspect", "--format", "json"]), &token);
        let text = run_with(program(&world.gateway.folder).args(["token", "inspect"]), &token).stdout;
        let found: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|_| panic!("{said:?}"));
        (said.code, found["credential"].clone(), text)
    };
    let (code, found, text) = inspect("system:serviceaccount:prod:app", "gold");
    assert_eq!((code, &found["client"], &found["good"]), (Some(0), &json!("pod"), &json!(true)), "{found}");
    let subject = "system:serviceaccount:ci:job";
    let other = json!({
        "client": "job", "subject": subject, "matches": false,
        "found": "subject=system:serviceaccount:prod:app", "wanted": format!("subject={subject}"),
    });
    assert!(found["entries"].as_array().unwrap().contains(&other), "{found}");
    assert!(text.contains("system:serviceaccount:*:app  matches") && text.contains("differs: "), "{text}");
    let (code, found, text) = inspect("system:serviceaccount:prod:app", "silver");
    assert_eq!((code, &found["reason"]), (Some(1), &json!("no_federated_client")), "{found}");
    assert!(text.contains("tier=") && text.contains("refused"), "{text}");
}
