//! `portcullis report`: the callers that routes in report mode would refuse, counted from the audit log.
//!
//! A request that has passed in report mode has a line of its own, so that no count is lost.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::LogFiles;
use super::filter::{Filter, Moment, WOULD_DENY};
use super::lines::{ChainLines, MatchedLine, merge};
use super::names::misspelt;
use super::read::{all_files, wrong_usage};
use crate::audit::line::shown;
use crate::cli::Format;
use crate::cli::terminal::{BOLD, GOOD, WARN, failed, note, out, print_unless_closed, styled};
use crate::clock;
use crate::network::counted_network;
use crate::oauth::caller::IssuerName;

pub(in crate::cli) const HELP: &str = "\
Examples:
  portcullis report --since 7d
  portcullis report --route read-invoices --format json

Counts the requests that have passed because their route has `report_until`, from the audit log and its rotated files. Callers \
whose token was not verified are counted by address. Also shows when each static token was last used.";

#[derive(Debug, Args)]
pub(in crate::cli) struct ReportArgs {
    #[command(flatten)]
    log: LogFiles,
    /// Count only requests of this route
    #[arg(long, value_name = "NAME")]
    route: Option<String>,
    /// Count only requests from this time on: RFC 3339, or a time before now, such as 15m, 2h or 7d
    #[arg(long, value_name = "TIME", value_parser = Moment::parse)]
    since: Option<Moment>,
    /// The form of the output: text for people, JSON for programs
    /// The form of the output: a table, or JSON
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// Callers that are told apart. The rest are counted together.
const MAX_CALLERS: usize = 10_000;
const OTHERS: &str = "(others)";

/// The requests of one caller, route and reason.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Subject {
    caller: String,
    route: String,
    reason: String,
}

#[derive(Debug)]
struct Seen {
    count: u64,
    first: String,
    last: String,
}

#[derive(Debug, Default)]
struct Report {
    callers: HashSet<String>,
    rows: HashMap<Subject, Seen>,
    /// The last use of each static token that was used.
    static_tokens: BTreeMap<String, String>,
}

pub(in crate::cli) fn report(args: &ReportArgs) -> ExitCode {
    let filter = Filter::of_report(args.route.clone(), args.since).at(clock::now());
    let chains = match args.log.readable() {
        Ok(chains) => chains,
        Err(code) => return code,
    };
    let files = all_files(&chains);
    let mut chains: Vec<_> = chains.into_iter().map(|chain| ChainLines::new(chain.files, &filter)).collect();
    let mut report = Report::default();
    let read = merge(&mut chains, |line| {
        report.add(&line);
        true
    });
    if let Err(error) = read {
        return failed(&error);
    }
    if report.rows.is_empty() {
        match misspelt(&args.log, &files, &filter) {
            Ok(None) => {}
            Ok(Some(fault)) => return wrong_usage(&fault),
            Err(error) => return failed(&error),
        }
    }
    if chains.iter().flat_map(ChainLines::gaps).next().is_some() {
        note("lines of the log are in no file: the counts may be too low; `portcullis audit verify` shows more");
    }
    match args.format {
        Format::Json => out(report.json()),
        Format::Text => report.print(),
    }
    ExitCode::SUCCESS
}

impl Report {
    fn add(&mut self, MatchedLine { value, .. }: &MatchedLine) {
        let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        if is_static(value) {
            let last = self.static_tokens.entry(text("oauth.client_id")).or_default();
            *last = text("time").max(std::mem::take(last));
        }
        if value.get(WOULD_DENY).is_none() {
            return;
        }
        let mut caller = caller(value);
        if !self.callers.contains(&caller) {
            if self.callers.len() < MAX_CALLERS {
                self.callers.insert(caller.clone());
            } else {
                OTHERS.clone_into(&mut caller);
            }
        }
        let subject = Subject { caller, route: text("http.route"), reason: text(WOULD_DENY) };
        let time = text("time");
        let seen = self.rows.entry(subject);
        let seen = seen.or_insert_with(|| Seen { count: 0, first: time.clone(), last: time.clone() });
        seen.count += 1;
        // Lines of several instances need not be in order.
        if time < seen.first {
            seen.first.clone_from(&time);
        }
        if time > seen.last {
            seen.last = time;
        }
    }

    /// The most frequent first.
    fn sorted(&self) -> Vec<(&Subject, &Seen)> {
        let mut rows: Vec<_> = self.rows.iter().collect();
        let key = |(subject, seen): &(&Subject, &Seen)| {
            (u64::MAX - seen.count, subject.route.clone(), subject.caller.clone(), subject.reason.clone())
        };
        rows.sort_by_cached_key(key);
        rows
    }

    fn json(&self) -> Value {
        let row = |(subject, seen): (&Subject, &Seen)| {
            json!({
                "caller": subject.caller,
                "route": subject.route,
                "reason": subject.reason,
                "count": seen.count,
                "first": seen.first,
                "last": seen.last,
            })
        };
        let token = |(name, last_used): (&String, &String)| json!({ "name": name, "last_used": last_used });
        json!({
            "would_deny": self.sorted().into_iter().map(row).collect::<Vec<_>>(),
            "static_tokens": self.static_tokens.iter().map(token).collect::<Vec<_>>(),
        })
    }

