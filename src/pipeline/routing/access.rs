//! Access rules, and the check of a caller against them.
//!
//! Pure: takes a rule and an address, or a rule and a caller whose token was verified. Gives the first reason to
//! refuse, if there is one.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::HashSet;

use crate::network::Networks;
use crate::oauth::bound::TokenBinding;
use crate::oauth::caller::{Caller, IssuerName};
use crate::oauth::discrepancy::{Discrepancy, one_of};
use crate::oauth::observer::{Observation, Observer, Outcome, Room};
use crate::oauth::scope::ScopeSet;
use crate::trust::claim_rule::ClaimRule;
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
    /// Checked with the proofs of a request.
    pub(crate) bound: TokenBinding,
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
    ClientNotAllowed(Box<Discrepancy>),
    AddressNotAllowed {
        /// `None`: uncertain.
        from: Option<IpAddr>,
        list: AddressList,
    },
}

/// The list that refuses an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AddressList {
    DeniedByRoute,
    AllowedByRoute,
    AllowedByClient,
}

impl AddressRule {
    /// The rule and this address, for an observer. `None`: the route is for any address.
    pub(crate) fn described(&self, from: Option<IpAddr>) -> Option<Discrepancy> {
        let lists = [("an address of allow_from", &self.allow), ("an address outside deny_from", &self.deny)];
        let lists = lists.into_iter().filter_map(|(text, list)| Some(format!("{text}={}", list.as_ref()?)));
        let wanted = lists.collect::<Vec<_>>().join(", and ");
        (!wanted.is_empty()).then(|| Discrepancy::new(address_text(from), wanted))
    }

    /// A denied address is not allowed. An uncertain address (`None`) passes no list.
    pub(crate) fn check(&self, from: Option<IpAddr>) -> Result<(), Forbidden> {
        let is_in = |list: &Networks| from.is_some_and(|address| list.contains(address));
        let is_denied = |deny: &Networks| from.is_none() || is_in(deny);
        let list = match (&self.allow, &self.deny) {
            (_, Some(deny)) if is_denied(deny) => AddressList::DeniedByRoute,
            (Some(allow), _) if !is_in(allow) => AddressList::AllowedByRoute,
            (Some(_) | None, Some(_) | None) => return Ok(()),
        };
        Err(Forbidden::AddressNotAllowed { from, list })
    }
}

impl AccessRule {
    /// Whether tokens of this issuer may be accepted.
    pub(crate) fn takes_issuer(&self, issuer: &IssuerName) -> bool {
        self.issuers.as_ref().is_none_or(|issuers| issuers.contains(issuer))
    }

    /// Whether static tokens may be accepted, which have no audience and no claims.
    pub(crate) fn takes_static_tokens(&self) -> bool {
        self.claims.is_empty()
            && self.audiences.is_none()
            && self.bound == TokenBinding::None
            && self.takes_issuer(&IssuerName::new(IssuerName::STATIC))
    }

    /// Whether a token may be accepted that has some of these scopes.
    pub(crate) fn takes_scopes(&self, scopes: &ScopeSet) -> bool {
        scopes.contains_all(&self.all_of) && (self.any_of.is_empty() || scopes.contains_any(&self.any_of))
    }

    /// Whether a token of this client may be accepted that has some of these scopes. Audiences and claims are not
    /// compared.
    pub(crate) fn may_admit(&self, issuer: &IssuerName, client: &str, scopes: &ScopeSet) -> bool {
        let is_meant = |(of, id): &(IssuerName, String)| of == issuer && id == client;
        let is_listed = self.clients.as_ref().is_none_or(|list| list.iter().any(is_meant));
        self.takes_issuer(issuer) && is_listed && self.takes_scopes(scopes)
    }

