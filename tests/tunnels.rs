//! Tunnels: opened only when both sides agree, and ended when they should be. Byte by byte, by peers that do what no
//! library would.

mod ends;
mod handshakes;

use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::support::upstream::listen;
use crate::support::wire::{RawUpstream, Wire, within};
use crate::support::{Client, Gateway};

const ASK: &str = "GET /chat HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const YES: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
pub(crate) const OPEN: &str = "path: /chat, access: public, websocket: true, name: chat";

/// A service that agrees to whatever it is asked, and sends back what it hears.
pub(crate) async fn parrot() -> RawUpstream {
    RawUpstream::start(|mut wire, _| {
        Box::pin(async move {
            wire.send(format!("{YES}\r\n")).await;
            loop {
                match wire.take(1).await {
                    nothing if nothing.is_empty() => break,
                    byte => wire.send(byte).await,
                }
            }
        })
    })
    .await
}

/// A service that says no to whoever asks, in the name of the protocol that was asked for.
async fn refusing(answer: &'static str) -> RawUpstream {
    RawUpstream::saying_and_staying(answer).await
}

/// A connection to the gateway that has asked for `/chat`, with these fields and what follows them.
async fn asking(gateway: &Gateway, rest: &str) -> Wire<TlsStream<TcpStream>> {
    let mut wire = Wire::new(Client::new(gateway).tls().await.unwrap());
    wire.send(format!("{ASK}{rest}")).await;
    wire
}

/// A tunnel.
pub(crate) async fn opened(gateway: &Gateway, fields: &str) -> Wire<TlsStream<TcpStream>> {
    let mut wire = asking(gateway, &format!("{fields}\r\n")).await;
    let answer = wire.answer().await.unwrap();
    assert_eq!(answer.status, 101, "{}", answer.head);
    wire
}

pub(crate) async fn echoes(wire: &mut Wire<TlsStream<TcpStream>>, text: &str) {
    wire.send(text).await;
    assert_eq!(within(wire.take(text.len())).await, text.as_bytes());
}

/// A service that tells how many connections it has and loses none while it lives.
async fn counting_open() -> (std::net::SocketAddr, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let open = std::sync::Arc::new(AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&open);
    let address = listen(move |stream| {
        let open = std::sync::Arc::clone(&count);
        async move {
            open.fetch_add(1, Ordering::SeqCst);
            let mut wire = Wire::new(stream);
            if wire.head().await.is_some() {
                wire.send(format!("{YES}\r\n")).await;
                wire.rest().await;
            }
            open.fetch_sub(1, Ordering::SeqCst);
        }
    })
    .await;
    (address, open)
}
