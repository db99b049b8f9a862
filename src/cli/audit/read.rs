//! `portcullis audit tail` and `query`: the lines that match, of all files and instances.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Args;

use super::LogFiles;
use super::filter::Filter;
use super::lines::{ChainLines, FileLines, MatchedLine, merge};
use super::names::misspelt;
use super::table::Printer;
use crate::audit::verify::chains::LogChain;
use crate::cli::terminal::{failed, note};
use crate::cli::{Format, USAGE};
use crate::clock;

pub(super) const TAIL_HELP: &str = "\
Examples:
  portcullis audit tail -n 50
  portcullis audit tail -f --decision deny
  portcullis audit tail --event revocation

Reads rotated files too. Of several instances, the lines are shown by time.";

pub(super) const QUERY_HELP: &str = "\
Examples:
  portcullis audit query --client billing --since 2h
  portcullis audit query --reason expired --path /api/
  portcullis audit query --request-id 5f0c… --format json one/audit.jsonl* two/audit.jsonl*

Reads rotated files too. Of several instances, the lines are shown by time.";

#[derive(Debug, Args)]
pub(in crate::cli) struct TailArgs {
    #[command(flatten)]
    log: LogFiles,
    /// Continue to show lines as they are written, also after a rotation
    #[arg(long, short)]
    follow: bool,
    /// The number of lines to show
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 20)]
    lines: usize,
    #[command(flatten)]
    filter: Filter,
    /// The form of the output: a table, or JSON lines
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct QueryArgs {
    #[command(flatten)]
    log: LogFiles,
    #[command(flatten)]
    filter: Filter,
    /// The form of the output: a table, or JSON lines
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// How often a followed file is checked for new lines.
const FOLLOW_EVERY: Duration = Duration::from_millis(200);

pub(super) fn query(args: &QueryArgs) -> ExitCode {
    let filter = args.filter.at(clock::now());
    let chains = match args.log.readable() {
        Ok(chains) => chains,
        Err(code) => return code,
    };
    let files = all_files(&chains);
    let mut chains: Vec<_> = chains.into_iter().map(|chain| ChainLines::new(chain.files, &filter)).collect();
    let mut printer = Printer::new(args.format);
    let mut matched = false;
    let to_the_end = merge(&mut chains, |line| {
        matched = true;
        printer.print(&line)
    });
    match to_the_end {
        Ok(true) => {}
        Ok(false) => return ExitCode::SUCCESS,
        Err(error) => return failed(&error),
    }
    if !matched {
        match misspelt(&args.log, &files, &args.filter) {
            Ok(None) => note_no_match(chains.iter().map(|chain| chain.read).sum()),
            Ok(Some(fault)) => return wrong_usage(&fault),
            Err(error) => return failed(&error),
        }
    }
    for (from, to) in chains.iter().flat_map(ChainLines::gaps) {
        let lines = if from == to { format!("line {from} is") } else { format!("lines {from} to {to} are") };
        note(format_args!("{lines} in no file; `portcullis audit verify` shows more"));
    }
    ExitCode::SUCCESS
}

pub(super) fn all_files(chains: &[LogChain]) -> Vec<PathBuf> {
    chains.iter().flat_map(|chain| chain.files.clone()).collect()
}

pub(super) fn wrong_usage(fault: &str) -> ExitCode {
    note(fault);
    ExitCode::from(USAGE)
}

fn note_no_match(read: u64) {
    match read {
        0 => note("the log has no line"),
        1 => note("no line matches: 1 line was read"),
        read => note(format_args!("no line matches: {read} lines were read")),
    }
}

pub(super) fn tail(args: &TailArgs) -> ExitCode {
    let chains = match args.log.readable() {
        Ok(chains) => chains,
        Err(code) => return code,
    };
    match show_last(chains, args) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(misspelt)) => wrong_usage(&misspelt),
        Err(error) => failed(&error),
    }
}

/// The file of a chain that is written now.
struct FollowedFile {
    path: PathBuf,
    /// `None` while there is no such file.
    lines: Option<FileLines>,
}

/// Returns the message about a misspelt name in the filter.
fn show_last(chains: Vec<LogChain>, args: &TailArgs) -> io::Result<Option<String>> {
    let files = all_files(&chains);
    let filter = args.filter.at(clock::now());
    let mut printer = Printer::new(args.format);
    let (mut read, mut followed, mut last_of_chains) = (0, Vec::new(), Vec::new());
    for chain in chains {
        let (last, file) = last_of(chain, &filter, args.lines, &mut read)?;
        last_of_chains.push(last.into_iter().map(Ok));
        followed.extend(file);
    }
    let mut last = Vec::new();
    merge(&mut last_of_chains, |line| {
        last.push(line);
        true
    })?;
    let skipped = last.len().saturating_sub(args.lines);
    if last.is_empty() {
        if let Some(fault) = misspelt(&args.log, &files, &args.filter)? {
            return Ok(Some(fault));
        }
        if !args.follow {
            note_no_match(read);
        }
    }
    let is_read = last.iter().skip(skipped).all(|line| printer.print(line));
    if args.follow && is_read {
        follow(followed, &filter, &mut printer)?;
    }
    Ok(None)
}

/// The last lines of a chain that match, and its newest file, read to its end.
fn last_of(
    chain: LogChain,
    filter: &Filter,
    count: usize,
    read: &mut u64,
) -> io::Result<(Vec<MatchedLine>, Option<FollowedFile>)> {
    let mut files = chain.files;
    let newest = chain.current.or_else(|| files.last().cloned());
    files.retain(|file| Some(file) != newest.as_ref());
    let mut followed = None;
    let mut parts = Vec::new();
    let mut found = 0;
    if let Some(path) = newest {
        let mut lines = if path.exists() { Some(FileLines::open(&path)?) } else { None };
        if let Some(lines) = &mut lines {
            let (last, of_file) = lines.last_matches(filter, count)?;
            *read += of_file;
            found += last.len();
            parts.push(last);
        }
        followed = Some(FollowedFile { path, lines });
    }
    for file in files.iter().rev() {
        if found >= count {
            break;
        }
        let (last, of_file) = FileLines::open(file)?.last_matches(filter, count - found)?;
        *read += of_file;
        found += last.len();
        parts.push(last);
    }
    Ok((parts.into_iter().rev().flatten().collect(), followed))
}

fn follow(mut files: Vec<FollowedFile>, filter: &Filter, printer: &mut Printer) -> io::Result<()> {
    loop {
        thread::sleep(FOLLOW_EVERY);
        for FollowedFile { path, lines } in &mut files {
            // Checked before reading: the last lines of the old file come before those of the new one.
            let has_moved = lines.as_mut().is_none_or(|lines| lines.has_moved(path));
            while let Some(line) = lines.as_mut().map(|lines| lines.next_match(filter)).transpose()?.flatten() {
                if !printer.print(&line) {
                    return Ok(());
                }
            }
            if has_moved && let Ok(reopened) = FileLines::open(path) {
                *lines = Some(reopened);
            }
        }
    }
}
