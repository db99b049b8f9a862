//! `portcullis reload`: asks the running gateway to read its configuration again, and waits for the result.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::Deserialize;

use super::terminal::{BAD, DIM, GOOD, WARN, note, out, styled};
use super::{ConfigPath, Format, USAGE};
use crate::app::control_socket::{connect, socket_path};
use crate::config::interpolate::Surroundings;
use crate::config::state_directory;
use crate::telemetry::error_chain;

pub(super) const HELP: &str = "\
Examples:
  portcullis reload
  portcullis reload --state-directory /var/lib/portcullis --format json

The gateway reads the file that it was started with. It takes the whole configuration into use, or none of it. Run this as the \
user of the gateway or as root. Exit code 0 if the configuration is in use, also if nothing has changed; 2 if it is refused or \
no gateway answers.";

#[derive(Debug, Args)]
pub(super) struct ReloadArgs {
    #[command(flatten)]
    config: ConfigPath,
    /// The `state_directory` of the gateway [default: as the configuration file says]
    #[arg(long, value_name = "DIR")]
    state_directory: Option<PathBuf>,
    /// The form of the output: text for people, JSON for programs
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// The answer of the gateway, as far as it is shown to people.
#[derive(Debug, Deserialize)]
struct ReloadAnswer {
    ok: bool,
    file: Option<String>,
    /// The revision in use.
    config: Option<String>,
    /// The revision before.
    previous: Option<String>,
    #[serde(default)]
    warnings: Vec<Problem>,
    #[serde(default)]
    problems: Vec<Problem>,
    /// The problems with their lines.
    rendered: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Problem {
    file: String,
    line: Option<usize>,
    column: Option<usize>,
    message: String,
}

/// The gateway gives up reading a configuration after a minute. Another reload may come first.
const TIMEOUT: Duration = Duration::from_secs(150);
const MAX_ANSWER: u64 = 16 * 1024 * 1024;

pub(super) fn reload(args: &ReloadArgs) -> ExitCode {
    let path = &args.config.config;
    let directory = match &args.state_directory {
        Some(given) => given.clone(),
        None => match state_directory::find(path, &Surroundings::process()) {
            Ok(found) => found,
            Err(why) => {
                return unreachable(
                    args,
                    &format!("cannot tell `state_directory` of {}: {why}; set --state-directory", path.display()),
                );
            }
        },
    };
    let line = match ask(&directory) {
        Ok(line) => line,
        Err(error) => return unreachable(args, &reason(&error, &directory)),
    };
    let Ok(answer) = serde_json::from_str::<ReloadAnswer>(&line) else {
        return unreachable(args, "the gateway gave an answer that this version does not understand");
    };
    match args.format {
        Format::Json => out(uncoloured(line.trim_end())),
        Format::Text => {
            print(&answer);
            if let (None, Some(used)) = (&args.state_directory, answer.file.as_deref()) {
                note_other_file(path, Path::new(used));
            }
        }
    }
    if answer.ok { ExitCode::SUCCESS } else { ExitCode::from(USAGE) }
}

fn ask(directory: &Path) -> io::Result<String> {
    let mut stream = connect(directory)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.write_all(b"reload\n")?;
    let mut line = String::new();
    stream.take(MAX_ANSWER).read_to_string(&mut line)?;
    if line.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(line) }
}

fn reason(error: &io::Error, directory: &Path) -> String {
    let socket = socket_path(directory);
    let socket = socket.display();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => format!(
            "no gateway listens at {socket}; start one with `portcullis run`, or name its `state_directory` with --state-directory"
        ),
        io::ErrorKind::PermissionDenied => {
            format!("cannot connect to {socket}: permission denied; run as the user of the gateway, or as root")
        }
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            format!("the gateway at {socket} gave no answer: it has ended, or it is of another user; see its log")
        }
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            format!("the gateway at {socket} did not answer within {} s; see its log", TIMEOUT.as_secs())
        }
        _ => format!("cannot talk to the gateway at {socket}: {}", error_chain::reason(error)),
    }
}

/// There is no answer of a gateway.
fn unreachable(args: &ReloadArgs, why: &str) -> ExitCode {
    match args.format {
        Format::Json => out(serde_json::json!({ "ok": false, "error": why })),
        Format::Text => note(format_args!("{} {why}", styled(BAD, "error:"))),
    }
    ExitCode::from(USAGE)
}

/// The answer with the errors as a pipe gets them.
fn uncoloured(line: &str) -> String {
    let Ok(mut answer) = serde_json::from_str::<serde_json::Value>(line) else { return line.to_owned() };
    if let Some(rendered) = answer["rendered"].as_str() {
        answer["rendered"] = anstream::adapter::strip_str(rendered).to_string().into();
    }
    answer.to_string()
}

fn print(answer: &ReloadAnswer) {
    let (file, config) = (answer.file.as_deref().unwrap_or("-"), answer.config.as_deref().unwrap_or("-"));
    answer.warnings.iter().for_each(|warning| note(format_args!("{} {}", styled(WARN, "warning:"), warning.text())));
    if answer.ok {
        let previous = answer.previous.as_deref().unwrap_or("-");
        let file = styled(DIM, file);
        if previous == config {
            return out(format_args!("{}  nothing has changed: {config} is in use  {file}", styled(GOOD, "ok")));
        }
        return out(format_args!("{}  {previous} → {config}  {file}", styled(GOOD, "ok")));
    }
    match &answer.rendered {
        Some(rendered) => note(rendered.trim_end()),
        None => answer.problems.iter().for_each(|problem| note(problem.text())),
    }
    note(format_args!("{} {file} is not in use: {config} stays", styled(BAD, "error:")));
}

impl Problem {
    fn text(&self) -> String {
        match (self.line, self.column) {
            (Some(line), Some(column)) => format!("{}:{line}:{column}: {}", self.file, self.message),
            _ => format!("{}: {}", self.file, self.message),
        }
    }
}

/// Says that the gateway uses another file than the one of the command line.
fn note_other_file(given: &Path, used: &Path) {
    let is_same = match (fs::canonicalize(given), fs::canonicalize(used)) {
        (Ok(given), Ok(used)) => given == used,
        _ => std::path::absolute(given).is_ok_and(|given| given == used),
    };
    if !is_same {
        note(format_args!(
            "{} the gateway was started with {}, not with {}",
            styled(WARN, "warning:"),
            used.display(),
            given.display()
        ));
    }
}
