//! `portcullis audit tail` and `query`: lines for people, or as they are.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::LogFiles;
use super::filter::Filter;
use crate::audit::chain::sequence;
use crate::audit::line::shown;
use crate::cli::Format;
use crate::cli::terminal::{BAD, BOLD, DIM, GOOD, NAME, WARN, failed, note, still_out, styled};
use crate::clock;

pub(super) const HELP: &str = "\
Examples:
  portcullis audit tail -f --decision deny
  portcullis audit query --client billing --since 2h
  portcullis audit query --request-id 5f0c… --format json state/audit.jsonl.*";

#[derive(Debug, Args)]
pub(in crate::cli) struct TailArgs {
    #[command(flatten)]
    log: LogFiles,
    /// Go on as lines are written, into a new file too
    #[arg(long, short)]
    follow: bool,
    /// How many lines
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 20)]
    lines: usize,
    #[command(flatten)]
    filter: Filter,
    /// For people or for programs
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct QueryArgs {
    #[command(flatten)]
    log: LogFiles,
    #[command(flatten)]
    filter: Filter,
    /// For people or for programs
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// How often a followed file is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
const BUFFER: usize = 256 * 1024;
/// More are not told.
const MAX_GAPS: usize = 20;

pub(super) fn query(args: &QueryArgs) -> ExitCode {
    let chains = match args.log.all() {
        Ok(found) => found.chains,
        Err(code) => return code,
    };
    let mut printer = Printer::new(args.format);
    let mut gaps = Vec::new();
    for chain in chains {
        let mut last = 0;
        for file in chain.files {
            let read = FollowedFile::open(&file, &args.filter).and_then(|mut lines| {
                lines.last = last;
                let goes_on = lines.each(|line| printer.print(line));
                last = lines.last;
                gaps.append(&mut lines.gaps);
                goes_on
            });
            match read {
                Ok(true) => {}
                Ok(false) => return ExitCode::SUCCESS,
                Err(error) => return failed(&error),
            }
        }
    }
    for (from, to) in gaps {
        note(format_args!("lines {from} to {to} are in no file; `portcullis audit verify` says more"));
    }
    ExitCode::SUCCESS
}

pub(super) fn tail(args: &TailArgs) -> ExitCode {
    let path = match args.log.current() {
        Ok(path) => path,
        Err(code) => return code,
    };
    match follow(&path, args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn follow(path: &Path, args: &TailArgs) -> io::Result<()> {
    let mut printer = Printer::new(args.format);
    let mut lines = FollowedFile::open(path, &args.filter)?;
    let mut last = VecDeque::new();
    lines.each(|line| {
        last.push_back((line.0.to_vec(), line.1.clone()));
        if last.len() > args.lines {
            last.pop_front();
        }
        true
    })?;
    let mut goes_on = last.iter().all(|(line, value)| printer.print((line, value)));
    while args.follow && goes_on {
        thread::sleep(LOOK_EVERY);
        // Looked at first: whatever the old file still gets comes before the new one.
        let moved = lines.has_moved(path);
        goes_on = lines.each(|line| printer.print(line))?;
        if moved && let Ok(anew) = FollowedFile::open(path, &args.filter) {
            lines = anew;
        }
    }
    Ok(())
}

/// The lines of a file that are asked for, as far as they are whole.
struct FollowedFile {
    source: BufReader<File>,
    filter: Filter,
    line: Vec<u8>,
    /// The number of the last line.
    last: u64,
    /// Lines that are not there before one that is.
    gaps: Vec<(u64, u64)>,
}

type ReadLine<'l> = (&'l [u8], &'l Value);

impl FollowedFile {
    fn open(path: &Path, filter: &Filter) -> io::Result<Self> {
        let mut filter = filter.clone();
        filter.settle(clock::now());
        let file = File::open(path).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot read the audit log `{}`: {error}", path.display()))
        })?;
        let source = BufReader::with_capacity(BUFFER, file);
        Ok(Self { source, filter, line: Vec::new(), last: 0, gaps: Vec::new() })
    }

    /// To the end that the file has now. Says whether whoever looks at them still does.
    fn each(&mut self, mut show: impl FnMut(ReadLine<'_>) -> bool) -> io::Result<bool> {
        loop {
            let read = self.source.read_until(b'\n', &mut self.line)?;
            let Some(line) = self.line.strip_suffix(b"\n") else {
                if read == 0 {
                    return Ok(true);
                }
                continue;
            };
            if let Some(number) = sequence(line) {
                if number > self.last + 1 && self.gaps.len() < MAX_GAPS {
                    self.gaps.push((self.last + 1, number - 1));
                }
                self.last = number;
            }
            if let Some(value) = self.filter.read(line)
                && !show((line, &value))
            {
                return Ok(false);
            }
            self.line.clear();
        }
    }

    /// Or was cut off; then it is read from its new end.
    fn has_moved(&mut self, path: &Path) -> bool {
        let (Ok(there), Ok(here)) = (fs::metadata(path), self.source.get_ref().metadata()) else { return false };
        if self.source.stream_position().is_ok_and(|position| position > here.len()) {
            self.line.clear();
            let _ = self.source.seek(SeekFrom::End(0));
        }
        (there.dev(), there.ino()) != (here.dev(), here.ino())
    }
}

/// Prints lines, under a head where people read them.
struct Printer {
    format: Format,
    begun: bool,
}

impl Printer {
    fn new(format: Format) -> Self {
        Self { format, begun: false }
    }

    /// Says whether someone still reads.
    fn print(&mut self, (line, value): ReadLine<'_>) -> bool {
        match self.format {
            Format::Json => still_out(String::from_utf8_lossy(line)),
            Format::Text => {
                let head = format_args!(
                    "{:<24}  {:<8}  {:>3}  {:<17}  {:<20}  REQUEST",
                    "TIME", "DECISION", "", "REASON", "WHO"
                );
                let first = !std::mem::replace(&mut self.begun, true);
                (!first || still_out(styled(BOLD, head))) && still_out(row(value))
            }
        }
    }
}

/// What came from outside is shown with its controls escaped: it must not move a cursor.
fn row(line: &Value) -> String {
    let text = |name: &str| line[name].as_str().map(shown).unwrap_or_default();
    let event = text("gateway.event");
    let time = text("time");
    if !event.is_empty() {
        return format!("{time:<24}  {}{}", styled(NAME, format_args!("{event:<8}")), details(line));
    }
    let decision = text("gateway.decision");
    let style = match &*decision {
        "allow" | "issue" => GOOD,
        "deny" => WARN,
        _ => BAD,
    };
    let who = match (text("oauth.client_id"), text("client.address")) {
        (client, address) if client.is_empty() => address,
        (client, _) if line["oauth.verified"] == false => format!("{client}?"),
        (client, _) => client,
    };
    let status = line["http.response.status_code"].as_u64().map(|status| status.to_string()).unwrap_or_default();
    let request = format!("{} {}", text("http.request.method"), text("url.path"));
    let place = format!("({}) {}", text("http.route"), text("gateway.request_id"));
    let row = format!(
        "{time:<24}  {}  {status:>3}  {:<17}  {who:<20}  {request}  {}",
        styled(style, format_args!("{decision:<8}")),
        text("gateway.reason"),
        styled(DIM, place.trim_start_matches("() ")),
    );
    row.trim_end().to_owned()
}

/// What else an event says.
fn details(line: &Value) -> String {
    const KNOWN: [&str; 6] = ["seq", "time", "gateway.event", "gateway.config", "hash", "prev_hash"];
    let members = line.as_object().into_iter().flatten().filter(|(name, _)| !KNOWN.contains(&name.as_str()));
    let told = members.map(|(name, value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        format!("  {}={}", name.trim_start_matches("gateway."), shown(&value))
    });
    told.collect()
}
