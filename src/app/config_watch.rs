//! Watches the configuration file and the files that it names, and reloads when they have changed and settled.
//!
//! The reloader says which files these are, after every attempt, and `None` while `reload.watch` is off. So a refused
//! configuration is not tried again until one of its files changes, and every reload by other means counts too.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::reload_handle::ReloadHandle;
use crate::clock;
use crate::config::types::Config;
use crate::file_watch::FileWatch;

/// The configuration file of the gateway, with the files that it names.
#[derive(Debug)]
pub(super) struct ConfigFile {
    /// `None` if the configuration is not in a file.
    pub(super) path: Option<PathBuf>,
    /// As they were when the last attempt began.
    pub(super) files: FileWatch,
    /// Whether the configuration in use has `reload.watch`.
    pub(super) is_watching: bool,
    watched: watch::Sender<Option<FileWatch>>,
}

const LOOK_EVERY: Duration = Duration::from_secs(1);

impl ConfigFile {
    /// `config` was just read from the file at `path`.
    pub(super) fn new(path: Option<PathBuf>, config: &Config) -> Self {
        let named = path.iter().chain(&config.named_files).cloned();
        let files = FileWatch::default().for_files(named, clock::now().seconds());
        let this = Self { path, files, is_watching: config.reload.watch, watched: watch::Sender::new(None) };
        this.publish();
        this
    }

    /// Sends the files, after an attempt, to the task that watches them.
    pub(super) fn publish(&self) {
        let is_watched = self.is_watching && self.path.is_some();
        self.watched.send_replace(is_watched.then(|| self.files.clone()));
    }

    /// Reloads when the files change, as long as the gateway runs.
    pub(super) fn watch(&self, reloads: ReloadHandle) -> impl Future<Output = ()> + Send + use<> {
        watch_files(self.watched.subscribe(), reloads)
    }
}

async fn watch_files(mut watched: watch::Receiver<Option<FileWatch>>, reloads: ReloadHandle) {
    loop {
        let Some(mut files) = watched.borrow_and_update().clone() else {
            // It fails when the gateway ends.
            if watched.changed().await.is_err() {
                return;
            }
            continue;
        };
        while is_latest(&watched) {
            sleep(LOOK_EVERY).await;
            let look = tokio::task::spawn_blocking(move || (files.has_settled(clock::now().seconds()), files));
            // It fails only when the process ends.
            let Ok((has_settled, looked)) = look.await else { return };
            files = looked;
            if has_settled && is_latest(&watched) {
                let settled = files.clone();
                files.accept();
                // It has been logged. The reloader sends the files that it has seen.
                let _ = reloads.reload_settled(settled).await;
            }
        }
        if watched.has_changed().is_err() {
            return;
        }
    }
}

/// Whether the files that were received last are those of the last attempt.
fn is_latest(watched: &watch::Receiver<Option<FileWatch>>) -> bool {
    watched.has_changed().is_ok_and(|has_changed| !has_changed)
}
