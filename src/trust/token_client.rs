//! The client of an own token, which is looked up once and not at every request.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::network::Networks;

/// The place of a client in a table of clients, so that a token's client is looked up once and not at every request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientEntry {
    /// The table that the index is of: another table has another number.
    pub(crate) table: u64,
    pub(crate) index: usize,
}

/// The facts of a client in the database that its tokens need. A token holds them until the client changes.
#[derive(Debug)]
pub(crate) struct TokenClient {
    /// The number of its table of clients. Another configuration has another table.
    pub(crate) table: u64,
    /// The addresses from which it may call; `None` for any.
    pub(crate) allow_from: Option<Networks>,
    is_current: AtomicBool,
}

impl TokenClient {
    pub(crate) fn new(table: u64, allow_from: Option<Networks>) -> Self {
        Self { table, allow_from, is_current: AtomicBool::new(true) }
    }

    /// False once the client has changed, was removed, or is not held any more. Then it must be looked up again.
    pub(crate) fn is_current(&self) -> bool {
        self.is_current.load(Ordering::Acquire)
    }

    pub(crate) fn retire(&self) {
        self.is_current.store(false, Ordering::Release);
    }

    /// `None` is an uncertain address.
    pub(crate) fn may_call(&self, from: Option<IpAddr>) -> bool {
        let inside = |networks: &Networks| from.is_some_and(|address| networks.contains(address));
        self.allow_from.as_ref().is_none_or(inside)
    }
}