    pub(crate) fn expectations(&self) -> Expectations<'_> {
        Expectations {
            issuers: self.issuers.as_deref().map_or(AllowedIssuers::All, AllowedIssuers::Only),
            audiences: self.audiences.as_deref().map_or(AllowedAudiences::OfIssuer, AllowedAudiences::Only),
        }
    }

    pub(crate) fn check(&self, verified: &Verified, observer: &mut impl Observer) -> Result<(), Forbidden> {
        self.check_client(verified, observer)?;
        for rule in &self.claims {
            let holds = rule.holds(verified.claims());
            observer.observe(|| {
                let (Discrepancy { found, wanted }, subject) =
                    (rule.discrepancy(verified.claims()), format!("claim {}", rule.path));
                Observation::checked(Room::Authorize, subject, holds, found, wanted)
            });
            if !holds {
                return Err(Forbidden::ClaimMismatch(Box::new(rule.discrepancy(verified.claims()))));
            }
        }
        observer.observe_all(|| self.each_scope(&verified.caller.scope));
        self.check_scope(&verified.caller.scope)
    }

    fn check_client(&self, verified: &Verified, observer: &mut impl Observer) -> Result<(), Forbidden> {
        let Some(allowed) = &self.clients else {
            return Ok(());
        };
        let caller = &verified.caller;
        let is_named = |client: &str| allowed.iter().any(|(issuer, id)| *issuer == caller.issuer && id == client);
        let checked = match &caller.client {
            Some(client) if is_named(client.as_str()) => Ok(()),
            Some(_) | None => Err(Forbidden::ClientNotAllowed(Box::new(clients_discrepancy(caller, allowed)))),
        };
        observer.report(Room::Authorize, "client", checked, |_| clients_discrepancy(caller, allowed))
    }

    /// Each scope of the rule, with whether it is held. A scope of `any_of` is not missed where another one is held.
    fn each_scope(&self, held: &ScopeSet) -> Vec<Observation> {
        let has_any = held.contains_any(&self.any_of);
        let all_of = self.all_of.iter().map(|scope| (scope, "all_of", false));
        let any_of = self.any_of.iter().map(|scope| (scope, "any_of", has_any));
        let observed = all_of.chain(any_of).map(|(scope, list, may_lack)| {
            let (outcome, found) = match (held.contains(scope), may_lack) {
                (true, _) => (Outcome::Passed, "held"),
                (false, true) => (Outcome::Noted, "not held, and another one of any_of is"),
                (false, false) => (Outcome::Failed, "not held"),
            };
            Observation::new(
                Room::Authorize,
                format!("scope {}", scope.as_str()),
                outcome,
                Discrepancy::new(found, list),
            )
        });
        observed.collect()
    }

    fn check_scope(&self, held: &ScopeSet) -> Result<(), Forbidden> {
        if self.takes_scopes(held) {
            return Ok(());
        }
        let any = self.any_of.is_empty() || held.contains_any(&self.any_of);
        let missing = self.all_of.without(held);
        Err(Forbidden::MissingScope {
            all_of: missing,
            any_of: if any { ScopeSet::default() } else { self.any_of.clone() },
            held: held.clone(),
        })
    }
}

impl Forbidden {
    pub(crate) fn discrepancy(&self) -> Discrepancy {
        match self {
            Self::MissingScope { all_of, any_of, held } => {
                let found = if held.is_empty() { "no scope".to_owned() } else { held.to_string() };
                Discrepancy::new(found, wanted_scopes(all_of, any_of))
            }
            Self::ClaimMismatch(discrepancy) | Self::ClientNotAllowed(discrepancy) => (**discrepancy).clone(),
            Self::AddressNotAllowed { from, list } => {
                Discrepancy::new(address_text(*from), format!("an address {list}"))
            }
        }
    }

    /// One of our own tokens, whose client is not configured.
    pub(crate) fn unknown_client(caller: &Caller) -> Self {
        Self::ClientNotAllowed(Box::new(Discrepancy::new(client_text(caller), "a client of oauth.clients")))
    }
}

/// The condition of the list on an address.
impl fmt::Display for AddressList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DeniedByRoute => "outside deny_from of the route",
            Self::AllowedByRoute => "of allow_from of the route",
            Self::AllowedByClient => "of allow_from of the client",
        })
    }
}

/// `None`: the address is uncertain.
fn address_text(from: Option<IpAddr>) -> String {
    from.map_or_else(|| "an uncertain address".to_owned(), |from| format!("address {from}"))
}

/// A route may allow far more clients than a line shows.
const MAX_SHOWN_CLIENTS: usize = 16;

fn clients_discrepancy(caller: &Caller, allowed: &HashSet<(IssuerName, String)>) -> Discrepancy {
    let wanted = if allowed.len() > MAX_SHOWN_CLIENTS {
        format!("one of the {} clients of the route", allowed.len())
    } else {
        let mut names: Vec<String> = allowed.iter().map(|(issuer, id)| client_name(issuer, id)).collect();
        names.sort_unstable();
        one_of("client", names.iter().map(String::as_str))
    };
    Discrepancy::new(client_text(caller), wanted)
}

fn client_text(caller: &Caller) -> String {
    let name = caller.client.as_ref().map(|client| client_name(&caller.issuer, client.as_str()));
    one_of("client", name.as_deref())
}

/// As in `access.clients`.
fn client_name(issuer: &IssuerName, id: &str) -> String {
    if issuer.as_str() == IssuerName::OWN { id.to_owned() } else { format!("{}/{id}", issuer.as_str()) }
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
