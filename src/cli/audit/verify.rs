//! `portcullis audit verify`: prints two verdicts, and the lines that are not as they were written.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::LogFiles;
use crate::audit::audit_key::{AuditKeyError, PublicKey};
use crate::audit::verify;
use crate::audit::verify::chains::LogChain;
use crate::audit::verify::recorded::RecordedEvent;
use crate::audit::verify::report::{Completeness, FaultKind, MissingLines, RequestedRange, VerifyFault, VerifyReport};
use crate::cli::terminal::{BAD, DIM, GOOD, ProgressBar, WARN, failed, note, out, styled};
use crate::cli::{FINDINGS, Format};
use crate::clock::UnixTime;
use crate::telemetry::error_chain::ErrorChain as Causes;

pub(super) const HELP: &str = "\
Examples:
  portcullis audit verify
  portcullis audit verify --key rWv8…kQ /mnt/archive/audit.jsonl*

Integrity: every line follows from the one before, and agrees with the signed checkpoints. Completeness: the chain begins with \
line 1, or after the lines that rotation has removed, or with --from; and all lines are there that a checkpoint covers. The \
logs of several instances are several chains, with two verdicts each. A process that can write the log can also replace the \
key beside it: keep the key that the gateway logs at its start on another machine, and give it with --key.

Exit code 1 if a line is not as it was written, if lines are missing, or if no line is signed. Exit code 2 if there is no log.";

