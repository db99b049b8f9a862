//! May they? Takes a route and its caller; gives a [`Permit`], without which nothing is forwarded.

use std::rc::Rc;

use super::access::{Access, AccessRule, Forbidden};
use super::route::Route;
use crate::trust::verify::Verified;

/// Proof that a request may use `route`. Made only here, so that a forgotten check does not compile.
#[derive(Debug)]
pub(crate) struct Permit<'r> {
    route: &'r Route,
    caller: Option<Rc<Verified>>,
}

/// A public route needs no caller; its `Authorization` header is the service's own affair.
pub(crate) fn allow_public(route: &Route) -> Option<Permit<'_>> {
    match &route.access {
        Access::Public => Some(Permit { route, caller: None }),
        Access::Protected(_) => None,
    }
}

pub(crate) fn authorize<'r>(
    route: &'r Route,
    rule: &AccessRule,
    caller: Rc<Verified>,
) -> Result<Permit<'r>, Forbidden> {
    rule.judge(&caller)?;
    Ok(Permit { route, caller: Some(caller) })
}

impl<'r> Permit<'r> {
    pub(crate) fn route(&self) -> &'r Route {
        self.route
    }

    /// `None` on a public route.
    pub(crate) fn caller(&self) -> Option<&Verified> {
        self.caller.as_deref()
    }
}
