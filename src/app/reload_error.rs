//! Why a configuration was not taken into use.

use super::config_tests::TestsFailed;
use super::start_error::StartError;
use crate::config::diagnostics::Diagnostic;
use crate::telemetry::error_chain::ErrorChain;
use crate::trust::revoker::NotRevoked;

#[derive(Debug, thiserror::Error)]
pub(crate) enum ReloadError {
    #[error("the configuration has errors")]
    Config {
        faults: Vec<Diagnostic>,
        /// For people, with their lines and in colours.
        rendered: String,
    },
    /// The keys that changed.
    #[error("the configuration changes keys that need a restart")]
    NeedsRestart(Vec<&'static str>),
    /// The tests of the configuration.
    #[error(transparent)]
    Tests(#[from] TestsFailed),
    #[error(transparent)]
    Open(#[from] StartError),
    /// Nothing may be accepted that the new configuration revokes.
    #[error("the `revoked` entries could not be taken into use: the file of revocations is busy or cannot be read")]
    Revocations(NotRevoked),
    #[error("this gateway has no configuration file that could be read again")]
    NoFile,
    #[error("the gateway is shutting down")]
    Stopping,
    #[error("reading the configuration panicked; please report this")]
    Panicked,
    #[error("reading the configuration took longer than 60 s; check the file systems of its files")]
    TimedOut,
}

impl ReloadError {
    /// The way out.
    pub(crate) fn remedy(&self) -> &'static str {
        match self {
            Self::NeedsRestart(_) | Self::Open(StartError::NoPostgres) => {
                "restart the gateway, or undo the change and reload again"
            }
            Self::Config { .. }
            | Self::Tests(_)
            | Self::Open(_)
            | Self::Revocations(_)
            | Self::NoFile
            | Self::Stopping
            | Self::Panicked
            | Self::TimedOut => "correct the errors and reload again",
        }
    }

    /// Each error for people, with its place where it has one. At least one.
    pub(crate) fn texts(&self) -> Vec<String> {
        match self {
            Self::Config { faults, .. } | Self::Tests(TestsFailed::Failed(faults)) => {
                faults.iter().map(ToString::to_string).collect()
            }
            Self::NeedsRestart(keys) => keys.iter().map(|key| format!("`{key}` needs a restart")).collect(),
            Self::Tests(TestsFailed::NotRun(_))
            | Self::Open(_)
            | Self::Revocations(_)
            | Self::NoFile
            | Self::Stopping
            | Self::Panicked
            | Self::TimedOut => vec![ErrorChain(self).to_string()],
        }
    }
}
