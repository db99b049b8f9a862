//! `portcullis audit`: whether the log is what was written, and what it says.

mod filter;
mod read;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::terminal::{bad_config, failed, note};
use super::{ConfigPath, USAGE};
use crate::audit::target::AuditTarget;
use crate::audit::verify::chains::{LogFileSet, of_files, of_log};
use crate::config;
use crate::config::interpolate::Surroundings;
use crate::config::needs::Needs;
use crate::config::types::Config;

#[derive(Debug, Subcommand)]
pub(super) enum AuditVerb {
    /// Say whether the log is what was written: integrity and completeness, a verdict each
    #[command(after_help = verify::HELP)]
    Verify(verify::VerifyArgs),
    /// Show the last lines
    #[command(after_help = read::HELP)]
    Tail(read::TailArgs),
    /// Show the lines that fit
    #[command(after_help = read::HELP)]
    Query(read::QueryArgs),
}

/// Which log.
#[derive(Debug, Args)]
struct LogFiles {
    /// The files, in any order, and files of checkpoints; by default those of the configuration, rotated ones included
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    config: ConfigPath,
}

pub(super) fn audit(verb: &AuditVerb) -> ExitCode {
    match verb {
        AuditVerb::Verify(args) => verify::verify(args),
        AuditVerb::Tail(args) => read::tail(args),
        AuditVerb::Query(args) => read::query(args),
    }
}

impl LogFiles {
    fn config(&self) -> Result<Config, ExitCode> {
        config::load_part(&self.config.config, Needs::AUDIT_LOG, &Surroundings::process())
            .map_err(|errors| bad_config(&errors))
    }

    /// The file that is written now.
    fn current(&self) -> Result<PathBuf, ExitCode> {
        if let Some(file) = self.files.last() {
            return Ok(file.clone());
        }
        match self.config()?.audit.target {
            AuditTarget::File(path) => Ok(path),
            AuditTarget::Stdout => {
                note("the configuration writes the audit log to standard output: name the files that it is kept in");
                Err(ExitCode::from(USAGE))
            }
        }
    }

    /// All files, by chain and in the order of their lines.
    fn all(&self) -> Result<LogFileSet, ExitCode> {
        let found = if self.files.is_empty() { of_log(&self.current()?) } else { of_files(&self.files) };
        let found = found.map_err(|error| failed(&error))?;
        for file in &found.unread {
            note(format_args!(
                "`{}` is not read, as it does not begin like the log: decompress it if it belongs to it",
                file.display()
            ));
        }
        Ok(found)
    }
}
