//! The decision that a line of the audit log records, and how it compares with a walk.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use crate::app::rehearsal::Rehearsal;
use crate::app::rehearsal::callers::NoCaller;
use crate::app::rehearsal::walk::{Walk, WalkEnd};
use crate::audit::reason::Reason;
use crate::oauth::caller::IssuerName;
use crate::oauth::discrepancy::Discrepancy;
use crate::oauth::observer::{Observation, Outcome, Room};

/// A request and its decision, as a line of the audit log has them.
#[derive(Debug, Default)]
pub(super) struct RecordedDecision {
    pub(super) time: String,
    pub(super) revision: String,
    pub(super) decision: String,
    pub(super) reason: Option<String>,
    pub(super) found: Option<String>,
    pub(super) wanted: Option<String>,
    pub(super) status: Option<u64>,
    pub(super) route: Option<String>,
    pub(super) method: Option<String>,
    pub(super) host: Option<String>,
    pub(super) path: Option<String>,
    pub(super) from: Option<IpAddr>,
    pub(super) caller: RecordedCaller,
    /// The names and values about the caller.
    caller_values: Vec<(&'static str, String)>,
}

/// The caller of the line.
#[derive(Debug, Default)]
pub(super) enum RecordedCaller {
    #[default]
    None,
    /// A refused token only claims it.
    Claimed,
    Own {
        client: String,
        scopes: String,
    },
    Static(String),
    External {
        issuer: String,
        client: Option<String>,
        subject: Option<String>,
        scopes: String,
    },
}

/// The recorded decision beside that of the walk.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Same,
    Differs,
    /// The decision depends on inputs that are not recorded.
    NotComparable(String),
}

impl RecordedDecision {
    pub(super) fn of(line: &Value) -> Self {
        let text = |name: &str| line[name].as_str().map(str::to_owned);
        let values = [
            ("issuer", "oauth.issuer"),
            ("client", "oauth.client_id"),
            ("subject", "oauth.subject"),
            ("scopes", "oauth.scope"),
            ("token id", "oauth.jti"),
            ("key id", "oauth.kid"),
        ];
        Self {
            time: text("time").unwrap_or_default(),
            revision: text("gateway.config").unwrap_or_default(),
            decision: text("gateway.decision").unwrap_or_default(),
            reason: text("gateway.reason"),
            found: text("gateway.found"),
            wanted: text("gateway.wanted"),
            status: line["http.response.status_code"].as_u64(),
            route: text("http.route"),
            method: text("http.request.method"),
            host: text("server.address"),
            path: text("url.path"),
            from: text("client.address").and_then(|address| address.parse().ok()),
            caller: RecordedCaller::of(line),
            caller_values: values.into_iter().filter_map(|(name, key)| Some((name, text(key)?))).collect(),
        }
    }

    pub(super) fn is_refused(&self) -> bool {
        !matches!(self.decision.as_str(), "allow" | "would_deny" | "issue")
    }

    fn has_reason(&self, reasons: &[Reason]) -> bool {
        reasons.iter().any(|reason| self.reason.as_deref() == Some(reason.as_str()))
    }

    /// The checks whose results are known from the line alone.
    pub(super) fn checks(&self, walk: Option<&Walk>) -> Vec<Observation> {
        let mut checks = Vec::new();
        let outcome = match self.caller {
            RecordedCaller::Claimed => Outcome::NotChecked,
            _ => Outcome::Noted,
        };
        for (name, value) in &self.caller_values {
            checks.push(Observation::new(Room::Authenticate, *name, outcome, Discrepancy::new(value.clone(), "")));
        }
        if walk.is_none()
            && let Some(route) = &self.route
        {
            checks.push(Observation::noted(Room::Route, "route", route.clone()));
        }
        let Some(reason) = self.reason.clone().filter(|_| !self.has_reason(&WALKED) || walk.is_none()) else {
            return checks;
        };
        let room = match self.reason() {
            Some(Reason::RateLimited | Reason::TooManyFailures) => Room::Limits,
            Some(Reason::ClaimMismatch | Reason::MissingScope | Reason::ClientNotAllowed) => Room::Authorize,
            Some(Reason::NoRoute | Reason::MethodNotAllowed) => Room::Route,
            Some(Reason::AddressNotAllowed) => Room::Address,
            Some(Reason::BadRequest) => Room::Canonicalise,
            Some(reason) if OF_TOKENS.contains(&reason) => Room::Authenticate,
            _ => return checks,
        };
        let found = self.found.clone().unwrap_or_default();
        let values = Discrepancy::new(found, self.wanted.clone().unwrap_or_default());
        checks.push(Observation::new(room, reason, Outcome::Failed, values));
        checks
    }

    fn reason(&self) -> Option<Reason> {
        Reason::ALL.iter().copied().find(|reason| self.reason.as_deref() == Some(reason.as_str()))
    }
}

