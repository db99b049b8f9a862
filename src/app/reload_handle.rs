//! Asks for a reload: by a signal, a command, or changed files. One task of the control plane does one after the other.

use tokio::sync::{mpsc, oneshot};

use super::reload_error::ReloadError;
use crate::config::diagnostics::Diagnostic;
use crate::file_watch::FileWatch;

/// The one way to reload the configuration.
#[derive(Clone, Debug)]
pub(crate) struct ReloadHandle(pub(super) mpsc::Sender<ReloadRequest>);

/// The revisions of a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reloaded {
    pub(crate) old: String,
    pub(crate) new: String,
    /// Those of the new configuration.
    pub(crate) warnings: Vec<Diagnostic>,
}

#[derive(Debug)]
pub(super) struct ReloadRequest {
    /// The files that have changed, if only their change asks for the reload.
    pub(super) settled: Option<FileWatch>,
    /// Where to send the result.
    pub(super) reply: oneshot::Sender<Result<Reloaded, ReloadError>>,
}

impl ReloadHandle {
    /// Reloads after the reloads that wait already.
    pub(crate) async fn reload(&self) -> Result<Reloaded, ReloadError> {
        self.request(None).await
    }

    /// The same because these files have changed. Does nothing if the configuration in use is made of them already.
    pub(super) async fn reload_settled(&self, files: FileWatch) -> Result<Reloaded, ReloadError> {
        self.request(Some(files)).await
    }

    async fn request(&self, settled: Option<FileWatch>) -> Result<Reloaded, ReloadError> {
        let (reply, result) = oneshot::channel();
        self.0.send(ReloadRequest { settled, reply }).await.map_err(|_| ReloadError::Stopping)?;
        result.await.unwrap_or(Err(ReloadError::Stopping))
    }
}