#[derive(Debug, Args)]
pub(in crate::cli) struct VerifyArgs {
    #[command(flatten)]
    log: LogFiles,
    /// The public key that verifies the checkpoints, or its file [default: the key in the state directory, or beside
    /// the first file]. Give the option once for each key if instances have different keys
    // A key can begin with a hyphen.
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    key: Vec<String>,
    /// The number of the first line that must be present
    #[arg(long, value_name = "SEQ", default_value_t = 1)]
    from: u64,
    /// The number of the last line that must be present
    #[arg(long, value_name = "SEQ")]
    to: Option<u64>,
    /// Verify without checkpoints, for example a log that was written to standard output
    #[arg(long, conflicts_with = "key")]
    no_checkpoints: bool,
    /// The form of the output: text, or one JSON object
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// More faults are only counted.
const FAULTS_SHOWN: usize = 20;
/// With fewer bytes, no progress is shown.
const MANY_BYTES: u64 = 64 * 1024 * 1024;

/// One chain and the findings in it.
struct Verdict {
    chain: LogChain,
    report: VerifyReport,
    keys: Vec<NamedKey>,
}

type NamedKey = (PublicKey, String);

pub(super) fn verify(args: &VerifyArgs) -> ExitCode {
    let verdicts = match verdicts(args) {
        Ok(verdicts) => verdicts,
        Err(code) => return code,
    };
    match args.format {
        Format::Text => print_all(&verdicts),
        Format::Json => out(json_of_all(&verdicts)),
    }
    let is_good = |verdict: &Verdict| {
        let complete = match verdict.report.completeness() {
            Completeness::Complete => true,
            Completeness::Incomplete => false,
            Completeness::Unknown => args.no_checkpoints,
        };
        verdict.report.is_intact() && complete
    };
    if verdicts.iter().all(is_good) { ExitCode::SUCCESS } else { ExitCode::from(FINDINGS) }
}

fn verdicts(args: &VerifyArgs) -> Result<Vec<Verdict>, ExitCode> {
    let chains = args.log.all()?.chains;
    let files = chains.iter().flat_map(|chain| &chain.files);
    let bytes = files.filter_map(|file| std::fs::metadata(file).ok()).map(|metadata| metadata.len()).sum();
    let mut progress = ProgressBar::of(bytes, MANY_BYTES);
    let requested = RequestedRange { from: args.from, to: args.to };
    let mut verdicts = Vec::new();
    for chain in chains {
        let keys = if args.no_checkpoints { Vec::new() } else { keys(args, &chain)? };
        let public: Vec<PublicKey> = keys.iter().map(|(key, _)| *key).collect();
        let report = verify::verify(&chain, &public, requested, |bytes| progress.more(bytes));
        verdicts.push(Verdict { chain, report: report.map_err(|error| failed(&error))?, keys });
    }
    progress.end();
    Ok(verdicts)
}

/// The keys, and where each comes from.
fn keys(args: &VerifyArgs, chain: &LogChain) -> Result<Vec<NamedKey>, ExitCode> {
    if !args.key.is_empty() {
        let read = |given: &String| match PublicKey::parse(given) {
            Some(key) => Ok((key, "--key".to_owned())),
            None if !Path::new(given).exists() => {
                Err(failed(&io::Error::other(format!("`{given}` is neither a public key nor a file"))))
            }
            None => read_key(Path::new(given)).map_err(|error| failed(&error)),
        };
        return args.key.iter().map(read).collect();
    }
    let folder = if args.log.files.is_empty() { args.log.config()?.state_directory } else { chain.folder() };
    match read_key(&PublicKey::in_folder(&folder)) {
        Ok(key) => Ok(vec![key]),
        Err(error) => {
            note(format_args!("no checkpoint is trusted: {}; give the key with --key", Causes(&error)));
            Ok(Vec::new())
        }
    }
}

fn read_key(path: &Path) -> Result<NamedKey, AuditKeyError> {
    Ok((PublicKey::read(path)?, path.display().to_string()))
}

fn describe(fault: &VerifyFault) -> String {
    let place = format!("{}:{}", fault.file.display(), fault.line);
    let text = match fault.kind {
        FaultKind::NotALine => "this is not a line of the log".to_owned(),
        FaultKind::Changed => "this line or the one before it was changed".to_owned(),
        FaultKind::Gap { from, to } => format!("{} missing before this one", lines(from, to)),
        FaultKind::Missing { from, to } => {
            let place = if fault.line == 1 { "file" } else { "line, which names the hash that it follows" };
            format!("{} missing before this {place}", lines(from, to))
        }
        FaultKind::OutOfOrder { expected, found } => format!("this is line {found} instead of line {expected}"),
        FaultKind::Beheaded => "the file begins here and does not name the hash that this line follows".to_owned(),
        FaultKind::Rewritten => "a checkpoint has signed another line with this number".to_owned(),
    };
    format!("{place}: {text}")
}

fn describe_unconfirmed(line: u64, event: RecordedEvent) -> String {
    let stated = match event {
        RecordedEvent::Recovered => "a torn line was cut off".to_owned(),
        RecordedEvent::Removed { up_to } => format!("rotation removed the lines up to {up_to}"),
        RecordedEvent::Missing { from, up_to } => format!("the gateway found the loss of {}", numbers(from, up_to)),
    };
    format!("line {line} states that {stated}; no checkpoint confirms it")
}

fn lines(from: u64, to: u64) -> String {
    format!("{} {}", numbers(from, to), if from == to { "is" } else { "are" })
}

fn numbers(from: u64, to: u64) -> String {
    if from == to { format!("line {from}") } else { format!("lines {from} to {to}") }
}

fn print_all(verdicts: &[Verdict]) {
    for (number, verdict) in (1..).zip(verdicts) {
        if verdicts.len() > 1 {
            let any = verdict.chain.files.last().or(verdict.chain.checkpoints.last());
            let name = any.map(|file| file.display().to_string()).unwrap_or_default();
            out(format_args!("{}chain {number} of {}: {name}", if number > 1 { "\n" } else { "" }, verdicts.len()));
        }
        print_text(verdict);
    }
}

fn print_findings(report: &VerifyReport) {
    for fault in report.faults.iter().take(FAULTS_SHOWN) {
        out(describe(fault));
    }
    if let Some(more) = report.faults.len().checked_sub(FAULTS_SHOWN).filter(|more| *more > 0) {
        out(styled(DIM, format_args!("and {more} more")));
    }
    report.checkpoints.faults.iter().take(FAULTS_SHOWN).for_each(out);
    for (line, event) in report.unconfirmed.iter().take(FAULTS_SHOWN) {
        out(describe_unconfirmed(*line, *event));
    }
    for missing in &report.missing {
        let is_one = missing.from == missing.to;
        let them = if is_one { "it" } else { "them" };
        let why = match (missing.is_signed, Some(missing.to + 1) == report.first) {
            (true, _) => format!("a checkpoint covers {them}"),
            (false, true) => {
                let line = if report.checkpoints.count > 0 { "signed line" } else { "line" };
                format!("the chain begins after {them}, and no {line} that is left says that rotation removed {them}")
            }
            (false, false) => format!("{} requested", if is_one { "it is" } else { "they are" }),
        };
        out(format_args!("{} missing: {why}", lines(missing.from, missing.to)));
    }
    for (from, to) in &report.checkpoints.unsigned {
        out(format_args!("{} not covered by a checkpoint, and should be", lines(*from, *to)));
    }
    if let Some(current) = &report.lacks_current {
        let last = report.last.map_or(0, |link| link.sequence);
        let lost = if last > 0 { format!(": the lines after line {last} are not there") } else { String::new() };
        out(format_args!("{}: missing or empty{lost}", current.display()));
    } else if report.lines == 0 && report.missing.is_empty() {
        out("there is no line in these files");
    }
}

fn print_text(Verdict { chain, report, keys }: &Verdict) {
    print_findings(report);
    let last = report.last.map_or(0, |link| link.sequence);
    let range = report.first.map_or_else(String::new, |first| format!(", {first} to {last}"));
    let integrity = if report.is_intact() { styled(GOOD, "intact") } else { styled(BAD, "BROKEN") };
    row("integrity", format_args!("{integrity}  {}", styled(DIM, format_args!("{} lines{range}", report.lines))));
    let completeness = match report.completeness() {
        Completeness::Complete => styled(GOOD, "complete"),
        Completeness::Incomplete => styled(BAD, "INCOMPLETE"),
        Completeness::Unknown => styled(WARN, "unknown: no line is signed"),
    };
    let signed = report.checkpoints.last.map(|(line, time)| {
        let time = UnixTime::from_seconds(time.unsigned_abs());
        let since = match last.saturating_sub(line) {
            0 => String::new(),
            1 => "; 1 later line is not signed yet".to_owned(),
            lines => format!("; {lines} later lines are not signed yet"),
        };
        let are = if report.checkpoints.count == 1 { "checkpoint" } else { "checkpoints" };
        format!("{} {are}, the last at {time} of line {line}{since}", report.checkpoints.count)
    });
    row("completeness", format_args!("{completeness}  {}", styled(DIM, signed.unwrap_or_default())));
    if report.recovered > 0 {
        row("recovered", format_args!("{}, torn by crashes and cut off", report.recovered));
    }
    if let Some((file, bytes)) = &report.torn {
        let text = format!("{bytes} bytes at the end of {}: torn by a crash, or being written now", file.display());
        row("torn", styled(WARN, text));
    }
    if report.removed > 0 {
        row("removed", format_args!("lines up to {} by rotation, as the log records", report.removed));
    }
    for (from, to) in &report.recorded_missing {
        row("missing", format_args!("{}: the gateway has recorded the loss", numbers(*from, *to)));
    }
    for (from, to) in report.checkpoints.found.iter().take(FAULTS_SHOWN) {
        row("found", format_args!("{} without a checkpoint at a start, as after a crash", numbers(*from, *to)));
    }
    for copy in &chain.copies {
        row("copy", format_args!("{} {}", copy.display(), styled(DIM, "all its lines are in another file")));
    }
    for (key, place) in used(report, keys) {
        row("key", format_args!("{key} {}", styled(DIM, place)));
    }
}

fn row(name: &str, value: impl std::fmt::Display) {
    out(format!("{name:>12}  {value}").trim_end());
}

/// The keys that have signed checkpoints of this chain; all keys, if there are none.
fn used<'k>(report: &VerifyReport, keys: &'k [NamedKey]) -> impl Iterator<Item = &'k NamedKey> {
    let signing = report.checkpoints.keys.clone();
    keys.iter().filter(move |(key, _)| signing.is_empty() || signing.contains(key))
}

