//! A configuration that passed every check and whose parts are open, before any of it is in use.

use std::fs;
use std::path::{Path, PathBuf};

use super::generation::{Generation, NextGeneration};
use super::kept_revisions::KeptRevision;
use super::process_parts::ProcessParts;
use super::reload_error::ReloadError;
use super::restart::RestartSettings;
use super::{config_tests, descriptors};
use crate::audit::writer::ChangingSettings;
use crate::config;
use crate::config::diagnostics::Diagnostic;
use crate::config::diff::diff;
use crate::config::diff::summary::AccessSummary;
use crate::config::diff::view::{AccessView, KeptSettings};
use crate::config::interpolate::Surroundings;
use crate::config::types::Config;
use crate::config::warning::Warning;
use crate::server::connection_limiter::ConnectionLimits;
use crate::server::drain::Shutdown;
use crate::trust::revocation::RevocationEntry;

/// The result of reading a configuration.
pub(super) struct Verification {
    /// `None` if the file could not be read.
    pub(super) revision: Option<String>,
    pub(super) result: Result<VerifiedConfig, ReloadError>,
    /// The files that it names, as far as it could be read.
    pub(super) named_files: Vec<PathBuf>,
}

pub(super) struct VerifiedConfig {
    pub(super) next: NextGeneration,
    pub(super) restart: RestartSettings,
    pub(super) revoked: Vec<RevocationEntry>,
    pub(super) audit: ChangingSettings,
    pub(super) shutdown: Shutdown,
    pub(super) connections: ConnectionLimits,
    pub(super) is_watching: bool,
    pub(super) warnings: Vec<Diagnostic>,
    /// What it changes in terms of access.
    pub(super) access: AccessSummary,
    pub(super) kept: KeptSettings,
    pub(super) kept_revision: KeptRevision,
}

impl VerifiedConfig {
    /// Reads, resolves and opens a configuration beside the one that runs. Blocks.
    pub(super) fn open(
        path: &Path,
        restart: &RestartSettings,
        parts: &ProcessParts,
        (running, kept): (&Generation, &KeptSettings),
    ) -> Verification {
        // Opening a pipe would wait for a writer.
        if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            return Verification::failed(ReloadError::NoFile);
        }
        let mut config = match config::load(path, &Surroundings::process()) {
            Ok(config) => config,
            Err(errors) => {
                let error = ReloadError::Config { faults: errors.diagnostics(), rendered: errors.render(true) };
                return Verification { named_files: errors.named_files(), ..Verification::failed(error) };
            }
        };
        let (revision, named_files) = (Some(config.id.clone()), config.named_files.clone());
        let needs_restart = restart.changed(&config);
        if !needs_restart.is_empty() {
            return Verification { revision, result: Err(ReloadError::NeedsRestart(needs_restart)), named_files };
        }
        if let Err(failed) = config_tests::pass(&config) {
            return Verification { revision, result: Err(ReloadError::Tests(failed)), named_files };
        }
        let restart = RestartSettings::of(&config);
        let (revoked, audit, shutdown) = (config.revoked.clone(), config.changing_audit_settings(), config.shutdown);
        let (connections, is_watching) = (connection_limits(&config), config.reload.watch);
        let warnings = config.warnings.iter().map(Warning::with_id);
        let warnings = warnings.chain(config.ended_certificates.iter().cloned());
        let unused = parts.inherited.unused(&config.addresses());
        let warnings = warnings.chain(unused.iter().map(|socket| unused_warning(path, socket))).collect();
        let changes = diff(&AccessView::running(kept, &running.snapshot), &AccessView::of(&config));
        let (access, kept) = (AccessSummary::of(&changes), KeptSettings::of(&config));
        let kept_revision = KeptRevision::of(&mut config);
        let opened = NextGeneration::open(config, parts, Some(running));
        let result = opened.map_err(ReloadError::Open).map(|next| Self {
            next,
            restart,
            revoked,
            audit,
            shutdown,
            connections,
            is_watching,
            warnings,
            access,
            kept,
            kept_revision,
        });
        Verification { revision, result, named_files }
    }
}

impl Verification {
    pub(super) fn failed(error: ReloadError) -> Self {
        Self { revision: None, result: Err(error), named_files: Vec::new() }
    }
}

fn unused_warning(path: &Path, socket: &str) -> Diagnostic {
    let message = format!(
        "no listener has the address of the inherited socket {socket}: its connections wait until one has it again"
    );
    Diagnostic { file: path.display().to_string(), line: None, column: None, message }
}

/// Raises the limit on open files as far as the configuration needs it.
pub(super) fn connection_limits(config: &Config) -> ConnectionLimits {
    ConnectionLimits {
        total: descriptors::connections(config.limits.connections),
        per_address: config.limits.connections_per_address,
        trusted_proxies: config.trusted_proxies.clone(),
    }
}
