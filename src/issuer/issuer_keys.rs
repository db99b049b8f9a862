//! The signing keys in use, with the JWK Set that publishes them. They are always replaced together.
//!
//! They outlast the configuration: an authorization server with other clients signs with the same keys.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::metadata::CachedDocument;
use super::ring::Ring;
use crate::clock::UnixTime;
use crate::jose::algorithm::Algorithm;
use crate::jose::signing::SigningKey;

#[derive(Debug)]
pub(crate) struct IssuerKeys(ArcSwap<PublishedKeys>);

#[derive(Debug)]
pub(super) struct PublishedKeys {
    ring: Ring,
    jwks: CachedDocument,
    /// The time for which verifiers may cache the documents that describe the keys.
    pub(super) max_age: Duration,
}

impl IssuerKeys {
    /// `max_age` is the time for which verifiers may cache the JWK Set and the metadata.
    pub(crate) fn new(ring: Ring, max_age: Duration) -> Arc<Self> {
        Arc::new(Self(ArcSwap::from_pointee(PublishedKeys::new(ring, max_age))))
    }

    /// Replaces the keys after a rotation. The verifiers of this process must have the new keys before.
    pub(crate) fn publish(&self, ring: Ring, max_age: Duration) {
        self.0.store(Arc::new(PublishedKeys::new(ring, max_age)));
    }

    /// The key that signs at `now`. `None` if no key may sign.
    pub(super) fn signer(&self, now: UnixTime) -> Option<Arc<SigningKey>> {
        self.0.load().ring.signer(now).cloned()
    }

    /// The JWK Set document (RFC 7517 §5).
    pub(super) fn jwks(&self) -> CachedDocument {
        self.0.load().jwks.clone()
    }

    /// Rows of the database that are not used.
    pub(super) fn left_aside(&self) -> usize {
        self.0.load().ring.left_aside().len()
    }

    /// All that is published now.
    pub(super) fn published(&self) -> Arc<PublishedKeys> {
        self.0.load_full()
    }
}

impl PublishedKeys {
    fn new(ring: Ring, max_age: Duration) -> Self {
        let jwks = CachedDocument::new(&ring.public_jwks(), max_age);
        Self { ring, jwks, max_age }
    }

    pub(super) fn algorithms(&self) -> Vec<Algorithm> {
        self.ring.algorithms()
    }
}
