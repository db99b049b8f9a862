//! A past decision for people and for programs: each check with its source, the recorded decision and the walk's.

use serde_json::{Value, json};

use super::json::observation;
use super::past::{CheckSource, MarkedCheck, PastExplanation};
use super::recorded::{Comparison, decision_of};
use super::text::{observed, step_name};
use crate::audit::line::shown;
use crate::audit::reason::Reason;
use crate::cli::terminal::{BAD, BOLD, DIM, GOOD, WARN, out, styled};

/// Reasons why the same request may be decided otherwise under the same configuration.
const CAUSES: &str = "the host, query, header fields and scheme of the request, the key sets, revocations, the time, or \
                      files and variables that the configuration names";

pub(super) fn print(explained: &PastExplanation) {
    let PastExplanation { decision, host, checks, walk, comparison, .. } = explained;
    let unknown = "(not recorded)";
    let method = decision.method.as_deref().unwrap_or("(no method)");
    let path = decision.path.as_deref().unwrap_or(unknown);
    let from = decision.from.map_or_else(|| unknown.to_owned(), |from| from.to_string());
    let request = format!("{method} {host}{path}");
    out(format_args!("{} from {from}", styled(BOLD, shown(&request))));
    let made = format!("decided at {} by the configuration {}", decision.time, decision.revision);
    out(styled(DIM, shown(&made)));
    let mut room = None;
    for MarkedCheck { source, observation } in checks {
        if room.replace(observation.room) != Some(observation.room) {
            out(format_args!("\n{}", styled(BOLD, step_name(observation.room))));
        }
        out(format_args!("{:SOURCES$}{}", source.name(), observed(observation)));
    }
    let mut recorded = [Some(decision.decision.as_str()), decision.reason.as_deref()]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(" ");
    if let Some(status) = decision.status {
        recorded += &format!(", answered {status}");
    }
    let values = [("found", &decision.found), ("wanted", &decision.wanted)];
    for (name, value) in values.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
        recorded += &format!(", {name} {value}");
    }
    let style = if decision.is_refused() { BAD } else { GOOD };
    out(format_args!("\n{:SOURCES$}{}", CheckSource::Recorded.name(), styled(style, shown(&recorded))));
    if let Some(walk) = walk {
        let (decision, reason) = decision_of(walk);
        let reason = reason.map_or(String::new(), |reason| format!(" {}", reason.as_str()));
        out(format_args!("{:SOURCES$}{decision}{reason}", CheckSource::Walked.name()));
    }
    match comparison {
        Comparison::Same => out(styled(GOOD, "the walk gives the recorded decision")),
        Comparison::Differs => {
            out(format_args!("{}: different may be {CAUSES}", styled(WARN, "the walk differs from the record")));
        }
        Comparison::NotComparable(why) => {
            out(format_args!("{}: {}", styled(WARN, "the record cannot be compared with a walk"), shown(why)));
        }
    }
}

/// The width of the source of a check.
const SOURCES: usize = 10;

impl CheckSource {
    fn name(self) -> &'static str {
        match self {
            Self::Walked => "walked",
            Self::Recorded => "recorded",
        }
    }
}

pub(super) fn print_json(explained: &PastExplanation) {
    out(printed(explained));
}

fn printed(explained: &PastExplanation) -> Value {
    let PastExplanation { id, decision, host, remarks, checks, walk, comparison } = explained;
    let way = checks.iter().map(|MarkedCheck { source, observation: seen }| {
        let mut check = observation(seen);
        check["source"] = json!(source.name());
        check
    });
    let walked = walk.as_ref().map(|walk| {
        let (decision, reason) = decision_of(walk);
        json!({ "decision": decision, "reason": reason.map(Reason::as_str), "route": walk.rule })
    });
    let (name, why) = match comparison {
        Comparison::Same => ("same", None),
        Comparison::Differs => ("differs", Some(CAUSES)),
        Comparison::NotComparable(why) => ("not_comparable", Some(why.as_str())),
    };
    json!({
        "request": {
            "id": id, "time": decision.time, "method": decision.method, "host": host, "path": decision.path,
            "from": decision.from.map(|from| from.to_string()),
        },
        "config": decision.revision,
        "remarks": remarks,
        "checks": way.collect::<Vec<_>>(),
        "recorded": {
            "decision": decision.decision, "reason": decision.reason, "found": decision.found,
            "wanted": decision.wanted, "status": decision.status, "route": decision.route,
        },
        "walked": walked,
        "comparison": name,
        "why": why,
    })
}
