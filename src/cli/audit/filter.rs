//! The filters of `tail` and `query`.

use std::time::Duration;

use clap::{Args, ValueEnum};
use jiff::{SignedDuration, Timestamp};
use memchr::memmem;
use serde_json::Value;

use crate::audit::aggregate::AGGREGATE_EVENTS;
use crate::audit::reason::Reason;
use crate::audit::record::Event;
use crate::clock::UnixTime;
use crate::config::suggest::suggestion;
use crate::oauth::caller::IssuerName;

#[derive(Clone, Debug, Default, Args)]
pub(super) struct Filter {
    /// Show only lines about this client: `ID`, or `ISSUER/ID`
    #[arg(long, value_name = "CLIENT")]
    pub(super) client: Option<String>,
    /// Show only lines of this route
    #[arg(long, value_name = "NAME")]
    pub(super) route: Option<String>,
    /// Show only lines with this reason, such as missing_scope
    #[arg(long, value_name = "REASON", value_parser = known_reason)]
    reason: Option<String>,
    /// Show only events of this name, such as start, revocation or missing
    #[arg(long, value_name = "NAME", value_parser = known_event)]
    event: Option<String>,
    /// Show only lines with this decision
    #[arg(long, value_enum)]
    decision: Option<DecisionName>,
    /// Show only lines from this time on: RFC 3339, or a time before now, such as 15m, 2h or 7d
    #[arg(long, value_name = "TIME", value_parser = Moment::parse)]
    since: Option<Moment>,
    /// Show only lines up to this time, in the same form
    #[arg(long, value_name = "TIME", value_parser = Moment::parse)]
    until: Option<Moment>,
    /// Show only requests whose path begins with this
    #[arg(long, value_name = "PREFIX")]
    path: Option<String>,
    /// Show only the lines of this request: the X-Request-Id of its answer
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// Only requests that a route in report mode would have refused, and those with a static token
    #[arg(skip)]
    is_report: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DecisionName {
    Allow,
    #[value(name = "would_deny")]
    WouldDeny,
    Deny,
    Issue,
    Error,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    At(Timestamp),
    Ago(Duration),
}

/// The member of a line that has the refusal which a route has only reported.
pub(super) const WOULD_DENY: &str = "gateway.would_deny";
/// The member of a line about a static token.
const STATIC_ISSUER: &str = "\"oauth.issuer\":\"static\"";

impl Moment {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if let Ok(time) = text.parse() {
            return Ok(Self::At(time));
        }
        let seconds = match text.as_bytes().last() {
            Some(b's') => 1,
            Some(b'm') => 60,
            Some(b'h') => 3600,
            Some(b'd') => 86_400,
            _ => 0,
        };
        let number = text.get(..text.len().saturating_sub(1)).and_then(|digits| digits.parse::<u64>().ok());
        let ago = number.filter(|_| seconds > 0).and_then(|number| number.checked_mul(seconds));
        ago.map(|ago| Self::Ago(Duration::from_secs(ago)))
            .ok_or_else(|| "write 2026-01-31T12:00:00Z, or 15m".to_owned())
    }

    fn time(self, now: UnixTime) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Ago(ago) => {
                let now = Timestamp::from_second(i64::try_from(now.seconds()).unwrap_or(i64::MAX));
                let ago = SignedDuration::try_from(ago).unwrap_or(SignedDuration::MAX);
                now.unwrap_or(Timestamp::MAX).checked_sub(ago).unwrap_or(Timestamp::MIN)
            }
        }
    }
}

fn known_reason(name: &str) -> Result<String, String> {
    known("reason", name, &Reason::ALL.iter().map(|reason| reason.as_str()).collect::<Vec<_>>())
}

fn known_event(name: &str) -> Result<String, String> {
    known("event", name, &[&Event::NAMES[..], &AGGREGATE_EVENTS].concat())
}

fn known(kind: &str, name: &str, names: &[&str]) -> Result<String, String> {
    if names.contains(&name) { Ok(name.to_owned()) } else { Err(format!("unknown {kind}{}", suggestion(name, names))) }
}

impl Filter {
    /// The requests that a route in report mode would have refused, and those with a static token.
    pub(super) fn of_report(route: Option<String>, since: Option<Moment>) -> Self {
        Self { route, since, is_report: true, ..Self::default() }
    }

    /// The lines of one request.
    pub(super) fn of_request(request_id: &str) -> Self {
        Self { request_id: Some(request_id.to_owned()), ..Self::default() }
    }

    /// The same filter with relative times resolved.
    pub(super) fn at(&self, now: UnixTime) -> Self {
        let resolve = |moment: Option<Moment>| moment.map(|moment| Moment::At(moment.time(now)));
        Self { since: resolve(self.since), until: resolve(self.until), ..self.clone() }
    }

    /// The filter by client, without the rest.
    pub(super) fn only_client(&self) -> Self {
        Self { client: self.client.clone(), ..Self::default() }
    }

    /// The filter by route, without the rest.
    pub(super) fn only_route(&self) -> Self {
        Self { route: self.route.clone(), ..Self::default() }
    }

