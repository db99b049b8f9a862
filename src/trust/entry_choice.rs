//! Decides which configured entry a token belongs to.
//!
//! Takes the entries and the claims of a token, which are not verified. Gives exactly one entry, or the reason why there
//! is none. Several entries may be for the same `iss`; the token then belongs to the one whose own audiences it names.
//! The audiences of a route do not choose an entry.

use super::issuer::IssuerSettings;
use super::token_origin::{Tenant, TokenOrigin};
use super::verify::{FailedCheck, TokenError};
use crate::jose::claims::Claims;
use crate::oauth::discrepancy::{Discrepancy, value_text};

/// The entry that this token belongs to. `settings` are those of an entry.
pub(super) fn choose<'e, E>(
    entries: &'e [E],
    settings: impl Fn(&E) -> &IssuerSettings,
    claims: &Claims,
) -> Result<&'e E, FailedCheck> {
    let of_issuer: Vec<&E> = entries.iter().filter(|entry| settings(entry).is_for(claims)).collect();
    let chosen = match of_issuer[..] {
        [] => return Err(TokenError::UnknownIssuer.into()),
        [one] => one,
        [..] => by_audience(&of_issuer, &settings, claims)?,
    };
    match settings(chosen).tenant_of(claims) {
        Some(tenant) => tenant.check(claims)?,
        None => {}
    }
    Ok(chosen)
}

fn by_audience<'e, E>(
    entries: &[&'e E],
    settings: &impl Fn(&E) -> &IssuerSettings,
    claims: &Claims,
) -> Result<&'e E, FailedCheck> {
    let fitting: Vec<&E> = entries.iter().copied().filter(|entry| names_audience_of(settings(entry), claims)).collect();
    if let [one] = fitting[..] {
        return Ok(one);
    }
    let found = claims.all.get("aud").map_or_else(|| "no aud".to_owned(), |aud| format!("aud={}", value_text(aud)));
    let wanted = if fitting.is_empty() {
        let all: Vec<&str> = entries.iter().flat_map(|entry| &settings(entry).audiences).map(String::as_str).collect();
        format!("aud={}", all.join("|"))
    } else {
        let names: Vec<&str> = fitting.iter().map(|entry| settings(entry).name.as_str()).collect();
        format!("audiences of one issuer entry, not of {}", names.join(" and "))
    };
    Err(FailedCheck { reason: TokenError::BadAudience, values: Some(Box::new(Discrepancy::new(found, wanted))) })
}

/// Whether the token names an audience of this entry's own.
fn names_audience_of(settings: &IssuerSettings, claims: &Claims) -> bool {
    claims.audiences.iter().any(|audience| settings.audiences.contains(audience))
}

impl IssuerSettings {
    /// Whether the token has an `iss` of this entry.
    pub(crate) fn is_for(&self, claims: &Claims) -> bool {
        self.has_issuer(&claims.issuer)
    }

    pub(crate) fn has_issuer(&self, issuer: &str) -> bool {
        match &self.origin {
            TokenOrigin::Issuer => self.issuer.as_str() == issuer,
            TokenOrigin::Tenants(tenants) => tenants.find(issuer).is_some(),
        }
    }

    /// `None` if the entry has no tenants.
    pub(super) fn tenant_of(&self, claims: &Claims) -> Option<Tenant<'_>> {
        match &self.origin {
            TokenOrigin::Issuer => None,
            TokenOrigin::Tenants(tenants) => tenants.find(&claims.issuer),
        }
    }
}

#[cfg(test)]
mod tests;
