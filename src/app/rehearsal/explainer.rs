//! The decisions of a rehearsal, for tests that compare them with those of a running gateway.

use std::net::IpAddr;
use std::path::Path;

use super::Rehearsal;
use super::kept_facts::KeptFacts;
use super::requests::RequestText;
use super::walk::WalkEnd;
use crate::config;
use crate::config::interpolate::Surroundings;

/// Explains requests under one configuration, with the keys that are on this machine.
pub struct Explainer(Rehearsal);

impl std::fmt::Debug for Explainer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Explainer(..)")
    }
}

/// A request of HTTP/1.1 in clear text.
#[derive(Clone, Debug)]
pub struct ExplainedRequest {
    pub method: String,
    pub target: String,
    pub host: String,
    pub from: IpAddr,
    pub fields: Vec<(String, String)>,
}

/// The decision about a request, and its result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExplainedDecision {
    /// `None` if the service answers, or an endpoint of the gateway by the body.
    pub status: Option<u16>,
    /// Of a refusal.
    pub reason: Option<String>,
    /// The route or endpoint.
    pub rule: Option<String>,
    /// The request line and the fields that the service gets.
    pub request_line: Option<String>,
    pub fields: Vec<(String, String)>,
}

impl Explainer {
    /// `None` if the configuration has a fault.
    pub fn new(path: &Path) -> Option<Self> {
        let config = config::load(path, &Surroundings::process()).ok()?;
        // Only the keys are read: there is no token yet.
        Rehearsal::with(&config, &KeptFacts::for_token(&config, "")).ok().map(Self)
    }

    /// The decision that `portcullis explain` shows.
    pub fn explain(&self, request: &ExplainedRequest) -> ExplainedDecision {
        let ExplainedRequest { method, target, host, from, fields } = request;
        let text = RequestText { method, target, host, from: *from, is_https: false, fields };
        let walk = match self.0.read(&text) {
            Ok(request) => self.0.walk(request),
            Err(fault) => self.0.malformed(fault),
        };
        let decision = ExplainedDecision { rule: walk.rule, ..ExplainedDecision::default() };
        match walk.end {
            WalkEnd::Forwarded(forwarded) => {
                let head = forwarded.head;
                ExplainedDecision { request_line: Some(head.request_line), fields: head.fields, ..decision }
            }
            WalkEnd::Endpoint => decision,
            WalkEnd::Answered(answer) => ExplainedDecision { status: Some(answer.status), ..decision },
            WalkEnd::Refused { reason, answer, .. } => {
                ExplainedDecision { status: Some(answer.status), reason: Some(reason.as_str().to_owned()), ..decision }
            }
        }
    }
}
