//! The values that a check of a token found and wanted where the token passes it, for an observer.
//!
//! Those of a failed check are in [`super::failed_check`]. Nothing here decides.

use std::time::Duration;

use super::entry_choice;
use super::failed_check::{FailedCheck, key_text, time};
use super::issuer::TrustedIssuer;
use crate::clock::UnixTime;
use crate::jose::claims::Claims;
use crate::jose::jwk::VerifyingKey;
use crate::oauth::caller::{Caller, IssuerName};
use crate::oauth::discrepancy::{Discrepancy, one_of, short};
use crate::oauth::observer::{Observer, Room};

/// Reports a check of a token, and gives its result back. `passed` is called for a check that holds.
#[inline]
pub(crate) fn report<T>(
    observer: &mut impl Observer,
    subject: &str,
    result: Result<T, FailedCheck>,
    passed: impl FnOnce(&T) -> Discrepancy,
) -> Result<T, FailedCheck> {
    observer.report(Room::Authenticate, subject, result, |result| match result {
        Ok(value) => passed(value),
        Err(check) => (*check.values).clone(),
    })
}

pub(super) fn active(issuer: &IssuerName) -> Discrepancy {
    Discrepancy::new(format!("active=true, by issuer `{}`", issuer.as_str()), "active=true")
}

pub(super) fn kind() -> Discrepancy {
    Discrepancy::new("an access token", "an access token")
}

pub(super) fn form() -> Discrepancy {
    Discrepancy::new("a signed JWT", "")
}

/// The entry that the token belongs to.
pub(super) fn entry(issuer: &TrustedIssuer, claims: &Claims) -> Discrepancy {
    let iss =
        entry_choice::issuer(&claims.all).map_or_else(|| "no iss".to_owned(), |iss| format!("iss={}", short(iss)));
    Discrepancy::new(format!("{iss}, of issuer `{}`", issuer.settings.name.as_str()), "")
}

/// `allowed` are those of the route. `None`: every issuer that is configured.
pub(super) fn issuers(issuer: &TrustedIssuer, allowed: Option<&[IssuerName]>) -> Discrepancy {
    let wanted = match allowed {
        None => "any configured issuer".to_owned(),
        Some(names) => one_of("issuer", names.iter().map(IssuerName::as_str)),
    };
    Discrepancy::new(format!("issuer={}", issuer.settings.name.as_str()), wanted)
}

/// `accepted` are the audiences that the token was compared with. `None`: any would do.
pub(super) fn audience(issuer: &TrustedIssuer, claims: &Claims, accepted: Option<&[String]>) -> Discrepancy {
    match accepted {
        Some(accepted) => *FailedCheck::bad_audience(issuer, claims, accepted).values,
        None => Discrepancy::new(one_of("aud", claims.audiences.iter().map(String::as_str)), "any audience"),
    }
}

pub(super) fn expiry(claims: &Claims, skew: Duration, now: UnixTime) -> Discrepancy {
    let at = time(claims.expires_at);
    let found = match claims.expires_at.checked_sub(now.seconds()) {
        Some(left) => format!("exp={at}, in {left}s"),
        None => format!("exp={at}, {}s ago", now.seconds().saturating_sub(claims.expires_at)),
    };
    Discrepancy::new(found, format!("exp in the future, or less than {}s ago", skew.as_secs()))
}

pub(super) fn beginning(name: &str, begins: u64, skew: Duration) -> Discrepancy {
    Discrepancy::new(format!("{name}={}", time(begins)), format!("{name} at most {}s ahead", skew.as_secs()))
}

pub(super) fn required() -> Discrepancy {
    Discrepancy::new("iat and jti", "iat and jti")
}

pub(super) fn caller(caller: &Caller) -> Discrepancy {
    let client = one_of("client", caller.client.as_ref().map(|client| client.as_str()));
    let subject = one_of("subject", caller.subject.as_ref().map(|subject| subject.as_str()));
    let scope = if caller.scope.is_empty() { "no scope".to_owned() } else { format!("scope={}", caller.scope) };
    Discrepancy::new(format!("{client}, {subject}, {scope}"), "")
}

pub(crate) fn static_token(caller: &Caller) -> Discrepancy {
    let name = caller.client.as_ref().map(|client| client.as_str());
    Discrepancy::new(one_of("static token", name), "a static token before its end")
}

pub(super) fn key(key: &VerifyingKey) -> Discrepancy {
    Discrepancy::new(format!("kid={}", key_text(key)), "")
}

pub(super) fn revocations() -> Discrepancy {
    Discrepancy::new("no revocation", "no revocation")
}

pub(crate) fn possession() -> Discrepancy {
    Discrepancy::new("the keys that the token is bound to", "the keys that the token is bound to")
}