    fn print(&self) {
        self.print_rows();
        if !self.static_tokens.is_empty() {
            out(styled(BOLD, format!("\n{:<32} {}", "STATIC TOKEN", "LAST USED")));
        }
        for (name, last_used) in &self.static_tokens {
            out(format!("{:<32} {last_used}", shown(&format!("{}/{name}", IssuerName::STATIC))));
        }
    }

    fn print_rows(&self) {
        if self.rows.is_empty() {
            return out(format_args!("{} no request has passed that its route would refuse", styled(GOOD, "✓")));
        }
        let total: u64 = self.rows.values().map(|seen| seen.count).sum();
        let [requests, callers] =
            [("request", total), ("caller", self.callers.len() as u64)].map(|(noun, count)| counted(noun, count));
        out(format_args!("{} {requests} of {callers} would be refused\n", styled(WARN, "!")));
        let heading =
            format!("{:<32} {:<24} {:<20} {:>9}  {:<24} {}", "CALLER", "ROUTE", "REASON", "COUNT", "FIRST", "LAST");
        if !print_unless_closed(styled(BOLD, heading)) {
            return;
        }
        for (Subject { caller, route, reason }, Seen { count, first, last }) in self.sorted() {
            let [caller, route] = [caller, route].map(|text| shown(text));
            if !print_unless_closed(format!("{caller:<32} {route:<24} {reason:<20} {count:>9}  {first:<24} {last}")) {
                return;
            }
        }
    }
}

/// Whether the request was made with a static token.
fn is_static(line: &Value) -> bool {
    line["oauth.issuer"] == IssuerName::STATIC && line["oauth.verified"] != false
}

fn counted(noun: &str, count: u64) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// The client or subject of a verified token, as in `access.clients`; of other requests, the network of the address.
fn caller(line: &Value) -> String {
    let text = |name: &str| line[name].as_str().filter(|text| !text.is_empty());
    let is_verified = line["oauth.verified"] != false;
    let name = text("oauth.client_id").or_else(|| text("oauth.subject")).filter(|_| is_verified);
    match (text("oauth.issuer"), name) {
        (Some(IssuerName::OWN), Some(name)) => name.to_owned(),
        (Some(issuer), Some(name)) => format!("{issuer}/{name}"),
        (_, _) => {
            let address = text("client.address").unwrap_or_default();
            let network = address.parse::<IpAddr>().map(counted_network);
            network.map_or_else(|_| address.to_owned(), |network| network.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(time: &str, members: &Value) -> MatchedLine {
        let mut value = json!({
            "time": time, "http.route": "r", "gateway.would_deny": "no_token", "client.address": "10.0.0.1",
        });
        value.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        MatchedLine { text: Vec::new(), value }
    }

    #[test]
    fn requests_are_counted_by_caller_route_and_reason() {
        let mut report = Report::default();
        let client = json!({"oauth.issuer": "self", "oauth.client_id": "app", "gateway.would_deny": "missing_scope"});
        let claimed = json!({"oauth.issuer": "corp", "oauth.client_id": "app", "oauth.verified": false});
        for (time, members) in [("3", json!({})), ("1", client.clone()), ("2", client), ("4", claimed)] {
            report.add(&line(time, &members));
        }
        let rows: Vec<_> = report
            .sorted()
            .into_iter()
            .map(|(subject, seen)| (&*subject.caller, &*subject.reason, seen.count, &*seen.first, &*seen.last))
            .collect();
        assert_eq!(rows, [("10.0.0.1", "no_token", 2, "3", "4"), ("app", "missing_scope", 2, "1", "2")]);
    }

    #[test]
    fn the_last_use_of_a_static_token_is_kept() {
        let mut report = Report::default();
        let used = json!({"oauth.issuer": "static", "oauth.client_id": "job", "gateway.would_deny": null});
        for time in ["2", "3", "1"] {
            let mut line = line(time, &used);
            line.value.as_object_mut().unwrap().retain(|_, value| !value.is_null());
            report.add(&line);
        }
        assert_eq!(report.json()["static_tokens"], json!([{"name": "job", "last_used": "3"}]));
        assert!(report.rows.is_empty());
    }

    #[test]
    fn callers_beyond_the_bound_are_counted_together() {
        let mut report = Report::default();
        for number in 0..MAX_CALLERS + 5 {
            let client = json!({"oauth.issuer": "self", "oauth.client_id": format!("app-{number}")});
            report.add(&line("1", &client));
        }
        assert_eq!(report.rows.len(), MAX_CALLERS + 1);
        let total: u64 = report.rows.values().map(|seen| seen.count).sum();
        assert_eq!(total, MAX_CALLERS as u64 + 5, "none is lost");
        assert_eq!(report.sorted()[0].0.caller, OTHERS);
    }
}
