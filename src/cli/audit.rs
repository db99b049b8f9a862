//! `portcullis audit`: whether the log is what was written, and what it says.

mod filter;
mod read;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::terminal::{bad_config, failed, note};
use super::{ConfigPath, USAGE};
use crate::audit::verify::{files_of, in_order};
use crate::audit::writer::Target;
use crate::config;
use crate::config::interpolate::Surroundings;
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
    /// The files, in any order; by default those of the configuration, the ones that were put aside included
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
        config::load(&self.config.config, &Surroundings::process()).map_err(|errors| bad_config(&errors))
    }

    /// The file that is written now.
    fn current(&self) -> Result<PathBuf, ExitCode> {
        if let Some(file) = self.files.last() {
            return Ok(file.clone());
        }
        match self.config()?.audit.target {
            Target::File(path) => Ok(path),
            Target::Stdout => {
                note("the configuration writes the audit log to standard output: name the files that it is kept in");
                Err(ExitCode::from(USAGE))
            }
        }
    }

    /// All files, in the order of their lines.
    fn all(&self) -> Result<Vec<PathBuf>, ExitCode> {
        let files = if self.files.is_empty() { files_of(&self.current()?) } else { Ok(self.files.clone()) };
        files.and_then(in_order).map_err(|error| failed(&error))
    }
}
