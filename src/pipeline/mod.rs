//! The corridor: every request walks it, in one direction, one file per room.
//!
//! Start reading in [`corridor`].

pub(crate) mod access;
pub(crate) mod canonical;
pub(crate) mod headers;
pub(crate) mod limits;
pub(crate) mod pattern;
pub(crate) mod route;
pub(crate) mod routes;
