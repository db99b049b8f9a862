//! The limit on one worker's HTTP/1.1 connections to one server.

use std::cell::Cell;
use std::rc::Rc;

#[derive(Debug)]
pub(crate) struct ConnectionLimit {
    /// `None`: no limit, and nothing is counted.
    max: Option<usize>,
    open: Cell<usize>,
}

/// Held by a connection from before it is opened until its end.
#[derive(Debug)]
pub(crate) struct ConnectionSlot(Rc<ConnectionLimit>);

/// The limit is reached.
#[derive(Debug)]
pub(crate) struct NoConnectionSlot;

impl ConnectionLimit {
    pub(crate) fn new(max: Option<usize>) -> Rc<Self> {
        Rc::new(Self { max, open: Cell::new(0) })
    }

    /// `Ok(None)` if there is no limit.
    pub(crate) fn acquire(self: &Rc<Self>) -> Result<Option<ConnectionSlot>, NoConnectionSlot> {
        if self.max.is_none() {
            return Ok(None);
        }
        if self.is_reached() {
            return Err(NoConnectionSlot);
        }
        self.open.set(self.open.get() + 1);
        Ok(Some(ConnectionSlot(Rc::clone(self))))
    }

    pub(crate) fn is_reached(&self) -> bool {
        self.max.is_some_and(|max| self.open.get() >= max)
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_holds_its_slot_until_its_end() {
        let limit = ConnectionLimit::new(Some(1));
        let slot = limit.acquire();
        assert!(matches!(slot, Ok(Some(_))) && limit.acquire().is_err());
        drop(slot);
        assert!(limit.acquire().is_ok());
    }
}