/// One chain is an object. Several are a list, under the worst verdicts.
fn json_of_all(verdicts: &[Verdict]) -> Value {
    if let [verdict] = verdicts {
        return json_of(verdict);
    }
    let is_any = |completeness| verdicts.iter().any(|verdict| verdict.report.completeness() == completeness);
    let completeness = match (is_any(Completeness::Incomplete), is_any(Completeness::Unknown)) {
        (true, _) => Completeness::Incomplete,
        (false, true) => Completeness::Unknown,
        (false, false) => Completeness::Complete,
    };
    json!({
        "integrity": integrity(verdicts.iter().all(|verdict| verdict.report.is_intact())),
        "completeness": name(completeness),
        "chains": verdicts.iter().map(json_of).collect::<Vec<_>>(),
    })
}

fn integrity(is_intact: bool) -> &'static str {
    if is_intact { "intact" } else { "broken" }
}

fn name(completeness: Completeness) -> &'static str {
    match completeness {
        Completeness::Complete => "complete",
        Completeness::Incomplete => "incomplete",
        Completeness::Unknown => "unknown",
    }
}

fn json_of(Verdict { chain, report, keys }: &Verdict) -> Value {
    let fault = |fault: &VerifyFault| json!({ "file": fault.file, "line": fault.line, "fault": describe(fault) });
    let torn = report.torn.as_ref().map(|(file, bytes)| json!({ "file": file, "bytes": bytes }));
    let missing = |missing: &MissingLines| json!([missing.from, missing.to]);
    let unconfirmed =
        |(line, event): &(u64, RecordedEvent)| json!({ "line": line, "finding": describe_unconfirmed(*line, *event) });
    json!({
        "integrity": integrity(report.is_intact()),
        "completeness": name(report.completeness()),
        "files": chain.files,
        "copies": chain.copies,
        "lines": report.lines,
        "bytes": report.bytes,
        "first": report.first,
        "last": report.last.map(|link| link.sequence),
        "head": report.last.map(|link| link.head.to_string()),
        "faults": report.faults.iter().map(fault).collect::<Vec<_>>(),
        "missing": report.missing.iter().map(missing).collect::<Vec<_>>(),
        "lacks_current": report.lacks_current,
        "removed_up_to": report.removed,
        "recorded_missing": report.recorded_missing,
        "recovered": report.recovered,
        "unconfirmed": report.unconfirmed.iter().map(unconfirmed).collect::<Vec<_>>(),
        "torn": torn,
        "checkpoints": {
            "count": report.checkpoints.count,
            "last": report.checkpoints.last.map(|(line, _)| line),
            "unsigned": report.checkpoints.unsigned,
            "found": report.checkpoints.found,
            "faults": report.checkpoints.faults,
            "key": used(report, keys).next().map(|(key, _)| key.to_string()),
        },
    })
}
