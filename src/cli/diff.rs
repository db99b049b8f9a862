//! `portcullis diff`: what a configuration changes in terms of access.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::terminal::{BAD, DIM, GOOD, NAME, WARN, bad_config, failed, note, out, print_unless_closed, styled};
use super::{FINDINGS, USAGE};
use crate::config;
use crate::config::diff::change::{AccessChange, Direction};
use crate::config::diff::diff as access_changes;
use crate::config::diff::places::Places;
use crate::config::diff::summary::AccessSummary;
use crate::config::diff::view::AccessView;
use crate::config::interpolate::Surroundings;
use crate::config::source::SourcePosition;
use crate::config::types::Config;

#[derive(Debug, Args)]
pub(super) struct DiffArgs {
    /// The configuration before; `-` reads it from standard input
    old: PathBuf,
    /// The configuration after; `-` reads it from standard input
    new: PathBuf,
    /// The form of the output: text for people, JSON for programs, annotations for GitHub Actions
    #[arg(long, value_enum, default_value = "text")]
    format: DiffFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DiffFormat {
    Text,
    Json,
    Github,
}

pub(super) const HELP: &str = "\
Example, for a change that is under review:
  git show main:gateway.yaml | portcullis diff - gateway.yaml

Compares what the files decide, and not their text. Both are read with the variables of this shell; standard input is \
read as if it stood beside the other file. Exit code 1 if access widens, or if that cannot be ruled out.";

pub(super) fn diff(args: &DiffArgs) -> ExitCode {
    if is_stdin(&args.old) && is_stdin(&args.new) {
        note("only one of the two configurations can come from standard input");
        return ExitCode::from(USAGE);
    }
    let old = match read(&args.old, &args.new) {
        Ok(read) => read,
        Err(code) => return code,
    };
    let new = match read(&args.new, &args.old) {
        Ok(read) => read,
        Err(code) => return code,
    };
    let mut changes = access_changes(&AccessView::of(&old.config), &AccessView::of(&new.config));
    changes.sort_by_key(|change| change.direction);
    let placed: Vec<PlacedChange<'_>> = changes
        .iter()
        .map(|change| {
            let places = if change.subject.is_old { &old.places } else { &new.places };
            PlacedChange { change, file: places.file(), place: places.of_subject(&change.subject) }
        })
        .collect();
    let summary = AccessSummary::of(&changes);
    match args.format {
        DiffFormat::Text => print_text(&placed, &summary),
        DiffFormat::Json => out(json(&placed, &summary)),
        DiffFormat::Github => {
            let _ = placed.iter().all(PlacedChange::annotate);
        }
    }
    if summary.wider > 0 { ExitCode::from(FINDINGS) } else { ExitCode::SUCCESS }
}

/// A configuration with the places of its entries.
struct ReadConfig {
    config: Config,
    places: Places,
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

/// Reads a file once: it may be a pipe.
fn read(path: &Path, other: &Path) -> Result<ReadConfig, ExitCode> {
    let surroundings = Surroundings::process();
    let (path, text) = if is_stdin(path) {
        let mut text = String::new();
        let read = std::io::stdin().take(config::FILE_BYTES as u64 + 1).read_to_string(&mut text);
        read.map_err(|error| failed(&error))?;
        // Paths in it are relative to the folder of the other file.
        (other.with_file_name("-"), Some(text))
    } else {
        (path.to_owned(), config::read_text(path))
    };
    let Some(text) = text else {
        return match config::load(&path, &surroundings) {
            Ok(_) => Err(ExitCode::from(USAGE)),
            Err(errors) => Err(bad_config(&errors)),
        };
    };
    let config = config::load_text(&path, text.clone(), &surroundings).map_err(|errors| bad_config(&errors))?;
    Ok(ReadConfig { config, places: Places::of(&path, text) })
}

/// A change with its place in one of the files.
struct PlacedChange<'c> {
    change: &'c AccessChange,
    file: &'c str,
    place: Option<SourcePosition>,
}

impl PlacedChange<'_> {
    fn place_text(&self) -> String {
        match self.place {
            Some(SourcePosition { line, column }) => format!("{}:{line}:{column}", self.file),
            None => self.file.to_owned(),
        }
    }

    fn json(&self) -> Value {
        json!({
            "direction": self.change.direction.as_str(),
            "message": self.change.text,
            "file": self.file,
            "line": self.place.map(|place| place.line),
            "column": self.place.map(|place| place.column),
        })
    }

    /// Prints a workflow command. False if the reader is gone.
    fn annotate(&self) -> bool {
        let level = if self.change.direction.may_widen() { "error" } else { "notice" };
        let place = self.place.map(|place| format!(",line={},col={}", place.line, place.column)).unwrap_or_default();
        let (file, title) = (property(self.file), title(self.change.direction));
        print_unless_closed(format_args!("::{level} file={file}{place},title={title}::{}", data(&self.change.text)))
    }
}

fn title(direction: Direction) -> &'static str {
    match direction {
        Direction::Wider => "Access widens",
        Direction::Unclear => "Access may widen",
        Direction::Narrower => "Access narrows",
        Direction::Changed => "Access changes",
    }
}

fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

fn print_text(changes: &[PlacedChange<'_>], summary: &AccessSummary) {
    for change in changes {
        let style = match change.change.direction {
            Direction::Wider | Direction::Unclear => BAD,
            Direction::Narrower => NAME,
            Direction::Changed => DIM,
        };
        let direction = styled(style, format_args!("{}:", change.change.direction));
        if !print_unless_closed(format_args!("{}: {direction} {}", change.place_text(), change.change.text)) {
            return;
        }
    }
    let AccessSummary { wider, narrower, changed, text: _ } = summary;
    let style = if *wider > 0 { WARN } else { GOOD };
    if changes.is_empty() {
        out(styled(style, "no change of access"));
    } else {
        out(styled(style, format_args!("{wider} wider, {narrower} narrower, {changed} changed")));
    }
}

fn json(changes: &[PlacedChange<'_>], summary: &AccessSummary) -> Value {
    let AccessSummary { wider, narrower, changed, text: _ } = summary;
    json!({
        "widens": *wider > 0,
        "wider": wider,
        "narrower": narrower,
        "changed": changed,
        "changes": changes.iter().map(PlacedChange::json).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod property;
