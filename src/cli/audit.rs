//! `portcullis audit`: verifies the log, and shows its lines.

mod filter;
pub(super) mod find;
mod lines;
mod names;
mod read;
pub(super) mod report;
mod table;
mod verify;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::terminal::{bad_config, failed, note};
use super::{ConfigPath, USAGE};
use crate::audit::verify::chains::{LogChain, LogFileSet, of_files, of_log};
use crate::config;
use crate::config::interpolate::Surroundings;
use crate::config::needs::Needs;
use crate::config::types::Config;

#[derive(Debug, Subcommand)]
pub(super) enum AuditVerb {
    /// Verify that the log is as it was written: a verdict on integrity and one on completeness
    #[command(after_help = verify::HELP)]
    Verify(verify::VerifyArgs),
    /// Show the last lines
    #[command(after_help = read::TAIL_HELP)]
    Tail(read::TailArgs),
    /// Show the lines that match
    #[command(after_help = read::QUERY_HELP)]
    Query(read::QueryArgs),
}

/// The log to read.
#[derive(Debug, Args)]
struct LogFiles {
    /// The files, in any order, and files of checkpoints; by default those of the configuration, with rotated files
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

    /// The log of the configuration.
    fn configured(&self) -> Result<PathBuf, ExitCode> {
        let target = self.config()?.audit.target;
        target.file().map(Path::to_owned).ok_or_else(|| {
            note(format!("the configuration writes the audit log to {target}: name the files that contain it"));
            ExitCode::from(USAGE)
        })
    }

    /// All files, by chain and in the order of their lines.
    fn all(&self) -> Result<LogFileSet, ExitCode> {
        let found = if self.files.is_empty() { of_log(&self.configured()?) } else { of_files(&self.files) };
        let found = found.map_err(|error| failed(&error))?;
        for chain in &found.chains {
            if let Some(log) = chain.current.as_ref().filter(|log| !log.exists())
                && chain.files.is_empty()
                && chain.checkpoints.is_empty()
            {
                return Err(failed(&io::Error::other(format!("there is no log at `{}`", log.display()))));
            }
        }
        for file in &found.unread {
            note(format_args!(
                "`{}` is not read, because it does not begin like a file of the log: if it is a compressed file of the log, decompress it",
                file.display()
            ));
        }
        for log in &found.other_logs {
            note(format_args!(
                "`{}` is not read, because it is another log with checkpoints of its own",
                log.display()
            ));
        }
        Ok(found)
    }

    /// The chains, if any of their files is left.
    fn readable(&self) -> Result<Vec<LogChain>, ExitCode> {
        let chains = self.all()?.chains;
        let is_there =
            |chain: &LogChain| !chain.files.is_empty() || chain.current.as_ref().is_some_and(|log| log.exists());
        if !self.files.is_empty() || chains.iter().any(is_there) {
            return Ok(chains);
        }
        let text = "no file of the log is left, only checkpoints; `portcullis audit verify` names the missing lines";
        Err(failed(&io::Error::other(text)))
    }
}
