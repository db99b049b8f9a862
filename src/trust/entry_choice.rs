//! Decides which configured entry a token belongs to.
//!
//! Takes the entries and the claims of a token, which are not verified. Gives exactly one entry, or the reason why there
//! is none. Several entries may be for the same `iss`; the token then belongs to the one whose own audiences it names.
//! The audiences of a route do not choose an entry. A token whose `iss` is configured belongs to no other entry; only a
//! token without such an `iss` may belong to an entry by the trust domain of its subject.

use super::issuer::IssuerSettings;
use super::token_origin::{NoEntry, SpiffeOrigin, Tenant, TokenOrigin, subject};
use crate::jose::claims::Claims;
use crate::oauth::discrepancy::{Discrepancy, value_text};
use crate::oauth::identity::Identity;
use crate::oauth::spiffe_id::{SCHEME, SpiffeId};

/// The entry that this token belongs to. `settings` are those of an entry.
pub(super) fn choose<'e, E>(
    entries: &'e [E],
    settings: impl Fn(&E) -> &IssuerSettings,
    claims: &Claims,
) -> Result<&'e E, NoEntry> {
    let candidates = candidates(entries, &settings, claims)?;
    let chosen = match candidates[..] {
        [one] => one,
        [..] => by_audience(&candidates, &settings, claims)?,
    };
    match &settings(chosen).origin {
        TokenOrigin::Issuer => {}
        TokenOrigin::Tenants(tenants) => tenants.check(claims)?,
        TokenOrigin::Spiffe(spiffe) => spiffe.check(claims)?,
    }
    Ok(chosen)
}

/// The entries for the issuer of this token, whatever its audience is; at least one.
pub(crate) fn candidates<'e, E>(
    entries: &'e [E],
    settings: impl Fn(&E) -> &IssuerSettings,
    claims: &Claims,
) -> Result<Vec<&'e E>, NoEntry> {
    if let Some(issuer) = &claims.issuer {
        let of_issuer: Vec<&E> = entries.iter().filter(|entry| settings(entry).has_issuer(issuer)).collect();
        if !of_issuer.is_empty() {
            return Ok(of_issuer);
        }
    }
    by_trust_domain(entries, settings, claims).map(|entry| vec![entry])
}

/// The entry of a token whose `iss` is absent or not configured. A trust domain that has an `iss` of its own does not
/// take tokens with another.
fn by_trust_domain<'e, E>(
    entries: &'e [E],
    settings: impl Fn(&E) -> &IssuerSettings,
    claims: &Claims,
) -> Result<&'e E, NoEntry> {
    let (has_issuer, subject) = (claims.issuer.is_some(), subject(claims).filter(|sub| sub.starts_with(SCHEME)));
    let domains: Vec<(&E, &SpiffeOrigin)> = entries
        .iter()
        .filter_map(|entry| match &settings(entry).origin {
            TokenOrigin::Spiffe(spiffe) if !has_issuer || spiffe.issuer.is_none() => Some((entry, spiffe)),
            TokenOrigin::Issuer | TokenOrigin::Tenants(_) | TokenOrigin::Spiffe(_) => None,
        })
        .collect();
    let id = subject.map(SpiffeId::parse);
    let of_domain = |(_, spiffe): &&(&E, &SpiffeOrigin)| matches!(id, Some(Ok(id)) if spiffe.has(id));
    if let Some((entry, _)) = domains.iter().find(of_domain) {
        return Ok(entry);
    }
    if has_issuer {
        return Err(NoEntry::UnknownIssuer(None));
    }
    let Some(subject) = subject.filter(|_| !domains.is_empty()) else {
        return Err(NoEntry::MissingIssuer(Box::new(Discrepancy::new("no iss", "iss"))));
    };
    let found = format!("sub={subject}");
    if id.is_some_and(|id| id.is_err()) {
        return Err(NoEntry::Malformed(Box::new(Discrepancy::new(found, "sub is a SPIFFE ID"))));
    }
    let known: Vec<&str> = domains.iter().map(|(_, spiffe)| spiffe.domain.as_str()).collect();
    let values = Discrepancy::new(format!("no iss, {found}"), format!("trust domain {}", known.join("|")));
    Err(NoEntry::UnknownIssuer(Some(Box::new(values))))
}

fn by_audience<'e, E>(
    entries: &[&'e E],
    settings: &impl Fn(&E) -> &IssuerSettings,
    claims: &Claims,
) -> Result<&'e E, NoEntry> {
    let is_for = |entry: &&E| settings(entry).audiences.have_one_of(claims);
    let fitting: Vec<&E> = entries.iter().copied().filter(is_for).collect();
    if let [one] = fitting[..] {
        return Ok(one);
    }
    let found = claims.all.get("aud").map_or_else(|| "no aud".to_owned(), |aud| format!("aud={}", value_text(aud)));
    let wanted = if fitting.is_empty() {
        let all: Vec<&str> =
            entries.iter().flat_map(|entry| settings(entry).audiences.listed_ones()).map(String::as_str).collect();
        format!("aud={}", all.join("|"))
    } else {
        let names: Vec<&str> = fitting.iter().map(|entry| settings(entry).name.as_str()).collect();
        format!("audiences of one issuer entry, not of {}", names.join(" and "))
    };
    Err(NoEntry::BadAudience(Box::new(Discrepancy::new(found, wanted))))
}

impl IssuerSettings {
    fn has_issuer(&self, issuer: &str) -> bool {
        match &self.origin {
            TokenOrigin::Issuer => self.issuer.as_str() == issuer,
            TokenOrigin::Tenants(tenants) => tenants.find(issuer).is_some(),
            TokenOrigin::Spiffe(spiffe) => spiffe.issuer.as_ref().is_some_and(|own| own.as_str() == issuer),
        }
    }

    /// Whether a change of this entry may decide which entry the tokens of the other belong to.
    pub(crate) fn may_choose_tokens_of(&self, other: &Self) -> bool {
        match &other.origin {
            TokenOrigin::Issuer => self.has_issuer(other.issuer.as_str()),
            TokenOrigin::Tenants(tenants) => tenants.issuers().any(|issuer| self.has_issuer(issuer)),
            // The tokens of a trust domain may have any `iss` that no entry has, or none.
            TokenOrigin::Spiffe(_) => true,
        }
    }

    /// `None` if the entry has no tenants.
    pub(super) fn tenant_of(&self, claims: &Claims) -> Option<Tenant<'_>> {
        match &self.origin {
            TokenOrigin::Tenants(tenants) => tenants.of(claims),
            TokenOrigin::Issuer | TokenOrigin::Spiffe(_) => None,
        }
    }

    /// The issuer of this token where the entry has another name for it.
    pub(super) fn other_name(&self, claims: &Claims) -> Option<&Identity> {
        match &self.origin {
            TokenOrigin::Issuer => None,
            TokenOrigin::Tenants(tenants) => tenants.of(claims).map(|tenant| tenant.issuer),
            TokenOrigin::Spiffe(spiffe) => Some(&spiffe.id),
        }
    }
}

#[cfg(test)]
mod tests;
