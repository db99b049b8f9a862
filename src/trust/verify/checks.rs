//! The checks of a token that need no cryptography: those of its issuer, its audience and its time.

use std::time::Duration;

use super::{AllowedAudiences, AllowedIssuers, Expectations};
use crate::clock::UnixTime;
use crate::jose::claims::Claims;
use crate::jose::header::Header;
use crate::jose::numeric_date::NumericDate;
use crate::oauth::caller::IssuerName;
use crate::oauth::observer::Observer;
use crate::trust::audiences::AcceptedAudiences;
use crate::trust::failed_check::FailedCheck;
use crate::trust::issuer::{Profile, TrustedIssuer};
use crate::trust::passed_check::{self, report};
use crate::trust::static_tokens::StaticToken;

/// All checks without cryptography, the cheapest first.
pub(super) fn check_claims(
    issuer: &TrustedIssuer,
    header: &Header,
    claims: &Claims,
    expected: Expectations<'_>,
    now: UnixTime,
    observer: &mut impl Observer,
) -> Result<(), FailedCheck> {
    let allowed = check_issuer(&issuer.settings.name, expected);
    report(observer, "issuers of the route", allowed, |()| passed_check::issuers(issuer, expected.issuers.names()))?;
    let settings = &issuer.settings;
    check_type(issuer, header, observer)?;
    check_algorithm(issuer, header, observer)?;
    let checked = check_audience(issuer, claims, expected);
    report(observer, "aud", checked, |accepted| passed_check::audience(issuer, claims, *accepted))?;
    check_time(claims, settings.clock_skew, now, observer)?;
    let required = match (settings.profile, claims.issued_at, &claims.token_id) {
        (Profile::External, ..) => return Ok(()),
        (Profile::Own, None, _) => Err(FailedCheck::missing("iat")),
        (Profile::Own, Some(_), None) => Err(FailedCheck::missing("jti")),
        (Profile::Own, Some(_), Some(_)) => Ok(()),
    };
    report(observer, "iat and jti", required, |()| passed_check::required())
}

pub(in crate::trust) fn check_type(
    issuer: &TrustedIssuer,
    header: &Header,
    observer: &mut impl Observer,
) -> Result<(), FailedCheck> {
    let is_type = issuer.settings.types.accept(header.token_type.as_deref());
    let checked = if is_type { Ok(()) } else { Err(FailedCheck::type_not_allowed(issuer, header)) };
    report(observer, "typ", checked, |()| *FailedCheck::type_not_allowed(issuer, header).values)
}

pub(in crate::trust) fn check_algorithm(
    issuer: &TrustedIssuer,
    header: &Header,
    observer: &mut impl Observer,
) -> Result<(), FailedCheck> {
    let is_algorithm = issuer.settings.algorithms.contains(&header.algorithm);
    let checked = if is_algorithm { Ok(()) } else { Err(FailedCheck::alg_not_allowed(issuer, header)) };
    report(observer, "alg", checked, |()| *FailedCheck::alg_not_allowed(issuer, header).values)
}

/// All checks of a static token at each use: those of the time and the route.
pub(super) fn check_static(token: &StaticToken, expected: Expectations<'_>, now: UnixTime) -> Result<(), FailedCheck> {
    if now >= token.settings.until {
        return Err(FailedCheck::static_token_ended(token.settings.until, now));
    }
    check_issuer(&token.caller.issuer, expected)?;
    match expected.audiences {
        AllowedAudiences::Any | AllowedAudiences::OfIssuer => Ok(()),
        AllowedAudiences::Only(audiences) => Err(FailedCheck::static_token_without_audience(audiences)),
    }
}

pub(super) fn check_issuer(issuer: &IssuerName, expected: Expectations<'_>) -> Result<(), FailedCheck> {
    match expected.issuers {
        AllowedIssuers::Only(names) if !names.contains(issuer) => Err(FailedCheck::issuer_not_allowed(issuer, names)),
        AllowedIssuers::All | AllowedIssuers::Only(_) => Ok(()),
    }
}

/// Gives the audiences that the token was compared with. `None`: any would do.
pub(super) fn check_audience<'a>(
    issuer: &'a TrustedIssuer,
    claims: &Claims,
    expected: Expectations<'a>,
) -> Result<Option<&'a [String]>, FailedCheck> {
    let of_issuer = &issuer.settings.audiences;
    let accepted = match (expected.audiences, of_issuer) {
        (_, AcceptedAudiences::FederationOnly) => return Err(FailedCheck::federation_only(issuer)),
        (AllowedAudiences::Only(audiences), AcceptedAudiences::Unlimited | AcceptedAudiences::Listed { .. }) => {
            audiences
        }
        (AllowedAudiences::Any | AllowedAudiences::OfIssuer, AcceptedAudiences::Unlimited) => return Ok(None),
        (AllowedAudiences::Any, AcceptedAudiences::Listed { .. }) if !claims.audiences.is_empty() => return Ok(None),
        (AllowedAudiences::Any | AllowedAudiences::OfIssuer, AcceptedAudiences::Listed { accepted, .. }) => accepted,
    };
    if claims.audiences.iter().any(|audience| accepted.contains(audience)) {
        return Ok(Some(accepted));
    }
    if claims.audiences.is_empty() {
        return Err(of_issuer.missing().into());
    }
    Err(FailedCheck::bad_audience(issuer, claims, accepted))
}

pub(crate) fn check_time(
    claims: &Claims,
    skew: Duration,
    now: UnixTime,
    observer: &mut impl Observer,
) -> Result<(), FailedCheck> {
    let seconds = skew.as_secs();
    let is_past = now.seconds() >= claims.expires_at.saturating_add(seconds);
    let checked = if is_past { Err(FailedCheck::expired(claims, skew, now)) } else { Ok(()) };
    report(observer, "exp", checked, |()| passed_check::expiry(claims, skew, now))?;
    // A token from the future comes from a wrong clock, or is forged.
    let begins = [("nbf", claims.not_before), ("iat", claims.issued_at.map(NumericDate::rounded_up))];
    for (name, begins) in begins {
        let Some(begins) = begins else { continue };
        let is_ahead = begins > now.seconds().saturating_add(seconds);
        let checked = if is_ahead { Err(FailedCheck::not_yet_valid(name, begins, skew, now)) } else { Ok(()) };
        report(observer, name, checked, |()| passed_check::beginning(name, begins, skew))?;
    }
    Ok(())
}
