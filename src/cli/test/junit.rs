//! The results of tests as JUnit's XML, for build servers.
//!
//! Has only the elements and attributes that the usual schemas of this format share.

use std::fmt::Write as _;

use crate::app::config_tests::ConfigTestReport;
use crate::app::config_tests::outcome::{TestOutcome, TestedRequest};

/// Each test is a suite, and each request of a caller a case.
pub(super) fn document(report: &ConfigTestReport<'_>) -> String {
    let mut suites = String::new();
    let (mut requests, mut failures) = (0, 0);
    for outcome in &report.tests {
        requests += outcome.requests.len();
        failures += outcome.failed().count();
        suite(report.file, outcome, &mut suites);
    }
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <testsuites name=\"{}\" tests=\"{requests}\" failures=\"{failures}\" errors=\"0\">\n{suites}</testsuites>",
        escaped(report.file)
    )
}

fn suite(file: &str, outcome: &TestOutcome<'_>, xml: &mut String) {
    let name = escaped(&outcome.test.name);
    let (requests, failures) = (outcome.requests.len(), outcome.failed().count());
    let _ = writeln!(
        xml,
        "  <testsuite name=\"{name}\" tests=\"{requests}\" failures=\"{failures}\" errors=\"0\" skipped=\"0\">"
    );
    for tested in &outcome.requests {
        let TestedRequest { caller, request, actual } = tested;
        let case = escaped(&format!("{request}, {caller}"));
        let _ = write!(xml, "    <testcase name=\"{case}\" classname=\"{name}\"");
        if tested.has_passed() {
            xml.push_str("/>\n");
            continue;
        }
        let place = format!("{file}:{}:{}", request.place.line, request.place.column);
        let message = escaped(&format!("expected {}, but {actual}", request.expected));
        let _ = writeln!(
            xml,
            ">\n      <failure message=\"{message}\" type=\"decision\">{}: {message}</failure>\n    </testcase>",
            escaped(&place)
        );
    }
    xml.push_str("  </testsuite>\n");
}

/// Text for an element or an attribute. Characters that XML does not allow are replaced.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            // Literally, an attribute would lose them.
            '\t' | '\n' | '\r' => {
                let _ = write!(escaped, "&#{};", u32::from(character));
            }
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => escaped.push(char::REPLACEMENT_CHARACTER),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn no_text_breaks_the_markup() {
        assert_eq!(escaped("a<b>&\"c'"), "a&lt;b&gt;&amp;&quot;c&apos;");
        assert_eq!(escaped("]]>\n\u{1}\u{ffff}ä"), "]]&gt;&#10;\u{fffd}\u{fffd}ä");
    }
}