impl RecordedCaller {
    fn of(line: &Value) -> Self {
        let text = |name: &str| line[name].as_str().map(str::to_owned);
        let (client, subject) = (text("oauth.client_id"), text("oauth.subject"));
        if line["oauth.verified"] == false {
            return Self::Claimed;
        }
        let scopes = text("oauth.scope").unwrap_or_default();
        match (text("oauth.issuer"), client, subject) {
            (None, None, _) => Self::None,
            (Some(issuer), Some(client), _) if issuer == IssuerName::OWN => Self::Own { client, scopes },
            (Some(issuer), Some(name), _) | (Some(issuer), None, Some(name)) if issuer == IssuerName::STATIC => {
                Self::Static(name)
            }
            (Some(issuer), client, subject) => Self::External { issuer, client, subject, scopes },
            (None, Some(_), _) => Self::Claimed,
        }
    }

    /// Whether the configuration says which claims its tokens have.
    pub(super) fn has_known_claims(&self) -> bool {
        match self {
            Self::Own { .. } | Self::Static(_) => true,
            Self::None | Self::Claimed | Self::External { .. } => false,
        }
    }

    /// The field with credentials of this caller, made for the walk.
    pub(super) fn credentials(&self, rehearsal: &Rehearsal) -> Result<Option<(String, String)>, NoCaller> {
        let token = match self {
            Self::None | Self::Claimed => return Ok(None),
            Self::Static(name) => {
                let (name, value) = rehearsal.static_token(name)?;
                return Ok(Some((name.to_string(), value)));
            }
            Self::Own { client, scopes } => {
                rehearsal.token_of_client(client, Some(scopes.as_str()).filter(|scopes| !scopes.is_empty()))?
            }
            Self::External { issuer, client, subject, scopes } => {
                let mut claims = Map::new();
                claims.extend(client.iter().map(|client| ("client_id".to_owned(), json!(client))));
                claims.extend(subject.iter().map(|subject| ("sub".to_owned(), json!(subject))));
                rehearsal.token_with_scopes(issuer, claims, scopes)?
            }
        };
        Ok(Some(rehearsal.field_of(&token)))
    }
}

/// The decision and the reason of a walk.
pub(super) fn decision_of(walk: &Walk) -> (&'static str, Option<Reason>) {
    match (&walk.end, walk.would_deny) {
        (WalkEnd::Refused { reason, .. }, _) => ("deny", Some(*reason)),
        (_, Some(reason)) => ("would_deny", Some(reason)),
        (WalkEnd::Forwarded(_) | WalkEnd::Answered(_) | WalkEnd::Endpoint, None) => ("allow", None),
    }
}

pub(super) fn compare(recorded: &RecordedDecision, walk: Option<&Walk>) -> Comparison {
    let Some(walk) = walk else { return Comparison::NotComparable("nothing could be walked".to_owned()) };
    let (decision, reason) = decision_of(walk);
    let failed = walk.observations.iter().rev().find(|observation| observation.outcome == Outcome::Failed);
    // The token of the walk has no claims but those that the line has.
    let lacks_inputs = failed.is_some_and(|failed| {
        let is_of_claims = is_of_claims(failed) && !recorded.caller.has_known_claims();
        let is_of_token = failed.room == Room::Authenticate && !matches!(recorded.caller, RecordedCaller::None);
        is_of_claims || is_of_token
    });
    let is_same_reason = recorded.reason.as_deref() == reason.map(Reason::as_str);
    if !lacks_inputs && is_same_reason && recorded.is_refused() == (decision == "deny") {
        return Comparison::Same;
    }
    // The walk has come as far as the recorded refusal.
    let ends_later = recorded.reason.is_some()
        && !recorded.has_reason(&WALKED)
        && (decision != "deny" || failed.is_some_and(|failed| failed.room >= Room::Limits));
    match (&recorded.reason, lacks_inputs || ends_later) {
        (Some(reason), true) => {
            Comparison::NotComparable(format!("{reason} depends on inputs that the line does not have"))
        }
        (None, true) => Comparison::NotComparable("the claims of the token are not recorded".to_owned()),
        (_, false) => Comparison::Differs,
    }
}

/// Whether it is a check of a claim rule.
pub(super) fn is_of_claims(observation: &Observation) -> bool {
    observation.room == Room::Authorize && observation.subject.starts_with("claim ")
}

/// The reasons whose inputs a line has.
const WALKED: [Reason; 6] = [
    Reason::NoToken,
    Reason::MissingScope,
    Reason::ClientNotAllowed,
    Reason::AddressNotAllowed,
    Reason::NoRoute,
    Reason::MethodNotAllowed,
];

/// Reasons of authentication.
const OF_TOKENS: [Reason; 26] = [
    Reason::NoToken,
    Reason::Malformed,
    Reason::TooManyScopes,
    Reason::UnknownIssuer,
    Reason::IssuerNotAllowed,
    Reason::TypeNotAllowed,
    Reason::AlgNotAllowed,
    Reason::UnknownKid,
    Reason::KeysUnavailable,
    Reason::BadSignature,
    Reason::IntrospectionUnavailable,
    Reason::StoreUnavailable,
    Reason::TokenInactive,
    Reason::Expired,
    Reason::NotYetValid,
    Reason::BadAudience,
    Reason::MissingClaim,
    Reason::Revoked,
    Reason::UnknownClient,
    Reason::StaticTokenEnded,
    Reason::UnknownStaticToken,
    Reason::NotProven,
    Reason::NotBound,
    Reason::InvalidProof,
    Reason::ProofReplayed,
    Reason::ProofNonce,
];
