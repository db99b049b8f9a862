//! Listening sockets that the service manager opened and passed to the process (`LISTEN_FDS`, sd_listen_fds(3)).
//!
//! The service manager keeps them open over a restart, with the connections in their queues: none is refused. A
//! listener takes the socket that is bound to its address, and has no other: all its workers accept from that one. The
//! kernel wakes every worker for a connection, and one of them gets it.

use std::env;
use std::fmt::Write as _;
use std::io;
use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;
use socket2::SockRef;

use super::listener::{self, ListenError};

/// Kept for as long as the process runs: a listener that a reload removes may come back.
#[derive(Debug, Default)]
pub(crate) struct InheritedSockets(Vec<InheritedSocket>);

#[derive(Debug)]
struct InheritedSocket {
    address: SocketAddr,
    /// `FileDescriptorName=` of the unit.
    name: Option<String>,
    socket: TcpListener,
}

/// The sockets of one listener, one for each worker.
#[derive(Debug)]
pub(crate) struct ListenSockets {
    pub(crate) sockets: Vec<TcpListener>,
    pub(crate) queue: QueueOwner,
}

/// The owner of the connections that the kernel holds for a listener when its workers stop accepting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum QueueOwner {
    /// Closing the socket would reset them, so that the worker accepts them first.
    #[default]
    Worker,
    /// They wait for the next process that accepts.
    ServiceManager,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum InheritError {
    #[error("inherited socket {number}{} is not a listening TCP socket; use `ListenStream=` with a port, and `Accept=no`", in_quotes(.name))]
    NotListening {
        number: usize,
        name: Option<String>,
        #[source]
        source: Option<io::Error>,
    },
    #[error("cannot use the inherited socket {address}{}", in_quotes(.name))]
    Io {
        address: SocketAddr,
        name: Option<String>,
        #[source]
        source: io::Error,
    },
    #[error("two inherited sockets have the address {address}; pass one, without `ReusePort=`")]
    Twice { address: SocketAddr },
    #[error("no listener of the configuration has the address of the inherited sockets {sockets}; it has {configured}")]
    Unused { sockets: String, configured: String },
}

impl InheritedSockets {
    /// Takes the sockets that were passed to this process, and removes `LISTEN_FDS` and `LISTEN_PID` from the
    /// environment. To be called once, before the process has other threads.
    pub(crate) fn take() -> Result<Self, InheritError> {
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut passed = ListenFd::from_env();
        let mut sockets: Vec<InheritedSocket> = Vec::new();
        for (at, name) in (0..passed.len()).zip(names.split(':').map(Some).chain(std::iter::repeat(None))) {
            let name = name.filter(|name| !name.is_empty()).map(str::to_owned);
            let faulty = |source| InheritError::NotListening { number: at + 1, name: name.clone(), source };
            let socket =
                passed.take_tcp_listener(at).map_err(|error| faulty(Some(error)))?.ok_or_else(|| faulty(None))?;
            if !SockRef::from(&socket).is_listener().map_err(|error| faulty(Some(error)))? {
                return Err(faulty(None));
            }
            let address = socket.local_addr().map_err(|error| faulty(Some(error)))?;
            if sockets.iter().any(|other| other.address == address) {
                return Err(InheritError::Twice { address });
            }
            // For every process that has it: none blocks in accept(2).
            if let Err(source) = socket.set_nonblocking(true) {
                return Err(InheritError::Io { address, name, source });
            }
            sockets.push(InheritedSocket { address, name, socket });
        }
        Ok(Self(sockets))
    }

    /// Every socket must belong to a listener: otherwise its connections would wait for an answer that never comes.
    pub(crate) fn check(&self, configured: &[SocketAddr]) -> Result<(), InheritError> {
        let unused = self.unused(configured);
        if unused.is_empty() {
            return Ok(());
        }
        let configured = configured.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        Err(InheritError::Unused { sockets: unused.join(", "), configured })
    }

    /// The sockets whose address no listener has, each with its name.
    pub(crate) fn unused(&self, configured: &[SocketAddr]) -> Vec<String> {
        let unused = self.0.iter().filter(|socket| !configured.contains(&socket.address));
        unused.map(|socket| format!("{}{}", socket.address, in_quotes(&socket.name))).collect()
    }

    /// The addresses that listeners of the configuration take over.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.0.iter().map(|socket| socket.address)
    }

    /// Sockets for `count` workers that listen on this address: the inherited one, or new ones.
    pub(crate) fn open(&self, address: SocketAddr, count: usize) -> Result<ListenSockets, ListenError> {
        let Some(inherited) = self.0.iter().find(|inherited| inherited.address == address) else {
            return Ok(ListenSockets { sockets: listener::bind(address, count)?, queue: QueueOwner::Worker });
        };
        let sockets: io::Result<Vec<TcpListener>> = (0..count).map(|_| inherited.socket.try_clone()).collect();
        let sockets = sockets.map_err(|source| ListenError::Io { address, source })?;
        Ok(ListenSockets { sockets, queue: QueueOwner::ServiceManager })
    }
}

fn in_quotes(name: &Option<String>) -> String {
    let mut text = String::new();
    if let Some(name) = name {
        // Writing to a string cannot fail.
        let _ = write!(text, " (`{name}`)");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inherited(count: usize) -> (InheritedSockets, Vec<SocketAddr>) {
        let sockets: Vec<InheritedSocket> = (0..count)
            .map(|number| {
                let socket = TcpListener::bind("127.0.0.1:0").unwrap();
                let address = socket.local_addr().unwrap();
                InheritedSocket { address, name: (number == 0).then(|| "web".to_owned()), socket }
            })
            .collect();
        let addresses = sockets.iter().map(|socket| socket.address).collect();
        (InheritedSockets(sockets), addresses)
    }

    #[test]
    fn a_listener_takes_the_socket_of_its_address_alone() {
        let (inherited, addresses) = inherited(2);
        let opened = inherited.open(addresses[1], 3).unwrap();
        assert_eq!((opened.sockets.len(), opened.queue), (3, QueueOwner::ServiceManager));
        assert!(opened.sockets.iter().all(|socket| socket.local_addr().unwrap() == addresses[1]));
        let other = inherited.open("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        assert_eq!((other.sockets.len(), other.queue), (2, QueueOwner::Worker));
    }

    #[test]
    fn a_socket_without_a_listener_is_named_with_the_addresses() {
        let (inherited, addresses) = inherited(2);
        assert!(inherited.check(&addresses).is_ok());
        let refused = inherited.check(&addresses[1..]).unwrap_err().to_string();
        assert!(refused.contains(&format!("{} (`web`)", addresses[0])), "{refused}");
        assert!(refused.ends_with(&format!("it has {}", addresses[1])), "{refused}");
    }
}
