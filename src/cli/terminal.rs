//! Printing: coloured on a terminal, plain in a pipe, and never a panic where the reader has gone.

use std::error::Error;
use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};

use super::USAGE;
use crate::config::ConfigErrors;
use crate::telemetry::chain::Chain;

pub(super) const BOLD: Style = Style::new().bold();
pub(super) const DIM: Style = Style::new().dimmed();
pub(super) const GOOD: Style = AnsiColor::Green.on_default().bold();
pub(super) const WARN: Style = AnsiColor::Yellow.on_default();
pub(super) const NAME: Style = AnsiColor::Cyan.on_default();

/// A result.
pub(super) fn out(line: impl Display) {
    let _ = writeln!(anstream::stdout(), "{line}");
}

/// A remark beside the result.
pub(super) fn note(line: impl Display) {
    let _ = writeln!(anstream::stderr(), "{line}");
}

/// A value in a style.
pub(super) fn styled(style: Style, value: impl Display) -> String {
    format!("{style}{value}{style:#}")
}

pub(super) fn failed(error: &dyn Error) -> ExitCode {
    note(format_args!("{} {}", styled(AnsiColor::Red.on_default().bold(), "error:"), Chain(error)));
    ExitCode::from(USAGE)
}

pub(super) fn bad_config(errors: &ConfigErrors) -> ExitCode {
    let _ = write!(anstream::stderr(), "{}", errors.render(std::io::stderr().is_terminal()));
    ExitCode::from(USAGE)
}
