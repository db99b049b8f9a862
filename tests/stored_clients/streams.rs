//! Streams that are open when their client of the database changes: those that it may not keep end.

use std::net::SocketAddr;

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::Value;
use tokio::sync::mpsc;

use super::{World, oauth};
use crate::support::client::{request, with_header, with_token};
use crate::support::command::run;
use crate::support::gateway::{folder, program};
use crate::support::postgres::Postgres;
use crate::support::upstream::by_http2;
use crate::support::wire::{Piped, RawUpstream, within};
use crate::support::world::config;
use crate::support::{Client, Gateway, Upstream};
use crate::tunnels::{echoes, opened, parrot};

const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\
                    Connection: close\r\n\r\n5\r\nhello\r\n";

/// The token of a new client.
async fn token(world: &World, id: &str) -> String {
    let secret = world.makes(id);
    world.until_granted(id, &secret, 200).await;
    world.client.granted(id, &secret, "").await
}

async fn events(client: &Client, token: &str) -> Response<Incoming> {
    within(client.connect().await.begin(with_token(request("GET", "/data"), token))).await.unwrap()
}

/// The end of a stream that the gateway cuts, and its line in the audit log.
async fn is_cut(gateway: &Gateway, answer: Response<Incoming>) -> Value {
    let id = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
    assert!(within(answer.into_body().collect()).await.is_err(), "it looks complete");
    gateway.audit_of(&id)
}

#[tokio::test]
async fn an_event_stream_ends_with_its_client() {
    let source = RawUpstream::saying_and_staying(HEAD).await;
    for reload in ["", "reload: {open_streams: keep}\n"] {
        let world = World::with(source.address, Upstream::start().await, reload);
        let token = token(&world, "billing").await;
        let open = events(&world.client, &token).await;
        world.does(&["disable", "billing"]);
        let line = is_cut(&world.gateway, open).await;
        assert_eq!((&line["gateway.decision"], &line["gateway.reason"]), (&"error".into(), &"unknown_client".into()));
        assert_eq!(
            (&line["gateway.found"], &line["http.response.status_code"]),
            (&"client billing".into(), &200.into())
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_tunnel_ends_with_its_client_and_others_go_on() {
    let upstream = parrot().await;
    let route = "name: chat, path: /chat, access: {scopes: [read:data]}, websocket: true";
    let folder = folder();
    let gateway = Gateway::start_in(folder.clone(), &config(upstream.address, &[route], &oauth("")), &[]);
    let world = World { folder, client: Client::new(&gateway), gateway, upstream: Upstream::start().await };
    let tokens = [token(&world, "billing").await, token(&world, "other-one").await];
    let fields = tokens.map(|token| format!("Authorization: Bearer {token}\r\n"));
    let (mut ended, mut kept) = (opened(&world.gateway, &fields[0]).await, opened(&world.gateway, &fields[1]).await);
    echoes(&mut ended, "hello").await;
    // Another secret changes nothing for a stream.
    world.does(&["rotate", "other-one", "--overlap", "1h"]);
    world.does(&["delete", "billing"]);
    assert!(within(ended.rest()).await.is_empty());
    echoes(&mut kept, "still here").await;
    let line = world.gateway.audit_line(|line| line["gateway.reason"] == "unknown_client");
    assert_eq!((&line["url.path"], &line["http.response.status_code"]), (&"/chat".into(), &101.into()));
}

/// A gRPC service that keeps its calls open.
async fn calls(open: mpsc::Sender<mpsc::Sender<Bytes>>) -> SocketAddr {
    by_http2(move |_| {
        let open = open.clone();
        async move {
            let (sender, body) = Piped::new();
            open.send(sender).await.unwrap();
            Response::builder().header("content-type", "application/grpc").body(body).unwrap()
        }
    })
    .await
}

#[tokio::test]
async fn a_grpc_call_ends_with_the_status_of_its_changed_client() {
    let Some(postgres) = Postgres::start() else { return };
    let (sender, mut begun) = mpsc::channel(1);
    let service = calls(sender).await;
    let sections = format!(
        "{}shared: {{postgres: {{url: \"{}\"}}}}\nupstreams: {{legacy: {{servers: [\"http://{service}\"], protocol: http2}}}}\n",
        oauth("").replace("clients_in: sqlite", "clients_in: postgres"),
        postgres.url()
    );
    let yaml = config(service, &["name: call, path: /x, access: {scopes: [read:data]}"], &sections);
    let folder = folder();
    std::fs::write(folder.join("gateway.yaml"), &yaml).unwrap();
    let migrated = run(program(&folder).args(["store", "migrate"]));
    assert_eq!(migrated.code, Some(0), "{migrated:?}");
    let gateway = Gateway::start_in(folder.clone(), &yaml, &[]);
    let world = World { folder, client: Client::new(&gateway), gateway, upstream: Upstream::start().await };
    let mut connection = Client::http2(&world.gateway).connect().await;
    for (change, code, reason) in [
        ("entry = '{\"allow_from\": [\"192.0.2.0/24\"], ' || substr(entry, 2)", "7", "address_not_allowed"),
        ("disabled = 1", "16", "unknown_client"),
    ] {
        let id = format!("caller-{code}");
        let token = token(&world, &id).await;
        let call = with_header(with_token(request("POST", "/x"), &token), "content-type", "application/grpc");
        let answer = within(connection.begin(call)).await.unwrap();
        let service = within(begun.recv()).await.unwrap();
        postgres.sql(&format!("UPDATE clients SET {change} WHERE id = '{id}'"));
        let request_id = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
        let collected = within(answer.into_body().collect()).await.unwrap();
        assert_eq!(collected.trailers().unwrap()["grpc-status"], code);
        within(service.closed()).await;
        assert_eq!(world.gateway.audit_of(&request_id)["gateway.reason"], reason);
    }
}
