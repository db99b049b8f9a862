//! A configuration that passed every check and whose parts are open, before any of it is in use.

use std::fs;
use std::path::Path;

use super::descriptors;
use super::generation::{Generation, NextGeneration};
use super::process_parts::ProcessParts;
use super::reload_error::ReloadError;
use super::restart::RestartSettings;
use crate::audit::writer::ChangingSettings;
use crate::config;
use crate::config::diff::diff;
use crate::config::diff::summary::AccessSummary;
use crate::config::diff::view::{AccessView, KeptSettings};
use crate::config::interpolate::Surroundings;
use crate::config::types::Config;
use crate::server::connection_limiter::ConnectionLimits;
use crate::server::drain::Shutdown;
use crate::trust::revocation::RevocationEntry;

pub(super) struct VerifiedConfig {
    pub(super) next: NextGeneration,
    pub(super) restart: RestartSettings,
    pub(super) revoked: Vec<RevocationEntry>,
    pub(super) audit: ChangingSettings,
    pub(super) shutdown: Shutdown,
    pub(super) connections: ConnectionLimits,
    pub(super) warnings: Vec<String>,
    /// What it changes in terms of access.
    pub(super) access: AccessSummary,
    pub(super) kept: KeptSettings,
}

impl VerifiedConfig {
    /// Reads, resolves and opens a configuration beside the one that runs. Also gives its revision, if it has one.
    /// Blocks.
    pub(super) fn open(
        path: &Path,
        restart: &RestartSettings,
        parts: &ProcessParts,
        (running, kept): (&Generation, &KeptSettings),
    ) -> (Option<String>, Result<Self, ReloadError>) {
        // Opening a pipe would wait for a writer.
        if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            return (None, Err(ReloadError::NoFile));
        }
        let config = match config::load(path, &Surroundings::process()) {
            Ok(config) => config,
            Err(errors) => return (None, Err(ReloadError::Config(errors.diagnostics()))),
        };
        let revision = Some(config.id.clone());
        let needs_restart = restart.changed(&config);
        if !needs_restart.is_empty() {
            return (revision, Err(ReloadError::NeedsRestart(needs_restart)));
        }
        let restart = RestartSettings::of(&config);
        let (revoked, audit, shutdown) = (config.revoked.clone(), config.changing_audit_settings(), config.shutdown);
        let connections = connection_limits(&config);
        let warnings = config.warnings.iter().chain(&config.ended_certificates).map(ToString::to_string).collect();
        let changes = diff(&AccessView::running(kept, &running.snapshot), &AccessView::of(&config));
        let (access, kept) = (AccessSummary::of(&changes), KeptSettings::of(&config));
        let opened = NextGeneration::open(config, parts, Some(running));
        let verified =
            opened.map(|next| Self { next, restart, revoked, audit, shutdown, connections, warnings, access, kept });
        (revision, verified.map_err(ReloadError::Open))
    }
}

/// Raises the limit on open files as far as the configuration needs it.
pub(super) fn connection_limits(config: &Config) -> ConnectionLimits {
    ConnectionLimits {
        total: descriptors::connections(config.limits.connections),
        per_address: config.limits.connections_per_address,
        trusted_proxies: config.trusted_proxies.clone(),
    }
}
