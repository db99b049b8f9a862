//! Access rules, and the check of a caller against them.
//!
//! Pure: takes a rule and an address, or a rule and a caller whose token was verified. Gives the first reason to
//! refuse, if there is one.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::HashSet;
use serde_json::Value;

use crate::network::Networks;
use crate::oauth::caller::IssuerName;
use crate::oauth::discrepancy::{Discrepancy, value_text};
use crate::oauth::scope::ScopeSet;
use crate::oauth::segment_pattern::SegmentPattern;
use crate::trust::scope_claim::claim_at;
use crate::trust::verify::{AllowedAudiences, AllowedIssuers, Expectations, Verified};

#[derive(Debug)]
pub(crate) enum Access {
    /// Always written out in the configuration.
    Public,
    /// Routes with equal rules share them.
    Protected(Arc<AccessRule>),
}

/// The addresses from which a route may be used, with or without a token.
#[derive(Debug, Default)]
pub(crate) struct AddressRule {
    /// `None`: from anywhere.
    pub(crate) allow: Option<Networks>,
    pub(crate) deny: Option<Networks>,
}

/// All parts must hold. An empty part demands nothing.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct AccessRule {
    /// `None`: every issuer that is configured.
    pub(crate) issuers: Option<Vec<IssuerName>>,
    /// `None`: the issuer's own.
    pub(crate) audiences: Option<Vec<String>>,
    pub(crate) all_of: ScopeSet,
    pub(crate) any_of: ScopeSet,
    pub(crate) claims: Vec<ClaimRule>,
    /// (issuer, client id); `None`: any.
    pub(crate) clients: Option<HashSet<(IssuerName, String)>>,
}

/// The claim at `path` has one of `values`, or is an array with an element that has.
#[derive(Debug, PartialEq)]
pub(crate) struct ClaimRule {
    pub(crate) path: String,
    pub(crate) values: Vec<WantedValue>,
}

/// What a value must be.
#[derive(Debug, PartialEq)]
pub(crate) enum WantedValue {
    Equal(Value),
    /// Text that fits.
    Glob(SegmentPattern),
}

/// Why a caller with a valid token is refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Forbidden {
    /// The scopes that would have been needed.
    MissingScope {
        all_of: ScopeSet,
        any_of: ScopeSet,
        /// Those of the token.
        held: ScopeSet,
    },
    ClaimMismatch(Box<Discrepancy>),
    ClientNotAllowed,
    AddressNotAllowed,
}

impl AddressRule {
    /// A denied address is not allowed. An uncertain address (`None`) passes no list.
    pub(crate) fn check(&self, from: Option<IpAddr>) -> Result<(), Forbidden> {
        let (allow, deny) = (self.allow.as_ref(), self.deny.as_ref());
        let passes = |address| {
            allow.is_none_or(|allow| allow.contains(address)) && !deny.is_some_and(|deny| deny.contains(address))
        };
        let may = (allow.is_none() && deny.is_none()) || from.is_some_and(passes);
        if may { Ok(()) } else { Err(Forbidden::AddressNotAllowed) }
    }
}

