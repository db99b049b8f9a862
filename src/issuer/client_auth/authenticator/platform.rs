//! Authenticates a client by the token of a platform that vouches for it.
//!
//! The token is verified before its client is looked up, so that a forged token does not tell by the time it takes which
//! subjects the configuration has. Every refusal has the same answer.

use super::{Authenticated, ClientAuthenticator, ClientRefusal};
use crate::clock::{self, UnixTime};
use crate::issuer::client_auth::assertion::PresentedAssertion;
use crate::issuer::client_auth::claim::{AssertionCause, ClientFault, RefusedAssertion};
use crate::issuer::client_auth::{ClientAuthMethod, ComparedBy, Credential, PlatformIdentity};
use crate::network::{SourceAddress, counted_network};
use crate::oauth::discrepancy::{Discrepancy, short};
use crate::oauth::identity::Identity;
use crate::trust::failed_check::{FailedCheck, RefusedToken, TokenError};
use crate::trust::platform_credential::{CredentialExpectations, PlatformCredential};
use crate::trust::replay::Replay;
use crate::trust::verify::Trust;

impl ClientAuthenticator {
    /// Whether a client may be authenticated by tokens of a platform.
    pub(crate) fn has_federation(&self) -> bool {
        !self.clients.federation().is_empty()
    }

    pub(crate) async fn authenticate_by_platform(
        &self,
        assertion: PresentedAssertion,
        trust: &Trust,
        from: SourceAddress,
        by: ComparedBy<'_>,
    ) -> Result<Authenticated<'_>, ClientRefusal> {
        let pair = self.back_off.pair(&claimed_identity(&assertion), counted_network(from.address));
        self.back_off.admit(pair, clock::instant()).map_err(|wait| {
            let client = assertion.client_id.as_deref().and_then(|id| Identity::parse(id).ok());
            ClientRefusal::TooManyFailures { client, wait }
        })?;
        let authenticated = self.by_platform(assertion, trust, from, by).await;
        match &authenticated {
            Ok(_) => self.back_off.succeeded(pair, clock::instant()),
            Err(ClientRefusal::Fault(_)) => self.back_off.failed(pair, clock::instant()),
            // Not the client's fault.
            Err(
                ClientRefusal::Busy(_)
                | ClientRefusal::TooManyFailures { .. }
                | ClientRefusal::KeysUnavailable { .. }
                | ClientRefusal::ReplayUnavailable,
            ) => {}
        }
        authenticated
    }

    async fn by_platform(
        &self,
        assertion: PresentedAssertion,
        trust: &Trust,
        from: SourceAddress,
        ComparedBy { audiences, now }: ComparedBy<'_>,
    ) -> Result<Authenticated<'_>, ClientRefusal> {
        let PresentedAssertion { token, client_id, .. } = assertion;
        let refuse = |refused: RefusedAssertion| refusal(client_id.clone(), refused);
        let claimed = claimed_text(token.claims.issuer.as_deref(), token.claims.subject.as_deref());
        let federation = self.clients.federation();
        let expected = CredentialExpectations { is_federated: &|issuer| federation.names(issuer), audiences };
        let verified = trust.verify_credential(token, expected, now).await;
        let credential = verified.map_err(|refused| refused_token(client_id.clone(), refused, &claimed))?;
        let found = self.clients.of_platform(&credential).map_err(|none| refuse(none.into()))?;
        let client = found.client;
        if let Some(other) = client_id.as_deref().filter(|id| *id != client.id.as_str()) {
            let values = (format!("client_id={}", short(other)), format!("client_id={}", short(client.id.as_str())));
            return Err(refuse(RefusedAssertion::new(AssertionCause::NoFederatedClient, values.0, values.1)));
        }
        if !client.may_call(from.certain()) {
            return Err(ClientRefusal::Fault(ClientFault::Elsewhere { client: client.id.clone(), basic: false }));
        }
        if found.once {
            use_once(&credential, self.verifier.replay(), now).await?.map_err(refuse)?;
        }
        let platform = PlatformIdentity { issuer: credential.issuer, subject: credential.subject };
        let credential = Credential::Platform(Box::new(platform));
        Ok(Authenticated { client, method: ClientAuthMethod::PrivateKeyJwt, credential })
    }
}

/// Records the use of a token that counts once. The inner result says whether it was the first use.
async fn use_once(
    credential: &PlatformCredential,
    replay: &Replay,
    now: UnixTime,
) -> Result<Result<(), RefusedAssertion>, ClientRefusal> {
    let Some(id) = credential.claims.token_id.as_deref() else {
        return Ok(Err(FailedCheck::missing("jti").into()));
    };
    // No client has this id: `by` is that of an issuer.
    let by = format!("\nissuer {}", credential.iss);
    let first = replay.use_once(&by, id, credential.refused_from, now).await;
    let is_first = first.map_err(|_| ClientRefusal::ReplayUnavailable)?;
    let replayed = || RefusedAssertion::new(AssertionCause::Replayed, "a token that was used before", "a new token");
    Ok(if is_first { Ok(()) } else { Err(replayed()) })
}

/// The identity that an assertion claims, for the count of failures. It cannot be the id of a client.
fn claimed_identity(assertion: &PresentedAssertion) -> String {
    let claims = &assertion.token.claims;
    let [issuer, subject] = [&claims.issuer, &claims.subject].map(|text| text.as_deref().unwrap_or_default());
    format!("\n{issuer}\n{subject}")
}

fn claimed_text(issuer: Option<&str>, subject: Option<&str>) -> String {
    let text = |name: &str, value: Option<&str>| match value {
        Some(value) => format!("{name}={}", short(value)),
        None => format!("no {name}"),
    };
    format!("{}, {}", text("iss", issuer), text("sub", subject))
}

fn refused_token(client: Option<String>, refused: RefusedToken, claimed: &str) -> ClientRefusal {
    let RefusedToken { reason, values, claimed: _ } = refused;
    if reason == TokenError::KeysUnavailable {
        let client = client.as_deref().and_then(|id| Identity::parse(id).ok());
        return ClientRefusal::KeysUnavailable { client, values };
    }
    let Discrepancy { found, wanted } = *values;
    let refused = RefusedAssertion::new(AssertionCause::Check(reason), format!("{found}; {claimed}"), wanted);
    refusal(client, refused)
}

fn refusal(client: Option<String>, refused: RefusedAssertion) -> ClientRefusal {
    ClientRefusal::Fault(ClientFault::Assertion { client, refused })
}

#[cfg(test)]
mod tests;
