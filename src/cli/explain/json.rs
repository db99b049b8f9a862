//! The explanation for programs.

use serde_json::{Map, Value, json};

use super::Explanation;
use super::text::step_name;
use crate::app::rehearsal::walk::{ForwardedRequest, GivenAnswer, Walk, WalkEnd};
use crate::cli::terminal::out;
use crate::oauth::observer::{Observation, Outcome};

pub(super) fn print(explained: &Explanation) {
    out(printed(explained));
}

fn printed(explained: &Explanation) -> Value {
    let Explanation { method, url, from, caller, remarks, walk, credential } = explained;
    let mut printed = json!({
        "request": {
            "method": method, "scheme": url.scheme(), "host": url.host, "target": url.target,
            "from": from.to_string(), "caller": caller,
        },
        "remarks": remarks,
    });
    add_walk(walk, &mut printed);
    if let Some(credential) = credential {
        printed["credential"] = credential.as_json();
    }
    printed
}

fn add_walk(walk: &Walk, printed: &mut Value) {
    printed["route"] = json!(walk.rule);
    if let Some(reason) = walk.would_deny {
        printed["would_deny"] = json!(reason.as_str());
    }
    printed["checks"] = walk.observations.iter().map(observation).collect();
    match &walk.end {
        WalkEnd::Forwarded(forwarded) => {
            printed["decision"] = json!("allowed");
            printed["upstream"] = upstream(forwarded);
        }
        WalkEnd::Endpoint => printed["decision"] = json!("allowed"),
        WalkEnd::Answered(answer) => {
            printed["decision"] = json!("answered");
            printed["answer"] = answer_of(answer);
        }
        WalkEnd::Refused { reason, values, answer } => {
            printed["decision"] = json!("refused");
            printed["reason"] = json!(reason.as_str());
            if let Some(values) = values {
                printed["found"] = json!(values.found);
                printed["wanted"] = json!(values.wanted);
            }
            printed["answer"] = answer_of(answer);
        }
    }
}

pub(super) fn observation(Observation { room, subject, outcome, values }: &Observation) -> Value {
    let outcome = match outcome {
        Outcome::Passed => "passed",
        Outcome::Failed => "failed",
        Outcome::Noted => "noted",
        Outcome::NotChecked => "not_checked",
    };
    let mut printed =
        json!({ "step": step_name(*room), "subject": subject, "outcome": outcome, "found": values.found });
    if !values.wanted.is_empty() {
        printed["wanted"] = json!(values.wanted);
    }
    printed
}

fn upstream(forwarded: &ForwardedRequest) -> Value {
    let ForwardedRequest { upstream, split, servers, head, mirror, timeout_s } = forwarded;
    let mut printed = json!({
        "name": upstream, "servers": servers, "timeout_s": timeout_s,
        "request_line": head.request_line, "fields": fields(&head.fields),
    });
    if let Some(split) = split {
        printed["split"] = json!(split);
    }
    if let Some((upstream, percent)) = mirror {
        printed["mirror"] = json!({ "upstream": upstream, "percent": percent });
    }
    printed
}

fn answer_of(answer: &GivenAnswer) -> Value {
    json!({ "status": answer.status, "fields": fields(&answer.fields), "body": answer.body })
}

/// A list of values for each name.
fn fields(fields: &[(String, String)]) -> Value {
    let mut named: Map<String, Value> = Map::new();
    for (name, value) in fields {
        let values = named.entry(name.clone()).or_insert_with(|| json!([]));
        values.as_array_mut().into_iter().for_each(|values| values.push(json!(value)));
    }
    Value::Object(named)
}
