//! Values that a connection keeps from one request to the next. Most requests of a connection name the same host and
//! have the same token.

use std::cell::RefCell;
use std::rc::Rc;

use http::Version;

use super::authority::Authority;
use crate::http1::field_block::FieldBlock;
use crate::trust::token_cache::LastToken;
use crate::upstream::pinned::PinnedConnections;

/// The fields by which upstreams know a peer, and what they were rendered for.
#[derive(Debug)]
pub(crate) struct KnownForwarding {
    pub(crate) authority: Rc<Authority>,
    pub(crate) version: Version,
    pub(crate) fields: Rc<FieldBlock>,
}

/// The caches of one connection, shared by all its requests.
#[derive(Debug, Default)]
pub(crate) struct ConnectionCache {
    /// The host that the last request named.
    pub(crate) last_authority: RefCell<Option<Rc<Authority>>>,
    /// The token of the last request with its caller, and the generation of the snapshot under which it was verified.
    pub(crate) last_caller: RefCell<Option<(u64, LastToken)>>,
    /// The fields by which upstreams know the connection's own peer, for the host and the version of the last request.
    pub(crate) last_forwarding: RefCell<Option<KnownForwarding>>,
    /// Upstream connections that carry the identity of this connection's client.
    pub(crate) pins: Rc<PinnedConnections>,
}
