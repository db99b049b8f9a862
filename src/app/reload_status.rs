//! The configuration in use and the last attempt to replace it, for `GET /config` and the metrics.

use std::sync::{Mutex, PoisonError};

use serde_json::json;

use crate::clock::UnixTime;
use crate::telemetry::reload_counts::ReloadCounts;

#[derive(Debug)]
pub(super) struct ReloadStatus {
    state: Mutex<ReloadState>,
    /// The name of this gateway.
    instance: String,
}

#[derive(Debug)]
struct ReloadState {
    /// The revision in use.
    revision: String,
    since: UnixTime,
    last: Option<ReloadAttempt>,
    succeeded: u64,
    refused: u64,
}

#[derive(Debug)]
struct ReloadAttempt {
    at: UnixTime,
    /// `None` if the file could not be read.
    revision: Option<String>,
    /// Empty if it succeeded.
    errors: Vec<String>,
}

/// Errors that the page shows.
const MAX_ERRORS: usize = 100;

impl ReloadStatus {
    pub(super) fn new(revision: String, instance: String, now: UnixTime) -> Self {
        let state = ReloadState { revision, since: now, last: None, succeeded: 0, refused: 0 };
        Self { state: Mutex::new(state), instance }
    }

    pub(super) fn succeeded(&self, revision: &str, now: UnixTime) {
        self.with(|state| {
            state.succeeded += 1;
            revision.clone_into(&mut state.revision);
            state.since = now;
            state.last = Some(ReloadAttempt { at: now, revision: Some(revision.to_owned()), errors: Vec::new() });
        });
    }

    pub(super) fn refused(&self, revision: Option<String>, mut errors: Vec<String>, now: UnixTime) {
        errors.truncate(MAX_ERRORS);
        self.with(|state| {
            state.refused += 1;
            state.last = Some(ReloadAttempt { at: now, revision, errors });
        });
    }

    /// One sentence.
    pub(super) fn summary(&self) -> String {
        self.with(|state| {
            let serving = format!("serving configuration {}", state.revision);
            let error = state.last.as_ref().and_then(|last| last.errors.first());
            error.map_or_else(|| serving.clone(), |error| format!("{serving}; the last reload was refused: {error}"))
        })
    }

    /// Whether this revision is in use, and the last attempt was no failure to replace it.
    pub(super) fn is_settled_on(&self, revision: &str) -> bool {
        self.with(|state| state.revision == revision && state.last.as_ref().is_none_or(|last| last.errors.is_empty()))
    }

    /// JSON.
    pub(super) fn page(&self) -> String {
        self.with(|state| {
            let last = state.last.as_ref().map(|last| {
                let result = if last.errors.is_empty() { "ok" } else { "refused" };
                json!({ "time": last.at.to_string(), "result": result, "config": last.revision, "errors": last.errors })
            });
            let page = json!({ "config": state.revision, "instance": self.instance, "since": state.since.to_string(), "last_reload": last });
            format!("{page}\n")
        })
    }

    pub(super) fn counts(&self) -> ReloadCounts {
        self.with(|state| ReloadCounts {
            succeeded: state.succeeded,
            refused: state.refused,
            is_last_refused: state.last.as_ref().is_some_and(|last| !last.errors.is_empty()),
            last_success: state.since.seconds(),
            revision: state.revision.clone(),
            instance: self.instance.clone(),
        })
    }

    fn with<T>(&self, access: impl FnOnce(&mut ReloadState) -> T) -> T {
        access(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_reload_is_shown_beside_the_revision_that_stays() {
        let status = ReloadStatus::new("a".to_owned(), "i".to_owned(), UnixTime::from_seconds(1));
        status.refused(Some("b".to_owned()), vec!["gateway.yaml:1:2: no".to_owned()], UnixTime::from_seconds(2));
        let page: serde_json::Value = serde_json::from_str(&status.page()).unwrap();
        assert_eq!((&page["config"], &page["since"]), (&json!("a"), &json!("1970-01-01T00:00:01.000Z")));
        assert_eq!(page["last_reload"]["result"], "refused");
        assert_eq!(page["last_reload"]["errors"], json!(["gateway.yaml:1:2: no"]));
        let counts = status.counts();
        assert_eq!((counts.succeeded, counts.refused, counts.is_last_refused), (0, 1, true));
        assert_eq!(status.summary(), "serving configuration a; the last reload was refused: gateway.yaml:1:2: no");
        status.succeeded("b", UnixTime::from_seconds(3));
        assert_eq!(status.summary(), "serving configuration b");
        let counts = status.counts();
        assert_eq!((counts.succeeded, counts.is_last_refused, counts.last_success), (1, false, 3));
        assert!(status.page().starts_with("{\"config\":\"b\""));
    }
}
