//! The audit log: one JSON line for every decision, grants and refusals included.
//!
//! A slot is reserved *before* a decision takes effect, the line is formatted on the worker when the outcome is known,
//! and one writer thread numbers, chains and writes the lines of all workers. A request is refused if its line cannot
//! be written; see [`ledger`]. The written lines can be verified, by [`chain`] and [`checkpoint`].

pub(crate) mod aggregate;
pub(crate) mod audit_key;
pub(crate) mod batch;
pub(crate) mod chain;
pub(crate) mod checkpoint;
pub(crate) mod disk;
pub(crate) mod health;
pub(crate) mod ledger;
pub(crate) mod line;
mod log_file;
pub(crate) mod log_paths;
pub(crate) mod reason;
pub(crate) mod record;
pub(crate) mod recovery;
pub(crate) mod rotation;
pub(crate) mod target;
pub(crate) mod verify;
pub(crate) mod writer;
