//! Values that a connection keeps from one request to the next. Most requests of a connection name the same host and
//! have the same token.

use std::cell::RefCell;
use std::rc::Rc;

use http::HeaderValue;

use super::authority::Authority;
use super::headers::X_FORWARDED_PREFIX;
use crate::http1::field_block::FieldBlock;
use crate::jose::client_certificate::ClientCertificate;
use crate::trust::token_cache::LastToken;
use crate::upstream::pinned::PinnedConnections;

/// The fields by which upstreams know a peer, and what they were rendered for.
#[derive(Debug)]
pub(crate) struct KnownForwarding {
    pub(crate) authority: Rc<Authority>,
    pub(crate) fields: Rc<FieldBlock>,
}

/// A client certificate, and the text of the statement that was read.
#[derive(Debug)]
pub(super) struct StatedCertificate {
    pub(super) text: Box<[u8]>,
    pub(super) certificate: Rc<ClientCertificate>,
}

/// The caches of one connection, shared by all its requests.
#[derive(Debug, Default)]
pub(crate) struct ConnectionCache {
    /// The host that the last request named.
    pub(crate) last_authority: RefCell<Option<Rc<Authority>>>,
    /// The token of the last request with its caller, and the generation of the snapshot under which it was verified.
    pub(crate) last_caller: RefCell<Option<(u64, LastToken)>>,
    /// The fields by which upstreams know the connection's own peer, for the host of the last request.
    pub(crate) last_forwarding: RefCell<Option<KnownForwarding>>,
    /// The client certificate that a proxy stated last.
    pub(super) last_certificate: RefCell<Option<StatedCertificate>>,
    /// `X-Forwarded-Prefix` of the last request whose route removes a prefix.
    last_prefix: RefCell<Option<Rc<FieldBlock>>>,
    /// Upstream connections that carry the identity of this connection's client.
    pub(crate) pins: Rc<PinnedConnections>,
}

impl ConnectionCache {
    /// `X-Forwarded-Prefix` for a route that removes this prefix.
    pub(crate) fn prefix_field(&self, prefix: &HeaderValue) -> Rc<FieldBlock> {
        let mut last = self.last_prefix.borrow_mut();
        let is_same = |known: &&Rc<FieldBlock>| known.fields().iter().any(|(_, value)| value == prefix);
        if let Some(known) = last.as_ref().filter(is_same) {
            return Rc::clone(known);
        }
        // A clone would share its reference count with all cores.
        let own = HeaderValue::from_bytes(prefix.as_bytes()).unwrap_or_else(|_| prefix.clone());
        let field = Rc::new(FieldBlock::new(vec![(X_FORWARDED_PREFIX, own)]));
        *last = Some(Rc::clone(&field));
        field
    }
}
