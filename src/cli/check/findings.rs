//! The findings of `check` in its formats.

use std::path::Path;

use serde_json::{Value, json};

use crate::audit::disk;
use crate::cli::connect::Connections;
use crate::cli::terminal::{BAD, WARN, note, out, styled};
use crate::config::diagnostics::Diagnostic;
use crate::config::lint::Lint;
use crate::config::types::Config;
use crate::config::warning::Warning;

/// An error, or a warning with its lint.
#[derive(Debug)]
pub(super) struct Finding {
    /// `None`: an error.
    lint: Option<Lint>,
    diagnostic: Diagnostic,
}

/// All that a program is told.
pub(super) struct CheckReport<'r> {
    /// The id of the configuration. `None`: `run` would refuse it.
    pub(super) config: Option<&'r str>,
    pub(super) findings: &'r [Finding],
    pub(super) connections: Option<&'r Connections>,
}

/// The findings of a configuration that `run` accepts, and that of the disk, which is no part of it.
pub(super) fn of(path: &Path, config: &Config) -> Vec<Finding> {
    let ended = config.ended_certificates.iter().cloned().map(Finding::error);
    let warnings = config.warnings.iter().cloned();
    // Before the first start there may be no folder to ask about.
    let shortage =
        config.audit.target.file().and_then(|log| disk::shortage(log, &config.audit.rotation).ok().flatten());
    let file = path.display().to_string();
    let of_disk = shortage.map(|message| {
        let diagnostic = Diagnostic { file, line: None, column: None, message };
        Warning { lint: Lint::AuditDisk, diagnostic }
    });
    ended.chain(warnings.chain(of_disk).map(Finding::warning)).collect()
}

impl Finding {
    pub(super) fn error(diagnostic: Diagnostic) -> Self {
        Self { lint: None, diagnostic }
    }

    fn warning(warning: Warning) -> Self {
        Self { lint: Some(warning.lint), diagnostic: warning.diagnostic }
    }

    pub(super) fn is_warning(&self) -> bool {
        self.lint.is_some()
    }

    fn level(&self) -> &'static str {
        if self.is_warning() { "warning" } else { "error" }
    }

    /// To stderr, beside the summary.
    pub(super) fn print(&self) {
        match self.lint {
            Some(lint) => note(format_args!("{} {} [{}]", styled(WARN, "warning:"), self.diagnostic, lint.id())),
            None => note(format_args!("{} {}", styled(BAD, "error:"), self.diagnostic)),
        }
    }

    fn json(&self) -> Value {
        let Diagnostic { file, line, column, message } = &self.diagnostic;
        json!({
            "level": self.level(),
            "lint": self.lint.map(Lint::id),
            "about": self.lint.map(Lint::about),
            "file": file,
            "line": line,
            "column": column,
            "message": message,
        })
    }

    fn github(&self) -> String {
        let Diagnostic { file, line, column, message } = &self.diagnostic;
        let place = [("line", line), ("col", column)];
        let place = place.iter().filter_map(|(name, place)| Some(format!("{name}={}", place.as_ref()?)));
        let title = format!("title={}", self.lint.map_or("portcullis check", Lint::id));
        let properties: Vec<String> =
            [format!("file={}", property(file))].into_iter().chain(place).chain([title]).collect();
        format!("::{} {}::{}", self.level(), properties.join(","), data(message))
    }
}

impl CheckReport<'_> {
    pub(super) fn print_json(&self) {
        let findings: Vec<Value> = self.findings.iter().map(Finding::json).collect();
        let is_ok = self.findings.iter().all(Finding::is_warning);
        let mut report = json!({ "ok": is_ok, "findings": findings });
        self.config.iter().for_each(|id| report["config"] = json!(id));
        self.connections.iter().for_each(|found| report["connections"] = found.json());
        out(report);
    }

    /// As workflow commands, which GitHub shows beside the lines of the file.
    pub(super) fn print_github(&self) {
        self.findings.iter().for_each(|finding| out(finding.github()));
        let failures = self.connections.iter().flat_map(|found| found.failures());
        failures.for_each(|failure| out(format_args!("::error title=connect::{}", data(&failure))));
    }
}

/// The message of a workflow command: of one line.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// A property of a workflow command: it ends at `,` or `:`.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workflow_commands_are_escaped() {
        let place = |line| Diagnostic {
            file: "a,b:c%.yaml".to_owned(),
            line,
            column: line,
            message: "50 % of it:\r\nnot, good".to_owned(),
        };
        let warning = Finding { lint: Some(Lint::UnusedScope), diagnostic: place(Some(3)) };
        let expected = "::warning file=a%2Cb%3Ac%25.yaml,line=3,col=3,title=unused-scope::50 %25 of it:%0D%0Anot, good";
        assert_eq!(warning.github(), expected);
        let error = "::error file=a%2Cb%3Ac%25.yaml,title=portcullis check::50 %25 of it:%0D%0Anot, good";
        assert_eq!(Finding::error(place(None)).github(), error);
    }
}
