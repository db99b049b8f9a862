//! The settings that a running gateway cannot change.

use std::path::PathBuf;

use crate::audit::target::AuditTarget;
use crate::config::types::Config;
use crate::store::settings::SharedSettings;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RestartSettings {
    workers: usize,
    state_directory: PathBuf,
    audit_target: AuditTarget,
    shared: SharedSettings,
    /// `None` if no tokens are issued: then keys may be taken into use, or no longer used.
    keys_directory: Option<PathBuf>,
    keys_in_database: Option<bool>,
}

impl RestartSettings {
    pub(super) fn of(config: &Config) -> Self {
        Self {
            workers: config.workers,
            state_directory: config.state_directory.clone(),
            audit_target: config.audit.target.clone(),
            shared: config.shared.without_secrets(),
            keys_directory: config.oauth.as_ref().map(|oauth| oauth.ring.directory.clone()),
            keys_in_database: config.oauth.as_ref().map(|oauth| oauth.ring.wrapping_keys.is_some()),
        }
    }

    /// The keys of these settings that another configuration changes.
    pub(super) fn changed(&self, config: &Config) -> Vec<&'static str> {
        let Self { workers, state_directory, audit_target, shared, keys_directory, keys_in_database } =
            Self::of(config);
        let keys_moved = self.keys_directory.as_ref().zip(keys_directory.as_ref()).is_some_and(|(old, new)| old != new);
        let keys_changed_store = self.keys_in_database.zip(keys_in_database).is_some_and(|(old, new)| old != new);
        let changed = [
            ("workers", self.workers != workers),
            ("state_directory", self.state_directory != state_directory),
            ("audit.file", self.audit_target != audit_target),
            ("oauth.signing_keys.directory", keys_moved),
            ("oauth.signing_keys.in", keys_changed_store),
        ];
        let changed = changed.into_iter().filter(|(_, is_changed)| *is_changed).map(|(key, _)| key);
        changed.chain(self.shared.changed_keys(&shared)).collect()
    }
}
