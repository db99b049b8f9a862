//! Verifies a platform token: a token of a platform, such as Kubernetes or GitHub, that is the credential of a client
//! at the token endpoint.
//!
//! The checks of signature, time, algorithm and revocations are those of an access token. Two differ: the token must be
//! for our authorization server alone, whatever audiences its issuer has here, and it must not be a token of another
//! kind, such as an access token. It never authenticates a request to a route: nothing makes a
//! [`Verified`](super::verify::Verified) of it.

use std::sync::Arc;

use super::claimed_caller::ClaimedCaller;
use super::entry_choice::choose_without_audience;
use super::failed_check::{FailedCheck, RefusedToken, TokenError};
use super::issuer::TrustedIssuer;
use super::verify::Trust;
use super::verify::checks::{check_algorithm, check_time, check_type};
use crate::clock::UnixTime;
use crate::jose::claims::Claims;
use crate::jose::token::Unverified;
use crate::oauth::caller::IssuerName;
use crate::oauth::discrepancy::{one_of, short};
use crate::oauth::identity::Identity;
use crate::oauth::observer::Unobserved;

/// A verified platform token. `issuer::client_auth::federation` decides whose credential it is.
#[derive(Debug)]
pub(crate) struct PlatformCredential {
    pub(crate) issuer: IssuerName,
    /// `iss`, or the name of the issuer in its place.
    pub(crate) iss: String,
    /// Of an issuer with tenants.
    pub(crate) tenant: Option<String>,
    /// By the issuer's `subject_claim`.
    pub(crate) subject: Identity,
    /// Seconds since 1970: `exp` and the clock skew. From then on it has expired.
    pub(crate) refused_from: u64,
    pub(crate) claims: Claims,
}

/// The requirements for a credential. No field is optional, so that no check can be forgotten.
#[derive(Clone, Copy)]
pub(crate) struct CredentialExpectations<'e> {
    /// The issuers whose tokens may be credentials: those that a client names.
    pub(crate) is_federated: &'e dyn Fn(&IssuerName) -> bool,
    /// The name of our authorization server. The token must have no other audience.
    pub(crate) audience: &'e str,
}

/// The types of tokens that have another use, whatever the types of the issuer's tokens are.
const OTHER_USES: [&str; 5] = ["at+jwt", "dpop+jwt", "logout+jwt", "secevent+jwt", "token-introspection+jwt"];

impl Trust {
    /// Verifies a platform token.
    pub(crate) async fn verify_credential(
        &self,
        token: Unverified<'_>,
        expected: CredentialExpectations<'_>,
        now: UnixTime,
    ) -> Result<PlatformCredential, RefusedToken> {
        let federated = self.federated(expected.is_federated);
        let issuer = choose_without_audience(&federated, |issuer| &issuer.settings, &token.claims);
        let issuer = issuer
            .map_err(|fault| FailedCheck::from(fault).of(Some(ClaimedCaller::of(&token.claims.all, self.issuers()))))?;
        let claimed = || ClaimedCaller::of_entry(&issuer.settings.name, &token.claims.all);
        let fail = |check: FailedCheck| check.of(Some(claimed()));
        check_credential(issuer, &token, expected, now).map_err(fail)?;
        let signed = self.signed(issuer, &token, &mut Unobserved).await.map_err(fail)?;
        let no_subject = || FailedCheck::missing(&issuer.settings.subject_claims.join(" or "));
        let subject = signed.caller.subject.ok_or_else(no_subject).map_err(fail)?;
        let refused_from = token.claims.expires_at.saturating_add(issuer.settings.clock_skew.as_secs());
        let (issuer, settings) = (issuer.settings.name.clone(), &issuer.settings);
        let iss = token.claims.issuer.clone().unwrap_or_else(|| settings.issuer.as_str().to_owned());
        let tenant = settings.tenant_of(&token.claims).map(|tenant| tenant.name.to_owned());
        Ok(PlatformCredential { issuer, iss, tenant, subject, refused_from, claims: token.claims })
    }

    fn federated(&self, is_federated: &dyn Fn(&IssuerName) -> bool) -> Vec<&Arc<TrustedIssuer>> {
        let issuers = self.issuers().iter();
        issuers
            .filter(|issuer| issuer.settings.name != IssuerName::own() && is_federated(&issuer.settings.name))
            .collect()
    }
}

/// All checks without cryptography.
fn check_credential(
    issuer: &TrustedIssuer,
    token: &Unverified<'_>,
    expected: CredentialExpectations<'_>,
    now: UnixTime,
) -> Result<(), FailedCheck> {
    let (header, claims) = (&token.header, &token.claims);
    check_type(issuer, header, &mut Unobserved)?;
    check_use(header.token_type.as_deref())?;
    check_algorithm(issuer, header, &mut Unobserved)?;
    check_sole_audience(claims, expected.audience)?;
    check_time(claims, issuer.settings.clock_skew, now, &mut Unobserved)?;
    if claims.confirmation.is_none() { Ok(()) } else { Err(FailedCheck::bound_credential()) }
}

fn check_use(token_type: Option<&str>) -> Result<(), FailedCheck> {
    let lower = token_type.unwrap_or_default().to_ascii_lowercase();
    let named = lower.strip_prefix("application/").unwrap_or(&lower);
    if !OTHER_USES.contains(&named) {
        return Ok(());
    }
    let wanted = "a token that is a credential, such as typ=JWT";
    Err(FailedCheck::new(TokenError::TypeNotAllowed, format!("typ={}", short(named)), wanted))
}

/// A token that also has another audience was given to another service, which could present it here.
fn check_sole_audience(claims: &Claims, own: &str) -> Result<(), FailedCheck> {
    match &claims.audiences[..] {
        [] => Err(FailedCheck::missing("aud")),
        [only] if only == own => Ok(()),
        several => {
            let wanted = format!("aud={} and no other", short(own));
            let found = one_of("aud", several.iter().map(String::as_str));
            Err(FailedCheck::new(TokenError::BadAudience, found, wanted))
        }
    }
}

#[cfg(test)]
mod tests;
