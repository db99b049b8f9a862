//! `portcullis audit verify`: two verdicts, and the first line that is not as it was written.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::LogFiles;
use crate::audit::audit_key::{AuditKeyError, PublicKey};
use crate::audit::verify::{self, Completeness, Fault, FaultKind, Report};
use crate::cli::terminal::{BAD, DIM, GOOD, Progress, WARN, failed, note, out, styled};
use crate::cli::{FINDINGS, Format};
use crate::clock::UnixTime;
use crate::telemetry::chain::Chain;

pub(super) const HELP: &str = "\
Examples:
  portcullis audit verify
  portcullis audit verify --key rWv8…kQ /mnt/archive/audit.jsonl*

Integrity: every line follows from the one before, and agrees with the signed checkpoints. Completeness: all lines are there \
that a checkpoint knows of. Whoever can write the log can also write the key beside it: keep the key that the gateway prints \
at its start somewhere else, and give it with --key.

Exit code 1 if anything is not as it was written, or if nothing is signed.";

#[derive(Debug, Args)]
pub(in crate::cli) struct VerifyArgs {
    #[command(flatten)]
    log: LogFiles,
    /// The public key of the checkpoints, or its file; by default the one in the state directory
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Ask for lines from this number on; those before may be gone
    #[arg(long, value_name = "SEQ", default_value_t = 1)]
    from: u64,
    /// Do without checkpoints, such as for a log that went to standard output
    #[arg(long, conflicts_with = "key")]
    no_checkpoints: bool,
    /// For people or for programs
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// More are counted.
const FAULTS_SHOWN: usize = 20;

pub(super) fn verify(args: &VerifyArgs) -> ExitCode {
    match judge(args) {
        Ok((report, key)) => {
            match args.format {
                Format::Text => print_text(&report, key.as_ref()),
                Format::Json => print_json(&report, key.as_ref()),
            }
            let complete = match report.completeness() {
                Completeness::Complete => true,
                Completeness::Incomplete => false,
                Completeness::Unknown => args.no_checkpoints,
            };
            if report.is_intact() && complete { ExitCode::SUCCESS } else { ExitCode::from(FINDINGS) }
        }
        Err(code) => code,
    }
}

type Key = (PublicKey, String);

fn judge(args: &VerifyArgs) -> Result<(Report, Option<Key>), ExitCode> {
    let key = if args.no_checkpoints { None } else { key(args)? };
    let files = args.log.all()?;
    let bytes = files.iter().filter_map(|file| std::fs::metadata(file).ok()).map(|metadata| metadata.len()).sum();
    let mut progress = Progress::of(bytes);
    let report = verify::verify(&files, key.as_ref().map(|(key, _)| key), args.from, |bytes| progress.more(bytes));
    progress.end();
    Ok((report.map_err(|error| failed(&error))?, key))
}

/// The key, and where it comes from.
fn key(args: &VerifyArgs) -> Result<Option<Key>, ExitCode> {
    if let Some(given) = &args.key {
        if let Some(key) = PublicKey::parse(given) {
            return Ok(Some((key, "--key".to_owned())));
        }
        return read_key(Path::new(given)).map(Some).map_err(|error| failed(&error));
    }
    let folder = match args.log.files.first() {
        Some(file) => file.parent().map_or_else(PathBuf::new, Path::to_owned),
        None => args.log.config()?.state_directory,
    };
    match read_key(&PublicKey::in_folder(&folder)) {
        Ok(key) => Ok(Some(key)),
        Err(error) => {
            note(format_args!("no checkpoint is believed: {}; give the key with --key", Chain(&error)));
            Ok(None)
        }
    }
}

fn read_key(path: &Path) -> Result<Key, AuditKeyError> {
    Ok((PublicKey::read(path)?, path.display().to_string()))
}

fn describe(fault: &Fault) -> String {
    let place = format!("{}:{}", fault.file.display(), fault.line);
    let what = match fault.kind {
        FaultKind::NotALine => "this is no line of the log".to_owned(),
        FaultKind::Changed => "this line or the one before it was changed".to_owned(),
        FaultKind::Gap { from, to } => format!("{} missing before this one", lines(from, to)),
        FaultKind::FilesMissing { from, to } => format!("{} missing before this file", lines(from, to)),
        FaultKind::OutOfOrder { expected, found } => format!("this is line {found} in the place of line {expected}"),
        FaultKind::Beheaded => "the file begins here and does not say what this line follows".to_owned(),
        FaultKind::Rewritten => "a checkpoint has signed another line in this place".to_owned(),
    };
    format!("{place}: {what}")
}

fn lines(from: u64, to: u64) -> String {
    if from == to { format!("line {from} is") } else { format!("lines {from} to {to} are") }
}

fn print_text(report: &Report, key: Option<&Key>) {
    for fault in report.faults.iter().take(FAULTS_SHOWN) {
        out(describe(fault));
    }
    if let Some(more) = report.faults.len().checked_sub(FAULTS_SHOWN).filter(|more| *more > 0) {
        out(styled(DIM, format_args!("and {more} more")));
    }
    report.checkpoints.faults.iter().take(FAULTS_SHOWN).for_each(out);
    for (from, to) in &report.checkpoints.missing {
        out(format_args!("{} missing: a checkpoint knows of them", lines(*from, *to)));
    }
    let last = report.last.map_or(0, |link| link.sequence);
    let range = report.first.map_or_else(String::new, |first| format!(", {first} to {last}"));
    let integrity = if report.is_intact() { styled(GOOD, "intact") } else { styled(BAD, "BROKEN") };
    row("integrity", format_args!("{integrity}  {}", styled(DIM, format_args!("{} lines{range}", report.lines))));
    let completeness = match report.completeness() {
        Completeness::Complete => styled(GOOD, "complete"),
        Completeness::Incomplete => styled(BAD, "INCOMPLETE"),
        Completeness::Unknown => styled(WARN, "unknown: nothing is signed"),
    };
    let signed = report.checkpoints.last.map(|(line, time)| {
        let time = UnixTime::from_seconds(time.unsigned_abs());
        let since = match last.saturating_sub(line) {
            0 => String::new(),
            1 => "; 1 line since is not signed yet".to_owned(),
            lines => format!("; {lines} lines since are not signed yet"),
        };
        format!("{} checkpoints, the last at {time} of line {line}{since}", report.checkpoints.count)
    });
    row("completeness", format_args!("{completeness}  {}", styled(DIM, signed.unwrap_or_default())));
    if report.recovered > 0 {
        row("recovered", format_args!("{}, torn by crashes and cut off", report.recovered));
    }
    if let Some((file, bytes)) = &report.torn {
        let text = format!(
            "{bytes} bytes at the end of {}: a crash and no start since, or a line that is being written",
            file.display()
        );
        row("torn", styled(WARN, text));
    }
    if let Some((key, place)) = key {
        row("key", format_args!("{key} {}", styled(DIM, place)));
    }
}

fn row(name: &str, value: impl std::fmt::Display) {
    out(format!("{name:>12}  {value}").trim_end());
}

fn print_json(report: &Report, key: Option<&Key>) {
    let ranges = |ranges: &[(u64, u64)]| ranges.iter().map(|(from, to)| json!([from, to])).collect::<Vec<Value>>();
    let fault = |fault: &Fault| json!({ "file": fault.file, "line": fault.line, "fault": describe(fault) });
    let torn = report.torn.as_ref().map(|(file, bytes)| json!({ "file": file, "bytes": bytes }));
    out(json!({
        "integrity": if report.is_intact() { "intact" } else { "broken" },
        "completeness": match report.completeness() {
            Completeness::Complete => "complete",
            Completeness::Incomplete => "incomplete",
            Completeness::Unknown => "unknown",
        },
        "lines": report.lines,
        "bytes": report.bytes,
        "first": report.first,
        "last": report.last.map(|link| link.sequence),
        "head": report.last.map(|link| link.head.to_string()),
        "faults": report.faults.iter().map(fault).collect::<Vec<_>>(),
        "recovered": report.recovered,
        "torn": torn,
        "checkpoints": {
            "count": report.checkpoints.count,
            "last": report.checkpoints.last.map(|(line, _)| line),
            "missing": ranges(&report.checkpoints.missing),
            "faults": report.checkpoints.faults,
            "key": key.map(|(key, _)| key.to_string()),
        },
    }));
}
