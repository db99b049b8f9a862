//! Decides whether a request may use a route. Takes the route, the source address and the caller; gives a [`Permit`],
//! without which nothing is forwarded.

use std::net::IpAddr;
use std::rc::Rc;

use super::authenticate::AuthenticateError;
use super::possession::ProvenCaller;
use crate::clock::UnixTime;
use crate::issuer::authorization_server::AuthorizationServer;
use crate::issuer::clients::ClientOfToken;
use crate::oauth::observer::{Observer, Room};
use crate::pipeline::routing::access::{Access, AccessRule, AddressList, Forbidden};
use crate::pipeline::routing::pattern::HostPattern;
use crate::pipeline::routing::route::Route;
use crate::trust::verify::Verified;

/// Proof that a request comes from an address that may use `route`.
#[derive(Debug)]
pub(crate) struct Admitted<'r> {
    route: &'r Route,
    from: Option<IpAddr>,
}

/// Proof that a request may use `route`. Made only here, so that a forgotten check does not compile.
#[derive(Debug)]
pub(crate) struct Permit<'r> {
    route: &'r Route,
    /// `None` on a public route, and where the caller of a reported request was not verified.
    caller: Option<Rc<Verified>>,
    basis: PermitBasis,
}

/// The ground on which a request may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PermitBasis {
    Public,
    /// The caller fulfils the rule of the route.
    Rule,
    /// The route records the refusal, and lets the request pass.
    Reported {
        /// The credentials are not of a configured issuer: they are for the service, as on a public route.
        foreign: bool,
    },
}

/// `from` is `None` where the address is uncertain.
pub(crate) fn admit(route: &Route, from: Option<IpAddr>) -> Result<Admitted<'_>, Forbidden> {
    route.from.check(from)?;
    Ok(Admitted { route, from })
}

/// A public route needs no caller; its `Authorization` header is for the service.
pub(crate) fn allow_public<'r>(admitted: &Admitted<'r>) -> Option<Permit<'r>> {
    let route = admitted.route;
    match &route.access {
        Access::Public => Some(Permit { route, caller: None, basis: PermitBasis::Public }),
        Access::Protected(_) => None,
    }
}

/// `ours` is our own authorization server, if there is one: it has our own clients.
pub(crate) fn authorize<'r>(
    admitted: &Admitted<'r>,
    rule: &AccessRule,
    caller: ProvenCaller,
    ours: Option<&AuthorizationServer>,
    observer: &mut impl Observer,
) -> Result<Permit<'r>, Forbidden> {
    let Admitted { route, from } = *admitted;
    if caller.is_own() {
        // Authentication, too, refuses one of our own tokens whose client is not known.
        let client = ours.map_or(ClientOfToken::Unknown, |ours| ours.authenticated_client_of(&caller));
        let may_call = client.may_call(from).ok_or_else(|| Forbidden::unknown_client(&caller.caller))?;
        let not_allowed = || Forbidden::AddressNotAllowed { from, list: AddressList::AllowedByClient };
        let allowed = if may_call { Ok(()) } else { Err(not_allowed()) };
        observer.report(Room::Authorize, "address of the client", allowed, |_| not_allowed().discrepancy())?;
    }
    rule.check(&caller, observer)?;
    Ok(Permit { route, caller: Some(caller.into_verified()), basis: PermitBasis::Rule })
}

impl<'r> Admitted<'r> {
    /// Whether the route only reports refusals by its rule.
    pub(crate) fn only_reports(&self, now: UnixTime) -> bool {
        self.route.only_reports(now)
    }

    pub(crate) fn access(&self) -> &'r Access {
        &self.route.access
    }

    /// The hosts of the route.
    pub(crate) fn hosts(&self) -> &'r [HostPattern] {
        &self.route.hosts
    }
}

impl<'r> Permit<'r> {
    pub(crate) fn route(&self) -> &'r Route {
        self.route
    }

    /// The caller, for a tunnel, which outlives the request.
    pub(crate) fn into_caller(self) -> Option<Rc<Verified>> {
        self.caller
    }

    /// `None` on a public route, and where the caller of a reported request was not verified.
    pub(crate) fn caller(&self) -> Option<&Verified> {
        self.caller.as_deref()
    }

    /// False on a public route.
    pub(crate) fn is_protected(&self) -> bool {
        self.basis != PermitBasis::Public
    }

    /// Whether the caller's token is for the service too. One that was not verified never is.
    pub(crate) fn forwards_token(&self) -> bool {
        let is_unverified = matches!(self.basis, PermitBasis::Reported { .. }) && self.caller.is_none();
        self.route.forward_token && !is_unverified
    }

    /// The end of a permit that is there only because the route reports.
    pub(crate) fn ends_at(&self) -> Option<UnixTime> {
        match self.basis {
            PermitBasis::Reported { .. } => self.route.report_until,
            PermitBasis::Public | PermitBasis::Rule => None,
        }
    }

    /// Whether `Authorization` is for the service. Connections that carry it are not shared.
    pub(crate) fn passes_credentials(&self) -> bool {
        match self.basis {
            PermitBasis::Public => true,
            PermitBasis::Rule => false,
            PermitBasis::Reported { foreign } => foreign,
        }
    }

    /// Lets a request pass whose caller could not be authenticated, where the route only reports such refusals. `None`
    /// where it is refused all the same: credentials in two places, and a clock that is wrong, are not about the rule.
    /// `foreign`: no configured issuer has issued the credentials, as far as they can be read.
    pub(crate) fn reported(
        admitted: &Admitted<'r>,
        refused: &AuthenticateError,
        foreign: bool,
        now: UnixTime,
    ) -> Option<Self> {
        let is_about_rule = match refused {
            AuthenticateError::Missing { .. }
            | AuthenticateError::Refused(_)
            // Unknown credentials are what a reported route is to find.
            | AuthenticateError::TooManyFailures { .. } => true,
            AuthenticateError::Ambiguous(_) | AuthenticateError::Clock => false,
        };
        let route = admitted.route;
        let basis = PermitBasis::Reported { foreign };
        (is_about_rule && route.only_reports(now)).then_some(Self { route, caller: None, basis })
    }

    /// Lets a verified caller pass that the rule of the route refuses, where the route only reports such refusals.
    /// Address rules always hold.
    pub(crate) fn reported_caller(
        admitted: &Admitted<'r>,
        caller: Rc<Verified>,
        refused: &Forbidden,
        now: UnixTime,
    ) -> Option<Self> {
        let is_about_rule = match refused {
            Forbidden::MissingScope { .. } | Forbidden::ClaimMismatch(_) | Forbidden::ClientNotAllowed(_) => true,
            Forbidden::AddressNotAllowed { .. } => false,
        };
        let route = admitted.route;
        let basis = PermitBasis::Reported { foreign: false };
        (is_about_rule && route.only_reports(now)).then_some(Self { route, caller: Some(caller), basis })
    }
}
