//! Prints lines: as a table, or as they are in the log.

use anstyle::Style;
use serde_json::Value;

use super::lines::MatchedLine;
use crate::audit::line::shown;
use crate::cli::Format;
use crate::cli::terminal::{BAD, BOLD, DIM, GOOD, NAME, WARN, print_unless_closed, styled};
use crate::oauth::caller::IssuerName;

/// Prints lines; the table has a heading.
pub(super) struct Printer {
    format: Format,
    has_heading: bool,
}

/// The widths of all columns but the last. A longer value shifts the rest of its row.
const WIDTHS: [usize; 7] = [24, 8, 6, 19, 20, 16, 32];
const HEADINGS: [&str; 8] =
    ["TIME", "DECISION", "STATUS", "REASON", "CLIENT OR ADDRESS", "ROUTE", "REQUEST ID", "METHOD AND PATH"];

impl Printer {
    pub(super) fn new(format: Format) -> Self {
        Self { format, has_heading: false }
    }

    /// Returns false once the reader of the output has gone.
    pub(super) fn print(&mut self, line: &MatchedLine) -> bool {
        match self.format {
            Format::Json => print_unless_closed(String::from_utf8_lossy(&line.text)),
            Format::Text => {
                let has_heading = std::mem::replace(&mut self.has_heading, true);
                (has_heading || print_unless_closed(heading())) && print_unless_closed(row(&line.value))
            }
        }
    }
}

fn heading() -> String {
    cells(HEADINGS.map(|heading| (BOLD, heading.to_owned())))
}

/// Values from outside are shown with their control characters escaped, so that none can move the cursor.
fn row(line: &Value) -> String {
    let text = |name: &str| line[name].as_str().map(shown).unwrap_or_default();
    let plain = |text: String| (Style::new(), text);
    let event = text("gateway.event");
    if !event.is_empty() {
        return format!("{}{}", cells([plain(text("time")), (NAME, event)]), details(line));
    }
    let decision = text("gateway.decision");
    let style = match &*decision {
        "allow" | "issue" => GOOD,
        "deny" | "would_deny" => WARN,
        _ => BAD,
    };
    let client = match (text("oauth.client_id"), text("client.address")) {
        (client, address) if client.is_empty() => address,
        (client, _) if line["oauth.issuer"] == IssuerName::STATIC => format!("{}/{client}", IssuerName::STATIC),
        (client, _) if line["oauth.verified"] == false => format!("{client} (claimed)"),
        (client, _) => client,
    };
    let status = line["http.response.status_code"].as_u64().map(|status| status.to_string()).unwrap_or_default();
    let cells = cells([
        plain(text("time")),
        (style, decision),
        plain(status),
        plain(text("gateway.reason")),
        plain(client),
        plain(text("http.route")),
        (DIM, text("gateway.request_id")),
        plain(format!("{} {}", text("http.request.method"), text("url.path")).trim().to_owned()),
    ]);
    let rule = match text("gateway.rule") {
        rule if rule.is_empty() => rule,
        rule => format!("  {}", styled(DIM, format_args!("rule {rule}"))),
    };
    let values = match (text("gateway.found"), text("gateway.wanted")) {
        (found, wanted) if found.is_empty() && wanted.is_empty() => String::new(),
        (found, wanted) => format!("  {}", styled(DIM, format_args!("found {found}, wanted {wanted}"))),
    };
    cells + &rule + &values
}

/// Pads outside of the styles, so that a row ends without spaces.
fn cells<const N: usize>(cells: [(Style, String); N]) -> String {
    let mut row = String::new();
    for ((style, text), width) in cells.into_iter().zip(WIDTHS.into_iter().chain([0])) {
        let padding = width.saturating_sub(text.chars().count()) + 2;
        if !text.is_empty() {
            row += &styled(style, text);
        }
        row += &" ".repeat(padding);
    }
    row.truncate(row.trim_end().len());
    row
}

/// The members of an event.
fn details(line: &Value) -> String {
    const NOT_AGAIN: [&str; 7] =
        ["seq", "time", "gateway.instance", "gateway.event", "gateway.config", "hash", "prev_hash"];
    let members = line.as_object().into_iter().flatten().filter(|(name, _)| !NOT_AGAIN.contains(&name.as_str()));
    let details = members.map(|(name, value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        format!("  {}={}", name.trim_start_matches("gateway."), shown(&value))
    });
    details.collect::<String>().trim_end().to_owned()
}
