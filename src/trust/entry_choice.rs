//! Decides which configured entry a token belongs to.
//!
//! Takes the entries and the claims of a token, which are not verified. Gives exactly one entry, or the reason why there
//! is none. Several entries may be for the same `iss`; the token then belongs to the one whose own audiences it names.
//! The audiences of a route do not choose an entry. A token whose `iss` is configured belongs to no other entry; only a
//! token without such an `iss` may belong to an entry by the trust domain of its subject.

use serde_json::{Map, Value};

use super::issuer::IssuerSettings;
use super::near_miss::unknown_issuer;
use super::token_origin::{NoEntry, SpiffeOrigin, Tenant, TokenOrigin, subject};
use crate::jose::claims::{Claims, texts};
use crate::oauth::discrepancy::{Discrepancy, one_of, short};
use crate::oauth::identity::Identity;
use crate::oauth::spiffe_id::{SCHEME, SpiffeId};

/// The entry that this token belongs to. `settings` are those of an entry.
pub(super) fn choose<'e, E>(
    entries: &'e [E],
    settings: impl Fn(&E) -> &IssuerSettings,
    claims: &Claims,
) -> Result<&'e E, NoEntry> {
    let candidates = candidates(entries, &settings, &claims.all)?;
    let chosen = match candidates[..] {
        [one] => one,
        [..] => by_audience(&candidates, &settings, claims)?,
    };
    check_origin(settings(chosen), claims)?;
    Ok(chosen)
}

/// The same where the audiences of the entries do not count: then only one entry may be for the issuer.
pub(super) fn choose_without_audience<'e, E>(
    entries: &'e [E],
    settings: impl Fn(&E) -> &IssuerSettings,
    claims: &Claims,
) -> Result<&'e E, NoEntry> {
    let candidates = candidates(entries, &settings, &claims.all)?;
    let [chosen] = candidates[..] else {
        let names: Vec<&str> = candidates.iter().map(|entry| settings(entry).name.as_str()).collect();
        let found = format!("an iss of the issuer entries {}", names.join(" and "));
        return Err(NoEntry::UnknownIssuer(Box::new(Discrepancy::new(found, "an iss of one entry"))));
    };
    check_origin(settings(chosen), claims)?;
    Ok(chosen)
}

fn check_origin(settings: &IssuerSettings, claims: &Claims) -> Result<(), NoEntry> {
    match &settings.origin {
        TokenOrigin::Issuer => Ok(()),
        TokenOrigin::Tenants(tenants) => tenants.check(claims),
        TokenOrigin::Spiffe(spiffe) => spiffe.check(claims),
    }
}

/// The entry that a refused token belongs to, by all its claims. `None` if it belongs to none, or if that is unclear.
pub(super) fn claimed_entry<'e, E>(
    entries: &'e [E],
    settings: impl Fn(&E) -> &IssuerSettings,
    claims: &Map<String, Value>,
) -> Option<&'e E> {
    let candidates = candidates(entries, &settings, claims).ok()?;
    let audiences = texts("aud", claims.get("aud")).unwrap_or_default();
    let fits = |entry: &&E| candidates.len() == 1 || settings(entry).audiences.have_one_of(&audiences, claims);
    let mut fitting = candidates.iter().copied().filter(fits);
    fitting.next().filter(|_| fitting.next().is_none())
}

/// The entries for the issuer of the token with all these claims, whatever its audience is; at least one.
pub(crate) fn candidates<'e, E>(
    entries: &'e [E],
    settings: impl Fn(&E) -> &IssuerSettings,
    claims: &Map<String, Value>,
) -> Result<Vec<&'e E>, NoEntry> {
    if let Some(issuer) = issuer(claims) {
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
    claims: &Map<String, Value>,
) -> Result<&'e E, NoEntry> {
    let (issuer, subject) = (issuer(claims), subject(claims).filter(|sub| sub.starts_with(SCHEME)));
    let domains: Vec<(&E, &SpiffeOrigin)> = entries
        .iter()
        .filter_map(|entry| match &settings(entry).origin {
            TokenOrigin::Spiffe(spiffe) if issuer.is_none() || spiffe.issuer.is_none() => Some((entry, spiffe)),
            TokenOrigin::Issuer | TokenOrigin::Tenants(_) | TokenOrigin::Spiffe(_) => None,
        })
        .collect();
    let id = subject.map(SpiffeId::parse);
    let of_domain = |(_, spiffe): &&(&E, &SpiffeOrigin)| matches!(id, Some(Ok(id)) if spiffe.has(id));
    if let Some((entry, _)) = domains.iter().find(of_domain) {
        return Ok(entry);
    }
    if let Some(issuer) = issuer {
        return Err(NoEntry::UnknownIssuer(Box::new(unknown_issuer(issuer, entries.iter().map(&settings)))));
    }
    let Some(subject) = subject.filter(|_| !domains.is_empty()) else {
        return Err(NoEntry::MissingIssuer(Box::new(Discrepancy::new("no iss", "iss"))));
    };
    let found = format!("sub={}", short(subject));
    if id.is_some_and(|id| id.is_err()) {
        return Err(NoEntry::Malformed(Box::new(Discrepancy::new(found, "sub is a SPIFFE ID"))));
    }
    let known = one_of("trust_domain", domains.iter().map(|(_, spiffe)| spiffe.domain.as_str()));
    Err(NoEntry::UnknownIssuer(Box::new(Discrepancy::new(format!("no iss, {found}"), known))))
}

fn by_audience<'e, E>(
    entries: &[&'e E],
    settings: &impl Fn(&E) -> &IssuerSettings,
    claims: &Claims,
) -> Result<&'e E, NoEntry> {
    let is_for = |entry: &&E| settings(entry).audiences.have_one_of(&claims.audiences, &claims.all);
    let fitting: Vec<&E> = entries.iter().copied().filter(is_for).collect();
    if let [one] = fitting[..] {
        return Ok(one);
    }
    let found = one_of("aud", claims.audiences.iter().map(String::as_str));
    let wanted = if fitting.is_empty() {
        one_of("aud", entries.iter().flat_map(|entry| settings(entry).audiences.listed_ones()).map(String::as_str))
    } else {
        let names: Vec<&str> = fitting.iter().map(|entry| settings(entry).name.as_str()).collect();
        format!("audiences of one issuer entry, not of {}", names.join(" and "))
    };
    Err(NoEntry::BadAudience(Box::new(Discrepancy::new(found, wanted))))
}

/// `iss`, unless it is empty.
pub(super) fn issuer(claims: &Map<String, Value>) -> Option<&str> {
    claims.get("iss")?.as_str().filter(|issuer| !issuer.is_empty())
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
