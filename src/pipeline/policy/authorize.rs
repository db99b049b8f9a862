//! Decides whether a request may use a route. Takes the route, the source address and the caller; gives a [`Permit`],
//! without which nothing is forwarded.

use std::net::IpAddr;
use std::rc::Rc;

use crate::issuer::authorization_server::AuthorizationServer;
use crate::oauth::observer::{Observer, Room};
use crate::pipeline::routing::access::{Access, AccessRule, AddressList, Forbidden};
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
    caller: Option<Rc<Verified>>,
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
        Access::Public => Some(Permit { route, caller: None }),
        Access::Protected(_) => None,
    }
}

/// `ours` is our own authorization server, if there is one: it has our own clients.
pub(crate) fn authorize<'r>(
    admitted: &Admitted<'r>,
    rule: &AccessRule,
    caller: Rc<Verified>,
    ours: Option<&AuthorizationServer>,
    observer: &mut impl Observer,
) -> Result<Permit<'r>, Forbidden> {
    let Admitted { route, from } = *admitted;
    if caller.is_own() {
        // Authentication, too, refuses one of our own tokens whose client is not known.
        let client = ours.and_then(|ours| ours.client_of(&caller));
        let client = client.ok_or_else(|| Forbidden::unknown_client(&caller.caller))?;
        let not_allowed = || Forbidden::AddressNotAllowed { from, list: AddressList::AllowedByClient };
        let allowed = if client.may_call(from) { Ok(()) } else { Err(not_allowed()) };
        observer.report(Room::Authorize, "address of the client", allowed, |_| not_allowed().discrepancy())?;
    }
    rule.check(&caller, observer)?;
    Ok(Permit { route, caller: Some(caller) })
}

impl<'r> Admitted<'r> {
    pub(crate) fn access(&self) -> &'r Access {
        &self.route.access
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

    /// `None` on a public route.
    pub(crate) fn caller(&self) -> Option<&Verified> {
        self.caller.as_deref()
    }
}
