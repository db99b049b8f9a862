//! What a person does next: a nonce that goes along, and the files and settings that a failure names.

use std::fs;

use super::{SECRET, World, platform_token, with_platform};
use crate::outside::{installed, runs};
use crate::support::client::{request, with_header};
use crate::support::command::{run, run_with};
use crate::support::gateway::{folder, program};
use crate::support::{Client, authority::Authority};

const NONCES: &str =
    "    bound: {secrets: [{value: correct-horse-battery-1}], bound: dpop, scopes: [read:data]}\n  dpop: {nonce: true}";

#[tokio::test]
async fn a_printed_proof_has_the_nonce_that_the_gateway_wants() {
    let folder = folder();
    let made =
        run_with(program(&folder).args(["client", "new", "x", "--scopes", "x", "--key", "--out", "dpop.pem"]), "");
    assert_eq!(made.code, Some(0), "{made:?}");
    let world = World::start(folder, NONCES).await;
    let host = format!("localhost:{}", world.gateway.address().port());
    for (url, expected) in [(format!("https://{host}/data"), 200), ("https://localhost/data".to_owned(), 401)] {
        let asked =
            ["--issuer", &world.issuer, "--client", "app", "--dpop-key", "dpop.pem", "--header", "--dpop-for", "GET"];
        let said = world.get_with(&[&asked[..], &[&url]].concat(), Some(SECRET), "");
        let fields: Vec<&str> = said.stdout.lines().collect();
        let [authorization, proof] = fields[..] else { panic!("{said:?}") };
        let mut asked = request("GET", "/data");
        asked.headers_mut().insert("host", url.split('/').nth(2).unwrap().parse().unwrap());
        *asked.uri_mut() = url.parse().unwrap();
        asked = with_header(asked, "authorization", authorization.strip_prefix("Authorization: ").unwrap());
        asked = with_header(asked, "dpop", proof.strip_prefix("DPoP: ").unwrap());
        let answer = Client::new(&world.gateway).send(asked).await;
        // A nonce is sent to its own server alone.
        assert_eq!(answer.status, expected, "{url}: {answer:?}");
        assert_eq!(answer.headers.contains_key("dpop-nonce"), expected == 401, "{answer:?}");
    }
}

#[tokio::test]
async fn a_refusal_names_the_option_that_is_missing() {
    let world = World::start(folder(), NONCES).await;
    let said = world.get_with(&["--issuer", &world.issuer, "--client", "bound"], Some("correct-horse-battery-1"), "");
    assert!(said.code == Some(1) && said.stderr.contains("give one by --dpop-key"), "{said:?}");
    let (world, key) = with_platform().await;
    for way in [&[][..], &["--grant", "jwt-bearer"]] {
        let token = platform_token(&world, &key, "system:serviceaccount:prod:app", "silver");
        let said = world.get_with(&[&["--issuer", &world.issuer, "--assertion-file", "-"], way].concat(), None, &token);
        assert_eq!(said.code, Some(1), "{said:?}");
        for part in ["--assertion-file", "`aud`", "`federation`", "portcullis token inspect"] {
            assert!(said.stderr.contains(part), "lacks {part}: {}", said.stderr);
        }
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_named_with_the_cause() {
    let world = World::start(folder(), "").await;
    let folder = &world.gateway.folder;
    let (own, foreign) = (Authority::new(), Authority::new());
    own.issue(&["other.example.com"]).write(folder, "other");
    foreign.issue(&["mutual.example.com"]).write(folder, "foreign");
    fs::write(folder.join("text"), "no PEM\n").unwrap();
    let asked = |more: &[&str]| {
        let mut command = program(folder);
        command.args(["token", "get", "--issuer", &world.issuer, "--client", "mutual"]).args(more);
        run_with(&mut command, "")
    };
    let trusted = ["--ca", "certs/localhost.crt"];
    for (arguments, hint) in [
        (&["--cert", "text", "--cert-key", "mutual.key"][..], "cannot use text: it holds no certificate in PEM"),
        (&["--cert", "mutual.crt", "--cert-key", "text"], "cannot use text: it is neither PEM"),
        (&["--cert", "mutual.crt", "--cert-key", "other.key"], "cannot use mutual.crt with other.key: the key is"),
        (&["--cert", "foreign.crt", "--cert-key", "foreign.key"], "check `tls.client_auth` of its listener"),
    ] {
        let said = asked(&[&trusted[..], arguments].concat());
        assert_eq!((said.code, &*said.stdout), (Some(2), ""), "{arguments:?} {said:?}");
        assert!(said.stderr.contains(hint), "{arguments:?} lacks {hint:?}:\n{}", said.stderr);
    }
    let mutual = ["--cert", "mutual.crt", "--cert-key", "mutual.key"];
    let said = asked(&[&["--ca", "text"], &mutual[..]].concat());
    assert!(said.code == Some(2) && said.stderr.contains("cannot use text: it holds no certificate"), "{said:?}");
    let said =
        asked(&[&trusted[..], &mutual, &["--header", "--dpop-key", "mutual.key", "--dpop-for", "GET", "/x"]].concat());
    assert!(said.code == Some(2) && said.stderr.contains("needs the whole URL of the request"), "{said:?}");
}

#[test]
fn a_new_key_of_each_algorithm_is_read_by_openssl() {
    if !installed("new keys in openssl", "openssl", runs("openssl", &["version"])) {
        return;
    }
    let folder = folder();
    for algorithm in ["ES256", "RS256", "EdDSA"] {
        let file = format!("{algorithm}.pem");
        let new = ["client", "new", "app", "--scopes", "a", "--key", algorithm, "--out", &file];
        assert_eq!(run_with(program(&folder).args(new), "").code, Some(0));
        let mut openssl = std::process::Command::new("openssl");
        let said = run(openssl.args(["pkey", "-noout", "-text", "-in", &file]).current_dir(&folder));
        assert_eq!(said.code, Some(0), "{algorithm}: {said:?}");
    }
    // Its public key is not in the file: many readers refuse that (RFC 5958 §2).
    let pem = fs::read(folder.join("EdDSA.pem")).unwrap();
    assert_eq!(pem::parse(pem).unwrap().contents().len(), 48);
    fs::remove_dir_all(folder).unwrap();
}
