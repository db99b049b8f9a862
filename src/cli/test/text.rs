//! The results of tests for people.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

use super::super::terminal::{BAD, BOLD, DIM, GOOD, WARN, print_unless_closed, styled};
use crate::app::config_tests::ConfigTestReport;
use crate::app::config_tests::coverage::TestCoverage;
use crate::app::config_tests::outcome::{TestOutcome, TestedRequest};
use crate::config::config_test::{ConfigTest, TestCaller};

/// Failures of one test that are shown; the others are counted.
const SHOWN: usize = 20;
/// Untested routes that are named.
const NAMED: usize = 20;

/// Prints a line for each test, its failures, and what is not tested. Stops if the reader is gone.
pub(super) fn print(report: &ConfigTestReport<'_>, config: &Path, has_coverage: bool) {
    for outcome in &report.tests {
        if !print_unless_closed(test_text(report.file, outcome, config)) {
            return;
        }
    }
    let requests: usize = report.tests.iter().map(|outcome| outcome.requests.len()).sum();
    let failed: usize = report.tests.iter().map(|outcome| outcome.failed().count()).sum();
    let failed_text = format!("{failed} failed");
    let failed_text = if failed == 0 { failed_text } else { styled(BAD, failed_text) };
    let tests = counted(report.tests.len(), "test");
    print_unless_closed(format_args!(
        "\n{tests}, {}: {} passed, {failed_text}",
        counted(requests, "request"),
        requests - failed
    ));
    if has_coverage {
        print_unless_closed(coverage_text(&report.coverage).trim_end());
    }
}

fn test_text(file: &str, outcome: &TestOutcome<'_>, config: &Path) -> String {
    let (failed, all) = (outcome.failed().count(), outcome.requests.len());
    let name = &outcome.test.name;
    if failed == 0 {
        return format!(
            "{}    {name} {}",
            styled(GOOD, "ok"),
            styled(DIM, format_args!("({})", counted(all, "request")))
        );
    }
    let mut text = format!("{}  {} ({failed} of {})", styled(BAD, "FAIL"), styled(BOLD, name), counted(all, "request"));
    for tested in outcome.failed().take(SHOWN) {
        let TestedRequest { caller, request, actual } = tested;
        let place = format!("{file}:{}:{}", request.place.line, request.place.column);
        let _ = write!(text, "\n      {place}: {}, {caller}", styled(BOLD, request));
        let _ = write!(text, "\n        expected  {}", request.expected);
        let _ = write!(text, "\n        actual    {}", styled(BAD, actual));
        let _ = write!(text, "\n        {}", styled(DIM, explain_command(outcome.test, tested, config)));
    }
    if failed > SHOWN {
        let _ = write!(text, "\n      and {} more", failed - SHOWN);
    }
    text
}

/// The command that shows the way of a request. Values of header fields may be secrets and are left out.
fn explain_command(test: &ConfigTest, tested: &TestedRequest<'_>, config: &Path) -> String {
    let TestedRequest { caller, request, .. } = tested;
    let scheme = if test.is_https { "https" } else { "http" };
    let url = format!("{scheme}://{}{}", test.host, request.target);
    let mut command = format!("portcullis explain {} {}", request.method, shell_word(&url));
    let mut option = |name: &str, value: &str| {
        let _ = write!(command, " {name} {}", shell_word(value));
    };
    option("--config", &config.display().to_string());
    option("--from", &test.from.to_string());
    for (name, _) in &test.fields {
        option("-H", &format!("{name}: …"));
    }
    match caller {
        TestCaller::Anonymous => {}
        TestCaller::Static(name) => option("--static-token", name),
        TestCaller::Client { id, scopes } => {
            option("--client", id);
            scopes.iter().for_each(|scopes| option("--scopes", &scopes.to_string()));
        }
        TestCaller::External { issuer, claims } => {
            option("--issuer", issuer);
            let claims = shell_word(&Value::Object(claims.clone()).to_string());
            let _ = write!(command, " --claims <(echo {claims})");
        }
    }
    command
}

/// A text as one word for a shell.
fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/.:-_+,=@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

fn coverage_text(coverage: &TestCoverage) -> String {
    let TestCoverage { routes, never_allowed, rules, never_refused } = coverage;
    let percent = coverage.percent();
    let percent_text = styled(if percent == 100 { GOOD } else { WARN }, format_args!("{percent} %"));
    let mut text = format!(
        "coverage {percent_text}: {} of {} with an allowed request, {} of {} with a refused one\n",
        routes - never_allowed.len(),
        counted(*routes, "route"),
        rules - never_refused.len(),
        counted(*rules, "rule")
    );
    for (missing, names) in [("no allowed request", never_allowed), ("no refused request", never_refused)] {
        for name in names.iter().take(NAMED) {
            let _ = writeln!(text, "  {missing}: {name}");
        }
        if let Some(more) = names.len().checked_sub(NAMED).filter(|more| *more > 0) {
            let _ = writeln!(text, "  {missing}: {more} more");
        }
    }
    text
}

fn counted(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::shell_word;

    #[test]
    fn a_word_for_a_shell_is_quoted_where_it_must_be() {
        assert_eq!(shell_word("https://a.example/b?c=d"), "'https://a.example/b?c=d'");
        assert_eq!(shell_word("https://a.example/b"), "https://a.example/b");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
        assert_eq!(shell_word(""), "''");
    }
}
