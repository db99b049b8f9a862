//! Takes the new keys of a changed `jwks_file` into use.
//!
//! A file that cannot be used changes nothing: the last good keys stay, and the error is logged and shown to operators
//! until the file is in order.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::time::Instant;
use tracing::{error, info, warn};

use super::issuer::IssuerSettings;
use super::key_cache::KeyCache;
use super::key_source::{KeyFileError, LocalKeys};
use super::progress::LastError;
use crate::file_watch::FileWatch;
use crate::telemetry::error_chain::ErrorChain;

/// The file of an issuer's keys, and the cache that has them.
#[derive(Debug)]
pub(crate) struct WatchedKeyFile {
    pub(crate) settings: IssuerSettings,
    pub(crate) path: PathBuf,
    /// Since before the file was read.
    pub(crate) watch: FileWatch,
    pub(crate) cache: Arc<KeyCache>,
}

impl WatchedKeyFile {
    /// To be called at intervals. `now` is in seconds since 1970. Blocks.
    pub(crate) fn look(&mut self, now: u64) {
        let (path, settings) = (&self.path, &self.settings);
        let Some(read) = self.watch.poll(now, || LocalKeys::read(path.clone(), &settings.algorithms)) else { return };
        match read {
            Ok(keys) => self.take_into_use(keys),
            Err(fault) => self.keep_last_good(fault),
        }
    }

    fn take_into_use(&self, keys: LocalKeys) {
        let (name, file, count) = (self.settings.name.as_str(), self.path.display(), keys.keys.len());
        for key in &keys.left_aside {
            warn!(issuer.name = name, key.id = key.key_id, reason = %key.reason, "skipped an unusable key of `jwks_file`: tokens that are signed with it are refused");
        }
        self.cache.replace_local(keys.keys);
        self.cache.with_progress(|progress| {
            progress.left_aside = keys.left_aside;
            progress.out_of_reach = false;
        });
        info!(issuer.name = name, keys.count = count, %file, "the keys of a changed `jwks_file` are in use");
    }

    fn keep_last_good(&self, fault: KeyFileError) {
        let text = ErrorChain(&fault).to_string();
        // A reader of the log finds it in the report too.
        record_fault(&self.cache, fault);
        error!(
            issuer.name = self.settings.name.as_str(),
            error = text,
            "cannot use a changed `jwks_file`: the previous keys stay in use; correct the file, no restart is needed"
        );
    }
}

/// Shows the fault of a file to operators.
pub(super) fn record_fault(cache: &KeyCache, fault: KeyFileError) {
    let text = ErrorChain(&fault).to_string();
    cache.with_progress(|progress| {
        if let KeyFileError::Keys { left_aside, .. } = fault {
            progress.left_aside = left_aside;
        }
        progress.last_error = Some(LastError { text, at: Instant::now() });
        progress.out_of_reach = true;
    });
}
