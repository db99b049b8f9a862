//! `portcullis test`: runs the tests of the configuration, and says which of its routes and rules they are about.

mod json;
mod junit;
mod text;

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::terminal::{BAD, ProgressBar, bad_config, failed, note, out, styled};
use super::{ConfigPath, FINDINGS, USAGE};
use crate::app::config_tests::{self, TestsFailed};
use crate::config;
use crate::config::config_test::ConfigTest;
use crate::config::diagnostics::Diagnostic;
use crate::config::interpolate::Surroundings;
use crate::config::needs::Needs;
use crate::config::types::Config;

#[derive(Debug, Args)]
pub(super) struct TestArgs {
    #[command(flatten)]
    config: ConfigPath,
    /// Run only the tests whose names contain this text
    #[arg(long, value_name = "TEXT", conflicts_with = "fail_under")]
    filter: Option<String>,
    /// Exit with code 1 if less than this percentage of the routes and rules is tested
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    fail_under: Option<u8>,
    /// The form of the output: text for people, JUnit's XML or JSON for programs
    #[arg(long, value_enum, default_value = "text")]
    format: TestFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TestFormat {
    Text,
    Junit,
    Json,
}

/// With fewer requests, no progress is shown.
const MANY_REQUESTS: u64 = 5_000;

/// Failures of a refused configuration that are shown; the others are counted.
const SHOWN: usize = 1000;

pub(super) fn test(args: &TestArgs) -> ExitCode {
    let config = match config::load_part(&args.config.config, Needs::TESTS, &Surroundings::process()) {
        Ok(config) => config,
        Err(errors) => return bad_config(&errors),
    };
    let is_selected = |test: &ConfigTest| args.filter.as_ref().is_none_or(|text| test.name.contains(text));
    let selected = config.tests.tests.iter().filter(|test| is_selected(test));
    let requests = selected.map(ConfigTest::size).sum::<usize>() as u64;
    if requests == 0 {
        return nothing_to_test(args);
    }
    let mut progress = ProgressBar::of(requests, MANY_REQUESTS);
    let report = config_tests::run(&config, is_selected, || progress.more(1));
    progress.end();
    let report = match report {
        Ok(report) => report,
        Err(error) => return failed(&error),
    };
    let has_coverage = args.filter.is_none();
    match args.format {
        TestFormat::Text => text::print(&report, &args.config.config, has_coverage),
        TestFormat::Junit => out(junit::document(&report)),
        TestFormat::Json => out(json::report(&report, has_coverage)),
    }
    let percent = report.coverage.percent();
    let too_few = args.fail_under.filter(|wanted| percent < usize::from(*wanted));
    if let Some(wanted) = too_few {
        note(format_args!(
            "{} {percent} % of the routes and rules are tested, wanted {wanted} %",
            styled(BAD, "error:")
        ));
    }
    let has_failed = report.tests.iter().any(|outcome| outcome.failed().next().is_some());
    if has_failed || too_few.is_some() { ExitCode::from(FINDINGS) } else { ExitCode::SUCCESS }
}

/// The failed tests of a configuration that is about to be used, as its errors. `Err` if they could not be run.
pub(super) fn failures(config: &Config) -> Result<Vec<Diagnostic>, ExitCode> {
    match config_tests::pass(config) {
        Ok(()) => Ok(Vec::new()),
        Err(TestsFailed::Failed(failures)) => Ok(failures),
        Err(error @ TestsFailed::NotRun(_)) => Err(failed(&error)),
    }
}

/// `Err` if the configuration fails its tests, which are printed.
pub(super) fn must_pass(config: &Config) -> Result<(), ExitCode> {
    let failures = failures(config)?;
    if failures.is_empty() { Ok(()) } else { Err(refuse(config, &failures)) }
}

/// Prints failed tests of a configuration that is refused because of them.
pub(super) fn refuse(config: &Config, failures: &[Diagnostic]) -> ExitCode {
    failures.iter().take(SHOWN).for_each(note);
    let shown = if failures.len() > SHOWN { format!(", of which {SHOWN} are shown") } else { String::new() };
    let plural = if failures.len() == 1 { "" } else { "s" };
    note(format_args!("{}: {} problem{plural}{shown}", config.tests.file, failures.len()));
    ExitCode::from(USAGE)
}

fn nothing_to_test(args: &TestArgs) -> ExitCode {
    let file = args.config.config.display();
    let text = match &args.filter {
        Some(text) => format!("no test of {file} has a name with `{text}`"),
        None => format!("{file} has no `tests`: add some"),
    };
    note(format_args!("{} {text}", styled(BAD, "error:")));
    ExitCode::from(USAGE)
}
