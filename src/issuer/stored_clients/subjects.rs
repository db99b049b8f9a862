//! The clients that the subject of a platform token may belong to.
//!
//! Held while no client changes, and while the database is unreachable. Only verified tokens are looked up, so that
//! their issuers bound the number of subjects.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quick_cache::sync::Cache;

use super::held::StoredClient;
use super::{ClientStoreUnavailable, StoredClients};
use crate::clock;
use crate::oauth::identity::Identity;
use crate::store::client_table::MOST_CANDIDATES;
use crate::trust::platform_credential::PlatformCredential;

pub(super) struct HeldSubjects {
    by_subject: Cache<SubjectKey, Arc<SubjectClients>>,
    /// Grows with each change of a client.
    changes: AtomicU64,
}

/// Issuer, tenant and subject.
type SubjectKey = (Box<str>, Option<Box<str>>, Identity);

struct SubjectClients {
    ids: Vec<String>,
    changes: u64,
    asked: Instant,
}

/// The reason for which the clients of a subject are not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoCandidates {
    Unavailable,
    /// Entries of more clients than are compared may fit.
    TooMany,
}

const MOST_SUBJECTS: usize = 10_000;
const ASK_AGAIN: Duration = Duration::from_secs(60);

impl HeldSubjects {
    pub(super) fn new() -> Self {
        Self { by_subject: Cache::new(MOST_SUBJECTS), changes: AtomicU64::new(0) }
    }

    pub(super) fn client_changed(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }
}

impl StoredClients {
    /// The clients whose entries a credential may fit: issuer, tenant and the beginning of the subject do.
    pub(crate) async fn candidates(
        self: &Arc<Self>,
        credential: &PlatformCredential,
    ) -> Result<Vec<Arc<StoredClient>>, NoCandidates> {
        let mut clients = Vec::new();
        let of_subject = self.of_subject(credential).await?;
        if of_subject.ids.len() > MOST_CANDIDATES {
            return Err(NoCandidates::TooMany);
        }
        for id in &of_subject.ids {
            clients.extend(self.find(id).await?);
        }
        Ok(clients)
    }

    async fn of_subject(&self, credential: &PlatformCredential) -> Result<Arc<SubjectClients>, ClientStoreUnavailable> {
        let PlatformCredential { issuer, tenant, subject, .. } = credential;
        let key = (issuer.as_str().into(), tenant.as_deref().map(Box::from), subject.clone());
        let (now, changes) = (clock::instant(), self.subjects.changes.load(Ordering::Acquire));
        let known = self.subjects.by_subject.get(&key);
        let age = |known: &Arc<SubjectClients>| now.saturating_duration_since(known.asked);
        if let Some(same) = known.as_ref().filter(|known| known.changes == changes && age(known) < ASK_AGAIN) {
            return Ok(Arc::clone(same));
        }
        let query = self.table.of_subject(issuer.as_str(), tenant.as_deref(), subject.as_str());
        match self.query(&self.slots, query).await {
            Ok(ids) => {
                let found = Arc::new(SubjectClients { ids, changes, asked: now });
                self.subjects.by_subject.insert(key, Arc::clone(&found));
                Ok(found)
            }
            Err(unavailable) => known.filter(|known| age(known) < self.stale).ok_or(unavailable),
        }
    }
}

impl From<ClientStoreUnavailable> for NoCandidates {
    fn from(_: ClientStoreUnavailable) -> Self {
        Self::Unavailable
    }
}
