//! The results of tests as JSON, for programs.

use serde_json::{Value, json};

use crate::app::config_tests::ConfigTestReport;
use crate::app::config_tests::outcome::{ActualDecision, TestedRequest};
use crate::config::config_test::ExpectedDecision;

pub(super) fn report(report: &ConfigTestReport<'_>, has_coverage: bool) -> Value {
    let is_ok = report.tests.iter().all(|outcome| outcome.failed().next().is_none());
    let tests = report.tests.iter().map(|outcome| {
        let requests = outcome.requests.iter().map(|tested| request(report.file, tested));
        json!({ "name": outcome.test.name, "requests": requests.collect::<Vec<_>>() })
    });
    let mut value = json!({ "ok": is_ok, "tests": tests.collect::<Vec<_>>() });
    if has_coverage {
        let coverage = &report.coverage;
        value["coverage"] = json!({
            "percent": coverage.percent(),
            "routes": coverage.routes,
            "never_allowed": coverage.never_allowed,
            "rules": coverage.rules,
            "never_refused": coverage.never_refused,
        });
    }
    value
}

fn request(file: &str, tested: &TestedRequest<'_>) -> Value {
    let TestedRequest { caller, request, actual } = tested;
    let expected = match &request.expected {
        ExpectedDecision::Allowed(None) => json!({ "decision": "allowed" }),
        ExpectedDecision::Allowed(Some(route)) => json!({ "decision": "allowed", "route": route }),
        ExpectedDecision::Refused(reason) => json!({ "decision": "refused", "reason": reason.as_str() }),
    };
    let mut decided = match actual {
        ActualDecision::Allowed { .. } => json!({ "decision": "allowed" }),
        ActualDecision::Answered { status, .. } => json!({ "decision": "answered", "status": status.as_u16() }),
        ActualDecision::Refused { reason, values, .. } => {
            let mut refused = json!({ "decision": "refused", "reason": reason.as_str() });
            if let Some(values) = values {
                refused["found"] = json!(values.found);
                refused["wanted"] = json!(values.wanted);
            }
            refused
        }
    };
    decided["route"] = json!(actual.route());
    json!({
        "file": file,
        "line": request.place.line,
        "column": request.place.column,
        "method": request.method.as_str(),
        "target": request.target,
        "as": caller.to_string(),
        "expected": expected,
        "actual": decided,
        "passed": tested.has_passed(),
    })
}
