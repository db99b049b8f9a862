//! Where `--issuer` finds the token endpoint: at each of the four URLs, and only in the metadata of exactly this issuer.

use std::net::TcpListener;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use serde_json::{Value, json};

use crate::support::Upstream;
use crate::support::command::{Finished, run_with};
use crate::support::gateway::{folder, program};

/// An authorization server with one tenant, whose metadata is at this path alone. Other paths are answered by a page.
fn tenant(issuer_path: &str, metadata_path: &'static str, named: impl Fn(&str) -> String) -> (Upstream, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let issuer = format!("{origin}{issuer_path}");
    let metadata = json!({ "issuer": named(&issuer), "token_endpoint": format!("{origin}/token") });
    let server = Upstream::answering_at(listener, move |seen| {
        let answer = |value: &Value| Response::new(Full::new(Bytes::from(value.to_string())));
        match seen.target.as_str() {
            "/token" => answer(&json!({ "access_token": "t-1", "token_type": "Bearer" })),
            path if path == metadata_path => answer(&metadata),
            _ => Response::new(Full::from("<html>a page</html>")),
        }
    });
    (server, issuer)
}

fn token_of(issuer: &str) -> Finished {
    let mut command = program(&folder());
    command.args(["token", "get", "--issuer", issuer, "--client", "app"]);
    run_with(command.env("PORTCULLIS_CLIENT_SECRET", "a"), "")
}

#[tokio::test]
async fn metadata_is_found_at_each_url_that_an_issuer_may_use() {
    for place in [
        "/realms/x/.well-known/openid-configuration",
        "/.well-known/oauth-authorization-server/realms/x",
        "/.well-known/openid-configuration/realms/x",
        "/realms/x/.well-known/oauth-authorization-server",
    ] {
        let (server, issuer) = tenant("/realms/x", place, str::to_owned);
        let said = token_of(&issuer);
        assert_eq!((said.code, &*said.stdout), (Some(0), "t-1\n"), "{place} {said:?}");
        assert_eq!(server.seen().last().unwrap().target, "/token", "{place}");
    }
}

#[tokio::test]
async fn metadata_of_another_issuer_leads_nowhere() {
    let place = "/realms/x/.well-known/openid-configuration";
    for (named, hint) in [("/", ": give --issuer with this text;"), ("/evil", "/realms/x/evil`;")] {
        let (server, issuer) = tenant("/realms/x", place, |issuer| format!("{issuer}{named}"));
        let said = token_of(&issuer);
        assert_eq!((said.code, &*said.stdout), (Some(2), ""), "{said:?}");
        let expected = format!("openid-configuration is the metadata of the issuer `{issuer}{named}`");
        assert!(said.stderr.contains(&expected) && said.stderr.contains(hint), "{said:?}");
        assert!(server.seen().iter().all(|seen| seen.target != "/token"), "{said:?}");
    }
}
