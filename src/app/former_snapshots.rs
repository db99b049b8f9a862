//! Snapshots that were replaced. They are dropped here, and not by the worker that uses them last: dropping the routes
//! and clients of a large configuration takes longer than a request may wait.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::pipeline::routing::snapshot::Snapshot;

#[derive(Debug, Default)]
pub(super) struct FormerSnapshots(Mutex<Vec<Arc<Snapshot>>>);

const CHECK_INTERVAL: Duration = Duration::from_millis(200);

impl FormerSnapshots {
    /// Keeps a snapshot until it is used nowhere else.
    pub(super) fn keep(&self, snapshot: Arc<Snapshot>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(snapshot);
    }

    /// Never ends.
    pub(super) async fn drop_unused(self: Arc<Self>) {
        loop {
            sleep(CHECK_INTERVAL).await;
            let unused = self.take_unused();
            if !unused.is_empty() {
                // Ends at once if the runtime does.
                let _ = spawn_blocking(move || drop(unused)).await;
            }
        }
    }

    fn take_unused(&self) -> Vec<Arc<Snapshot>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // With one reference, this one, it can get no other.
        kept.extract_if(.., |snapshot| Arc::strong_count(snapshot) == 1).collect()
    }
}