    /// The parsed line, if it matches.
    pub(super) fn read(&self, line: &[u8]) -> Option<Value> {
        // Searching for a word costs much less than parsing JSON.
        let client = self.client.as_deref().map(|client| client.rsplit('/').next().unwrap_or(client));
        let words =
            [client, self.route.as_deref(), self.reason.as_deref(), self.event.as_deref(), self.request_id.as_deref()];
        let is_in = |word: &str| memmem::find(line, word.as_bytes()).is_some();
        if self.is_report && !is_in(WOULD_DENY) && !is_in(STATIC_ISSUER) {
            return None;
        }
        let is_plain = |word: &&str| word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if words.into_iter().flatten().filter(is_plain).any(|word| memmem::find(line, word.as_bytes()).is_none()) {
            return None;
        }
        serde_json::from_slice(line).ok().filter(|line| self.matches(line))
    }

    fn matches(&self, line: &Value) -> bool {
        let is = |name: &str, wanted: &Option<String>| wanted.as_ref().is_none_or(|wanted| line[name] == **wanted);
        let is_aggregate = line["gateway.event"] == "refusals_folded";
        let reason = |reason: &String| {
            line["gateway.reason"] == **reason || line.get(format!("gateway.folded.reason.{reason}")).is_some()
        };
        let is_decision = |name: &str| {
            line["gateway.decision"] == name || line.get(format!("gateway.folded.decision.{name}")).is_some()
        };
        let decision = |wanted: DecisionName| match wanted {
            DecisionName::Allow => is_decision("allow"),
            // Also a request that has failed afterwards.
            DecisionName::WouldDeny => line.get(WOULD_DENY).is_some(),
            DecisionName::Deny => is_decision("deny") || is_aggregate,
            DecisionName::Issue => is_decision("issue"),
            DecisionName::Error => is_decision("error"),
        };
        let client = |wanted: &String| {
            let id = &line["oauth.client_id"];
            let both =
                wanted.split_once('/').is_some_and(|(issuer, rest)| line["oauth.issuer"] == issuer && id == rest);
            id == wanted || both
        };
        let begins = |prefix: &String| line["url.path"].as_str().is_some_and(|path| path.starts_with(prefix));
        is("http.route", &self.route)
            && is("gateway.request_id", &self.request_id)
            && is("gateway.event", &self.event)
            && self.reason.as_ref().is_none_or(reason)
            && self.decision.is_none_or(decision)
            && self.client.as_ref().is_none_or(client)
            && self.path.as_ref().is_none_or(begins)
            && (!self.is_report || line.get(WOULD_DENY).is_some() || line["oauth.issuer"] == IssuerName::STATIC)
            && self.is_in_time(line)
    }

    fn is_in_time(&self, line: &Value) -> bool {
        if self.since.is_none() && self.until.is_none() {
            return true;
        }
        let Some(time) = line["time"].as_str().and_then(|time| time.parse::<Timestamp>().ok()) else { return false };
        let at = |moment: Moment| moment.time(UnixTime::from_seconds(0));
        self.since.is_none_or(|since| time >= at(since)) && self.until.is_none_or(|until| time <= at(until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_times_or_so_long_ago() {
        let now = UnixTime::from_seconds(1_800_000_000);
        assert_eq!(Moment::parse("15m").unwrap().time(now).as_second(), 1_799_999_100);
        assert_eq!(Moment::parse("7d").unwrap().time(now).as_second(), 1_800_000_000 - 7 * 86_400);
        assert_eq!(Moment::parse("2026-01-31T12:00:00Z").unwrap().time(now).as_second(), 1_769_860_800);
        for wrong in ["", "m", "15", "15x", "-1h", "yesterday", "99999999999999999999d"] {
            assert!(Moment::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_part_must_fit() {
        let line = br#"{"seq":7,"time":"2026-11-22T09:00:00.000Z","gateway.decision":"deny","gateway.reason":"missing_scope","gateway.request_id":"r1","url.path":"/data/x","http.route":"a \"b\"","oauth.issuer":"corp","oauth.client_id":"app"}"#;
        let text = |text: &str| Some(text.to_owned());
        let fits = |filter: Filter| filter.read(line).is_some();
        assert!(fits(Filter::default()));
        assert!(fits(Filter { client: text("app"), reason: text("missing_scope"), ..Filter::default() }));
        assert!(fits(Filter { client: text("corp/app"), route: text("a \"b\""), ..Filter::default() }));
        assert!(fits(Filter { path: text("/data"), decision: Some(DecisionName::Deny), ..Filter::default() }));
        assert!(fits(Filter { since: Moment::parse("2026-11-22T09:00:00Z").ok(), ..Filter::default() }));
        for other in [
            Filter { client: text("self/app"), ..Filter::default() },
            Filter { client: text("ap"), ..Filter::default() },
            Filter { path: text("/x"), ..Filter::default() },
            Filter { request_id: text("r2"), ..Filter::default() },
            Filter { decision: Some(DecisionName::Allow), ..Filter::default() },
            Filter { until: Moment::parse("2026-11-22T08:59:59Z").ok(), ..Filter::default() },
        ] {
            assert!(!fits(other));
        }
    }
}
