//! `explain` shows how a request would be decided, by the gateway's own functions and without a connection.

mod command;
mod kept_revisions;
mod past;
mod same_decisions;
