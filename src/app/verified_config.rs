//! A configuration that passed every check and whose parts are open, before any of it is in use.

use std::fs;
use std::path::Path;

use super::generation::{Generation, NextGeneration};
use super::process_parts::ProcessParts;
use super::reload_error::ReloadError;
use super::restart::RestartSettings;
use super::{config_tests, descriptors};
use crate::audit::writer::ChangingSettings;
use crate::config;
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
}

impl VerifiedConfig {
    /// Reads, resolves and opens a configuration beside the one that runs. Also gives its revision, if it has one.
    /// Blocks.
    pub(super) fn open(
        path: &Path,
        restart: &RestartSettings,
        parts: &ProcessParts,
        running: &Generation,
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
        if let Err(failed) = config_tests::pass(&config) {
            return (revision, Err(ReloadError::Tests(failed)));
        }
        let restart = RestartSettings::of(&config);
        let (revoked, audit, shutdown) = (config.revoked.clone(), config.changing_audit_settings(), config.shutdown);
        let connections = connection_limits(&config);
        let ended = config.ended_certificates.iter().map(ToString::to_string);
        let warnings = config.warnings.iter().map(ToString::to_string).chain(ended);
        let unused = parts.inherited.unused(&config.addresses());
        let warnings = warnings.chain(unused.iter().map(|socket| unused_warning(socket))).collect();
        let opened = NextGeneration::open(config, parts, Some(running));
        let verified = opened.map(|next| Self { next, restart, revoked, audit, shutdown, connections, warnings });
        (revision, verified.map_err(ReloadError::Open))
    }
}

fn unused_warning(socket: &str) -> String {
    format!("no listener has the address of the inherited socket {socket}: its connections wait until one has it again")
}

/// Raises the limit on open files as far as the configuration needs it.
pub(super) fn connection_limits(config: &Config) -> ConnectionLimits {
    ConnectionLimits {
        total: descriptors::connections(config.limits.connections),
        per_address: config.limits.connections_per_address,
        trusted_proxies: config.trusted_proxies.clone(),
    }
}
