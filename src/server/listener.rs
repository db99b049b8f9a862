//! Listening sockets: one for each worker on each address, so that the kernel distributes connections over the cores.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    #[error("cannot listen on {address}: another process has it")]
    Taken { address: SocketAddr },
    #[error("cannot listen on {address}")]
    Io {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
}

/// A listener, unique in the process over all configurations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ListenerId(pub(crate) u64);

/// The length of the kernel's accept queue. Linux limits it to `net.core.somaxconn`.
pub(super) const BACKLOG: i32 = 4096;

/// `count` listening sockets on one address; port 0 picks one port for all of them.
///
/// The first is bound without `SO_REUSEPORT`, so that binding fails if another process uses the address. Then the other
/// sockets join it.
pub(crate) fn bind(address: SocketAddr, count: usize) -> Result<Vec<TcpListener>, ListenError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::Taken { address },
        _ => ListenError::Io { address, source },
    };
    let first = socket(address).map_err(failed)?;
    listen(&first, address).map_err(failed)?;
    first.set_reuse_port(true).map_err(failed)?;
    let bound = first.local_addr().ok().and_then(|address| address.as_socket()).unwrap_or(address);
    let mut sockets = vec![first];
    for _ in 1..count {
        let next = socket(bound).map_err(failed)?;
        next.set_reuse_port(true).map_err(failed)?;
        listen(&next, bound).map_err(failed)?;
        sockets.push(next);
    }
    Ok(sockets.into_iter().map(TcpListener::from).collect())
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // A restart must not wait for connections in TIME_WAIT.
    socket.set_reuse_address(true)?;
    Ok(socket)
}

fn listen(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_sockets_share_one_port_and_a_second_instance_is_refused() {
        let address = "127.0.0.1:0".parse().unwrap();
        let sockets = bind(address, 3).unwrap();
        let ports: Vec<_> = sockets.iter().map(|socket| socket.local_addr().unwrap().port()).collect();
        assert!(ports.iter().all(|port| *port == ports[0]), "{ports:?}");
        let again = bind(sockets[0].local_addr().unwrap(), 3);
        assert!(matches!(again, Err(ListenError::Taken { .. })), "{again:?}");
    }
}
