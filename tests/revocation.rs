//! Trust ends early: a client takes back its tokens, an operator anyone's, and within a second no worker believes them,
//! nor after a restart.

mod by_client;
mod by_operator;

use std::fs;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::Value;

use crate::support::client::{Connection, basic, request, with_body, with_header, with_token};
use crate::support::gateway::folder;
use crate::support::world::{SECRET, config};
use crate::support::{Answer, Client, Gateway, Upstream};

const ROUTES: [&str; 1] = ["name: data, path: /data, access: {}"];

/// A gateway before a service, whose only route wants any token.
pub(crate) struct World {
    pub(crate) gateway: Gateway,
    pub(crate) client: Client,
    yaml: String,
    _upstream: Upstream,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with("").await
    }

    pub(crate) async fn with(sections: &str) -> Self {
        let upstream = Upstream::start().await;
        let yaml = config(upstream.address, &ROUTES, sections);
        let gateway = Gateway::start(&yaml);
        Self { client: Client::new(&gateway), gateway, yaml, _upstream: upstream }
    }

    /// The same folder and so the same keys; with these sections too.
    pub(crate) fn restart(&mut self, sections: &str) {
        self.restart_as(&format!("{}{sections}", self.yaml));
    }

    pub(crate) fn restart_as(&mut self, yaml: &str) {
        assert!(self.gateway.stop().success());
        // The folder of the old one goes with it.
        let kept = folder();
        fs::rename(&self.gateway.folder, &kept).unwrap();
        self.gateway = Gateway::start_in(kept, yaml, &[]);
        self.client = Client::new(&self.gateway);
    }

    pub(crate) async fn token(&self, client: &str) -> String {
        self.client.granted(client, SECRET, "").await
    }

    pub(crate) async fn accepts(&self, token: &str) {
        let answer = self.client.get_with("/data", token).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    pub(crate) async fn refuses(&self, token: &str) {
        self.is_refusal(&self.client.get_with("/data", token).await);
    }

    #[track_caller]
    pub(crate) fn is_refusal(&self, answer: &Answer) {
        assert_eq!(answer.status, 401, "{answer:?}");
        assert_eq!(answer.json()["error"], "invalid_token");
        assert!(answer.header("www-authenticate").contains("error=\"invalid_token\""), "{answer:?}");
        assert!(!String::from_utf8_lossy(&answer.body).contains("revoked"), "which way is for the audit log");
        assert_eq!(self.gateway.audit_of(answer.request_id())["gateway.reason"], "revoked");
    }

    /// Connections, as many as make sure that several workers have some, on which this token has been good.
    pub(crate) async fn connections(&self, token: &str) -> Vec<Connection> {
        let mut connections = Vec::new();
        for _ in 0..24 {
            let mut connection = self.client.connect().await;
            assert_eq!(get(&mut connection, token).await.status, 200);
            connections.push(connection);
        }
        connections
    }

    /// Every entry that the file holds.
    pub(crate) fn stored(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.gateway.folder.join("state/revocations.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

pub(crate) async fn get(connection: &mut Connection, token: &str) -> Answer {
    connection.send(with_token(request("GET", "/data"), token)).await
}

/// A revocation request in a form.
fn revocation(token: &str) -> Request<Full<Bytes>> {
    form(&format!("token={token}"))
}

fn form(body: &str) -> Request<Full<Bytes>> {
    let request = with_header(request("POST", "/oauth/revoke"), "content-type", "application/x-www-form-urlencoded");
    with_body(request, body.to_owned())
}

fn by(mut request: Request<Full<Bytes>>, client: &str) -> Request<Full<Bytes>> {
    request.headers_mut().insert("authorization", basic(client, SECRET));
    request
}
