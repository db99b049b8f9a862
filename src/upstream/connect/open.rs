//! Opens a stream to a server.

use std::future::pending;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::super::server::{Server, ServerAddress};
use super::stream::{Stream, set_reset_on_close};

/// The head start of an address before the next one is tried (RFC 8305 §5).
const CONNECTION_ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// A stream to the server, TLS included, on any runtime, and the address that it leads to. The caller sets the
/// deadline.
pub(crate) async fn open(server: &Server) -> io::Result<(Stream, Option<IpAddr>)> {
    let stream = match &server.place {
        ServerAddress::Address(address) => TcpStream::connect(address).await?,
        ServerAddress::Name(name, port) => {
            let addresses = name.addresses().await?;
            connect_first(addresses.into_iter().map(|address| SocketAddr::new(address, *port))).await?
        }
        ServerAddress::Socket(path) => {
            return UnixStream::connect(path).await.map(|stream| (Stream::Unix(stream), None));
        }
    };
    let _ = stream.set_nodelay(true);
    let address = stream.peer_addr().ok().map(|address| address.ip().to_canonical());
    let stream = match &server.tls {
        None => Stream::Tcp(stream),
        Some(tls) => {
            // A handshake that is given up leaves no state in the kernel.
            set_reset_on_close(&stream, true);
            let stream = tls.connect(stream, server.protocol).await?;
            set_reset_on_close(stream.get_ref().0, false);
            Stream::Tls(Box::new(stream))
        }
    };
    Ok((stream, address))
}

/// Connects to the first of several addresses that accepts. Each has a head start before the next, unless it fails.
async fn connect_first(mut addresses: impl ExactSizeIterator<Item = SocketAddr>) -> io::Result<TcpStream> {
    let mut attempts = JoinSet::new();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        match addresses.next() {
            Some(only) if addresses.len() == 0 && attempts.is_empty() => return TcpStream::connect(only).await,
            Some(next) => {
                attempts.spawn(TcpStream::connect(next));
            }
            None if attempts.is_empty() => return Err(last),
            None => {}
        }
        let delay_is_over = async {
            if addresses.len() == 0 {
                return pending().await;
            }
            sleep(CONNECTION_ATTEMPT_DELAY).await;
        };
        tokio::select! {
            Some(ended) = attempts.join_next() => match ended {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = error,
                Err(panicked) => last = io::Error::other(panicked),
            },
            () = delay_is_over => {}
        }
    }
}
