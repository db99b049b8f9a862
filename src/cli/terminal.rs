//! Printing: coloured on a terminal, plain in a pipe. A closed pipe is not an error.

use std::error::Error;
use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};

use super::USAGE;
use crate::config::ConfigErrors;
use crate::telemetry::error_chain::ErrorChain;

pub(super) const BOLD: Style = Style::new().bold();
pub(super) const DIM: Style = Style::new().dimmed();
pub(super) const GOOD: Style = AnsiColor::Green.on_default().bold();
pub(super) const BAD: Style = AnsiColor::Red.on_default().bold();
pub(super) const WARN: Style = AnsiColor::Yellow.on_default();
pub(super) const NAME: Style = AnsiColor::Cyan.on_default();

/// Prints a result.
pub(super) fn out(line: impl Display) {
    let _ = writeln!(anstream::stdout(), "{line}");
}

/// Prints one of many results. False if the reader is gone.
pub(super) fn print_unless_closed(line: impl Display) -> bool {
    writeln!(anstream::stdout(), "{line}").is_ok()
}

/// The progress of a long task, on a terminal only.
#[derive(Debug)]
pub(super) struct ProgressBar {
    done: u64,
    total: u64,
    shown: Option<u64>,
}

impl ProgressBar {
    /// The progress of a task with this many steps, such as bytes. A task with fewer than `min_shown` shows nothing.
    pub(super) fn of(total: u64, min_shown: u64) -> Self {
        let shown = (total >= min_shown && std::io::stderr().is_terminal()).then_some(u64::MAX);
        Self { done: 0, total: total.max(1), shown }
    }

    pub(super) fn more(&mut self, steps: u64) {
        const WIDTH: usize = 40;
        self.done += steps;
        let percent = (self.done.saturating_mul(100) / self.total).min(100);
        if self.shown.is_some_and(|shown| shown != percent) {
            self.shown = Some(percent);
            let filled = WIDTH * percent as usize / 100;
            let bar = format!("{}{}", "█".repeat(filled), "░".repeat(WIDTH - filled));
            let _ = write!(anstream::stderr(), "\r{bar} {percent:>3} %");
        }
    }

    pub(super) fn end(&mut self) {
        if self.shown.take().is_some_and(|shown| shown != u64::MAX) {
            let _ = write!(anstream::stderr(), "\r\x1b[K");
        }
    }
}

/// Prints a remark beside the result.
pub(super) fn note(line: impl Display) {
    let _ = writeln!(anstream::stderr(), "{line}");
}

/// The value in this style.
pub(super) fn styled(style: Style, value: impl Display) -> String {
    format!("{style}{value}{style:#}")
}

pub(super) fn failed(error: &(dyn Error + 'static)) -> ExitCode {
    error_text(ErrorChain(error))
}

/// [`failed`], with a way out.
pub(super) fn failed_with(error: &(dyn Error + 'static), hint: &str) -> ExitCode {
    error_text(format_args!("{}; {hint}", ErrorChain(error)))
}

pub(super) fn error_text(text: impl Display) -> ExitCode {
    note(format_args!("{} {text}", styled(BAD, "error:")));
    ExitCode::from(USAGE)
}

pub(super) fn bad_config(errors: &ConfigErrors) -> ExitCode {
    let _ = write!(anstream::stderr(), "{}", errors.render(std::io::stderr().is_terminal()));
    ExitCode::from(USAGE)
}