impl AccessRule {
    pub(crate) fn expectations(&self) -> Expectations<'_> {
        Expectations {
            issuers: self.issuers.as_deref().map_or(AllowedIssuers::All, AllowedIssuers::Only),
            audiences: self.audiences.as_deref().map_or(AllowedAudiences::OfIssuer, AllowedAudiences::Only),
        }
    }

    pub(crate) fn check(&self, verified: &Verified) -> Result<(), Forbidden> {
        self.check_client(verified)?;
        if let Some(broken) = self.claims.iter().find(|rule| !rule.holds(verified)) {
            return Err(Forbidden::ClaimMismatch(Box::new(broken.discrepancy(verified))));
        }
        self.check_scope(&verified.caller.scope)
    }

    fn check_client(&self, verified: &Verified) -> Result<(), Forbidden> {
        let Some(allowed) = &self.clients else {
            return Ok(());
        };
        let caller = &verified.caller;
        let is_named = |client: &str| allowed.iter().any(|(issuer, id)| *issuer == caller.issuer && id == client);
        match &caller.client {
            Some(client) if is_named(client.as_str()) => Ok(()),
            Some(_) | None => Err(Forbidden::ClientNotAllowed),
        }
    }

    fn check_scope(&self, held: &ScopeSet) -> Result<(), Forbidden> {
        let all = held.contains_all(&self.all_of);
        let any = self.any_of.is_empty() || held.contains_any(&self.any_of);
        if all && any {
            return Ok(());
        }
        let missing = self.all_of.without(held);
        Err(Forbidden::MissingScope {
            all_of: missing,
            any_of: if any { ScopeSet::default() } else { self.any_of.clone() },
            held: held.clone(),
        })
    }
}

impl ClaimRule {
    pub(crate) fn holds(&self, verified: &Verified) -> bool {
        match claim_at(&verified.claims.all, &self.path) {
            Some(Value::Array(list)) => list.iter().any(|value| self.accepts(value)),
            Some(value) => self.accepts(value),
            None => false,
        }
    }

    fn accepts(&self, value: &Value) -> bool {
        self.values.iter().any(|wanted| wanted.accepts(value))
    }

    fn discrepancy(&self, verified: &Verified) -> Discrepancy {
        let found = match claim_at(&verified.claims.all, &self.path) {
            Some(value) => format!("{}={}", self.path, value_text(value)),
            None => format!("no {}", self.path),
        };
        let wanted: Vec<String> = self.values.iter().map(WantedValue::to_string).collect();
        Discrepancy::new(found, format!("{}={}", self.path, wanted.join("|")))
    }
}

impl WantedValue {
    fn accepts(&self, value: &Value) -> bool {
        match self {
            Self::Equal(wanted) => wanted == value,
            Self::Glob(pattern) => value.as_str().is_some_and(|text| pattern.matches(text)),
        }
    }

    /// True if this accepts every value that the other accepts.
    pub(super) fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Glob(pattern), Self::Glob(other)) => pattern.covers(other),
            (Self::Equal(_), Self::Glob(_)) => false,
            (_, Self::Equal(value)) => self.accepts(value),
        }
    }
}

/// As in the configuration: text without quotation marks.
impl fmt::Display for WantedValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Equal(value) => f.write_str(&value_text(value)),
            Self::Glob(pattern) => pattern.fmt(f),
        }
    }
}

impl Forbidden {
    /// `None` where the record names the caller and its address anyway.
    pub(crate) fn discrepancy(&self) -> Option<Discrepancy> {
        match self {
            Self::MissingScope { all_of, any_of, held } => {
                let found = if held.is_empty() { "no scope".to_owned() } else { held.to_string() };
                Some(Discrepancy::new(found, wanted_scopes(all_of, any_of)))
            }
            Self::ClaimMismatch(discrepancy) => Some((**discrepancy).clone()),
            Self::ClientNotAllowed | Self::AddressNotAllowed => None,
        }
    }
}

fn wanted_scopes(all_of: &ScopeSet, any_of: &ScopeSet) -> String {
    match (all_of.is_empty(), any_of.is_empty()) {
        (false, true) => all_of.to_string(),
        (true, _) => format!("one of {any_of}"),
        (false, false) => format!("{all_of}, and one of {any_of}"),
    }
}

/// The scopes that a token lacks, for the refused caller.
pub(crate) fn missing_scope(all_of: &ScopeSet, any_of: &ScopeSet) -> String {
    match (all_of.is_empty(), any_of.is_empty()) {
        (false, true) => format!("the token lacks the scope {all_of}"),
        (true, _) => format!("the token lacks one of the scopes {any_of}"),
        (false, false) => format!("the token lacks the scope {all_of}, and one of {any_of}"),
    }
}
