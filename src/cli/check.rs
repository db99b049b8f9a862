//! `portcullis check`: the faults and warnings that `run` would report, and what the configuration exposes.

mod findings;
mod summary;

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use self::findings::{CheckReport, Finding};
use self::summary::summary;
use super::connect::{Connections, connections};
use super::terminal::{bad_config, failed};
use super::{ConfigPath, FINDINGS, USAGE, test};
use crate::config::diagnostics::Diagnostic;
use crate::config::interpolate::Surroundings;
use crate::config::types::Config;
use crate::config::{self, ConfigErrors};

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    config: ConfigPath,
    /// Exit with code 1 if there are warnings
    #[arg(long)]
    strict: bool,
    /// Connect to every upstream server, issuer and shared store, and exit with code 1 if one cannot be used
    #[arg(long)]
    connect: bool,
    /// The form of the output: text for people, JSON for programs, commands of GitHub Actions for notes beside the lines
    #[arg(long, value_enum, default_value = "text")]
    format: CheckFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum CheckFormat {
    Text,
    Json,
    Github,
}

pub(super) fn check(args: &CheckArgs) -> ExitCode {
    let config = match config::load(&args.config.config, &Surroundings::process()) {
        Ok(config) => config,
        Err(errors) => return refused(&errors, args.format),
    };
    match test::failures(&config) {
        Ok(failures) if failures.is_empty() => {}
        Ok(failures) => return failed_tests(&config, failures, args.format),
        Err(code) => return code,
    }
    let findings = findings::of(&args.config.config, &config);
    let connections = match args.connect.then(|| connections(&config)).transpose() {
        Ok(connections) => connections,
        Err(error) => return failed(&error),
    };
    let has_errors = !config.ended_certificates.is_empty();
    let has_strict_warnings = args.strict && findings.iter().any(Finding::is_warning);
    let cannot_connect = connections.as_ref().is_some_and(Connections::has_failed);
    print(args, &config, &findings, connections.as_ref());
    let has_findings = has_errors || has_strict_warnings || cannot_connect;
    if has_findings { ExitCode::from(FINDINGS) } else { ExitCode::SUCCESS }
}

fn print(args: &CheckArgs, config: &Config, findings: &[Finding], connections: Option<&Connections>) {
    let report = |connections| CheckReport { config: Some(&config.id), findings, connections };
    match args.format {
        CheckFormat::Text => {
            findings.iter().for_each(Finding::print);
            summary(&args.config, config);
            connections.iter().for_each(|found| found.print());
        }
        CheckFormat::Json => report(connections).print_json(),
        CheckFormat::Github => report(connections).print_github(),
    }
}

/// `run` would refuse the configuration.
fn refused(errors: &ConfigErrors, format: CheckFormat) -> ExitCode {
    refuse(errors.diagnostics(), format, |_| bad_config(errors))
}

/// A configuration whose tests fail is refused, like one with errors.
fn failed_tests(config: &Config, failures: Vec<Diagnostic>, format: CheckFormat) -> ExitCode {
    refuse(failures, format, |failures| test::refuse(config, failures))
}

fn refuse(
    errors: Vec<Diagnostic>,
    format: CheckFormat,
    print_text: impl FnOnce(&[Diagnostic]) -> ExitCode,
) -> ExitCode {
    if format == CheckFormat::Text {
        return print_text(&errors);
    }
    let findings: Vec<Finding> = errors.into_iter().map(Finding::error).collect();
    let report = CheckReport { config: None, findings: &findings, connections: None };
    match format {
        CheckFormat::Text => {}
        CheckFormat::Json => report.print_json(),
        CheckFormat::Github => report.print_github(),
    }
    ExitCode::from(USAGE)
}
