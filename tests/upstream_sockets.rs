//! Upstreams over Unix sockets.

use std::net::SocketAddr;
use std::path::Path;

use tokio::net::{UnixListener, UnixStream};

use crate::support::client::{request, with_body};
use crate::support::gateway::folder;
use crate::support::wire::{Wire, field};
use crate::support::world::config;
use crate::support::{Client, Gateway};
use crate::upstream_http2::{Book, serve};

/// Gives every connection to this socket to `serve`.
fn listen<F, Fut>(path: &Path, serve: F)
where
    F: Fn(UnixStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = UnixListener::bind(path).unwrap();
    tokio::task::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::task::spawn(serve(stream));
        }
    });
}

fn yaml(upstream: &str) -> String {
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
    config(nowhere, &["path: /**, access: public, name: all"], &format!("upstreams: {{legacy: {upstream}}}"))
}

/// Answers with the host that it was asked for and the length of the body.
async fn echo(stream: UnixStream) {
    let mut wire = Wire::new(stream);
    while let Some(head) = wire.head().await {
        let length = field(&head, "content-length").map_or(0, |length| length.parse().unwrap());
        let said = format!("{} {}", field(&head, "host").unwrap(), wire.take(length).await.len());
        wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{said}", said.len())).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_is_found_from_the_folder_of_the_configuration() {
    let folder = folder();
    listen(&folder.join("app.sock"), echo);
    let gateway = Gateway::start_in(folder, &yaml("unix:app.sock"), &[]);
    for client in gateway.both() {
        let answer = client.send(with_body(request("POST", "/x"), vec![0; 100_000])).await;
        assert_eq!((answer.status, &answer.body[..]), (200, &b"localhost 100000"[..]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_is_spoken_over_a_socket_too() {
    let folder = folder();
    let book = Book::default();
    let log = book.clone();
    let path = folder.join("app.sock");
    listen(&path, move |stream| serve(stream, None, log.clone()));
    let gateway =
        Gateway::start_in(folder, &yaml(&format!("{{servers: [\"unix:{}\"], protocol: http2}}", path.display())), &[]);
    for client in gateway.both() {
        assert_eq!(client.get("/x").await.body, "GET http://localhost/x none 0");
    }
    assert_eq!(book.connections(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_without_a_listener_is_unreachable() {
    let gateway = Gateway::start(&yaml("unix:nobody.sock"));
    let answer = Client::new(&gateway).get("/x").await;
    assert_eq!(answer.status, 502);
    assert_eq!(gateway.audit_of(answer.request_id())["gateway.reason"], "upstream_connect");
    gateway.log_line("cannot connect to a server of the upstream");
}
