//! The audit log: one JSON line for every decision, grants and refusals included.
//!
//! A place is reserved *before* a decision takes effect, the line is formatted on the worker when the outcome is known, and one
//! writer thread numbers and writes the lines of all workers. What can't be recorded is refused; see [`ledger`].

pub(crate) mod ledger;
pub(crate) mod line;
pub(crate) mod reason;
pub(crate) mod record;
pub(crate) mod writer;
