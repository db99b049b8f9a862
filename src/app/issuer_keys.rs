//! The keys of external issuers while the gateway runs: fetched by a task, or read from a file that a thread watches.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::runtime::Runtime;
use tracing::error;

use super::background;
use crate::clock;
use crate::config::types::ExternalIssuer;
use crate::trust::issuer::TrustedIssuer;
use crate::trust::key_file::WatchedKeyFile;
use crate::trust::key_set_file::KeySetFile;
use crate::trust::key_source::KeySource;
use crate::trust::refresher;

/// All key files of issuers.
#[derive(Debug, Default)]
pub(super) struct KeyFiles(Vec<WatchedKeyFile>);

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Starts the tasks that fetch.
pub(super) fn open(
    issuers: Vec<ExternalIssuer>,
    state_directory: &Path,
    control: &Runtime,
) -> (Vec<Arc<TrustedIssuer>>, KeyFiles) {
    let mut files = KeyFiles::default();
    let mut trusted = Vec::new();
    for ExternalIssuer { settings, source, watch } in issuers {
        let keys = match source {
            KeySource::Fetched(source) => {
                let file = KeySetFile::of(state_directory, &settings.name);
                let keys = Arc::new(refresher::restored(&settings, &source, &file));
                control.spawn(background::refresh_keys(settings.clone(), source, file, Arc::clone(&keys)));
                keys
            }
            KeySource::Local(local) => {
                let keys = Arc::new(refresher::local(&local));
                if let Some((path, watch)) = local.file.zip(watch) {
                    let (settings, cache) = (settings.clone(), Arc::clone(&keys));
                    files.0.push(WatchedKeyFile { settings, path, watch, cache });
                }
                keys
            }
        };
        trusted.push(Arc::new(TrustedIssuer { settings, keys }));
    }
    (trusted, files)
}

impl KeyFiles {
    /// Watches the files until the process ends.
    pub(super) fn start(mut self) -> io::Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let watch = move || loop {
            thread::park_timeout(LOOK_EVERY);
            for file in &mut self.0 {
                if catch_unwind(AssertUnwindSafe(|| file.look(clock::now().seconds()))).is_err() {
                    error!(file = %file.path.display(), "reading a changed key file panicked: the previous keys stay in use");
                }
            }
        };
        thread::Builder::new().name("key-files".to_owned()).spawn(watch).map(drop)
    }
}
