//! Authenticates a client by a platform token.
//!
//! The token is verified before its client is looked up, so that a forged token does not tell by the time it takes which
//! subjects the configuration has. Every refusal has the same answer.

use std::sync::Arc;
use std::time::Duration;

use super::{Authenticated, ClientAuthenticator, ClientRefusal};
use crate::clock::{self, UnixTime};
use crate::issuer::client_auth::assertion::PresentedAssertion;
use crate::issuer::client_auth::claim::{AssertionCause, ClientFault, RefusedAssertion};
use crate::issuer::client_auth::federation::index::{FederationIndex, NoSingleClient};
use crate::issuer::client_auth::single_use::SingleUse;
use crate::issuer::client_auth::{ClientAuthMethod, ComparedByPlatform, Credential, PlatformIdentity};
use crate::issuer::clients::FoundClient;
use crate::issuer::stored_clients::held::StoredClient;
use crate::issuer::stored_clients::subjects::NoCandidates;
use crate::network::{SourceAddress, counted_network};
use crate::oauth::discrepancy::{Discrepancy, short};
use crate::oauth::identity::Identity;
use crate::store::client_table::MOST_CANDIDATES;
use crate::trust::failed_check::{FailedCheck, RefusedToken, TokenError};
use crate::trust::platform_credential::{CredentialExpectations, PlatformCredential};

/// The life of a token that counts once.
const LONGEST_ONCE: Duration = Duration::from_secs(24 * 3600);

impl ClientAuthenticator {
    /// Whether any client may authenticate by platform tokens.
    pub(crate) fn has_federation(&self) -> bool {
        !self.clients.federation().is_empty() || self.clients.stored().is_some()
    }

    pub(crate) async fn authenticate_by_platform(
        &self,
        assertion: PresentedAssertion,
        from: SourceAddress,
        by: ComparedByPlatform<'_>,
    ) -> Result<Authenticated<'_>, ClientRefusal> {
        let pair = self.back_off.pair(&claimed_identity(&assertion), counted_network(from.address));
        self.back_off.admit(pair, clock::instant()).map_err(|wait| {
            let client = assertion.client_id.as_deref().and_then(|id| Identity::parse(id).ok());
            ClientRefusal::TooManyFailures { client, wait }
        })?;
        let authenticated = self.by_platform(assertion, from, by).await;
        match &authenticated {
            Ok(_) => self.back_off.succeeded(pair, clock::instant()),
            Err(ClientRefusal::Fault(fault)) if fault.counts() => self.back_off.failed(pair, clock::instant()),
            // Not the platform's token, or not the client's fault.
            Err(
                ClientRefusal::Fault(_)
                | ClientRefusal::Busy(_)
                | ClientRefusal::TooManyFailures { .. }
                | ClientRefusal::KeysUnavailable { .. }
                | ClientRefusal::StoreUnavailable { .. }
                | ClientRefusal::ReplayUnavailable,
            ) => {}
        }
        authenticated
    }

    async fn by_platform(
        &self,
        assertion: PresentedAssertion,
        from: SourceAddress,
        ComparedByPlatform { trust, audience, now }: ComparedByPlatform<'_>,
    ) -> Result<Authenticated<'_>, ClientRefusal> {
        let PresentedAssertion { token, client_id, .. } = assertion;
        // The signature is verified before.
        let refuse = |refused: RefusedAssertion| refusal(client_id.clone(), refused.signed());
        let claimed = claimed_text(token.claims.issuer.as_deref(), token.claims.subject.as_deref());
        let federation = self.clients.federation();
        let any = self.clients.stored().is_some();
        let expected = CredentialExpectations { is_federated: &|issuer| any || federation.names(issuer), audience };
        let verified = trust.verify_credential(token, expected, now).await;
        let credential = verified.map_err(|refused| refused_token(client_id.clone(), refused, &claimed))?;
        let (client, is_once) = self.federated(&credential).await.map_err(|none| match none {
            NoFederated::Client(none) => refuse(none.into()),
            NoFederated::Unavailable => ClientRefusal::StoreUnavailable { client: None },
        })?;
        if let Some(other) = client_id.as_deref().filter(|id| *id != client.id.as_str()) {
            let values = (format!("client_id={}", short(other)), format!("client_id={}", short(client.id.as_str())));
            return Err(refuse(RefusedAssertion::new(AssertionCause::NoFederatedClient, values.0, values.1)));
        }
        if !client.may_call(from.certain()) {
            return Err(ClientRefusal::Fault(ClientFault::Elsewhere { client: client.id.clone(), basic: false }));
        }
        let once = if is_once { Some(single_use(&credential, now).map_err(refuse)?) } else { None };
        let PlatformCredential { issuer, tenant, subject, .. } = credential;
        let credential = Credential::Platform(Box::new(PlatformIdentity { issuer, tenant, subject }));
        Ok(Authenticated { client, method: ClientAuthMethod::PrivateKeyJwt, credential, once })
    }
}

/// The reason for which a verified credential authenticates no client.
enum NoFederated {
    Client(NoSingleClient),
    Unavailable,
}

impl ClientAuthenticator {
    /// The client of a verified credential, and whether the credential counts once. Clients of the configuration take
    /// precedence: the database is queried only if none matches.
    async fn federated(&self, credential: &PlatformCredential) -> Result<(FoundClient<'_>, bool), NoFederated> {
        let of_file = self.clients.federation().find(credential);
        let (none, stored) = match (of_file, self.clients.stored()) {
            (Ok(found), _) => {
                // The index is made of these clients.
                let client = self.clients.get(found.client.as_str()).ok_or(NoFederated::Unavailable)?;
                return Ok((FoundClient::Configured(client), found.once));
            }
            (Err(none @ NoSingleClient::None(_)), Some(stored)) => (none, stored),
            (Err(none), _) => return Err(NoFederated::Client(none)),
        };
        let candidates = match stored.candidates(credential).await {
            Ok(candidates) => candidates,
            Err(NoCandidates::Unavailable) => return Err(NoFederated::Unavailable),
            Err(NoCandidates::TooMany) => {
                let values = Discrepancy::new(
                    format!("more than {MOST_CANDIDATES} clients whose entries begin like the subject"),
                    "entries with more of the subject before the first `*`",
                );
                return Err(NoFederated::Client(NoSingleClient::Several(Box::new(values))));
            }
        };
        // A client of the configuration hides one of the database with its id.
        let visible: Vec<_> = candidates
            .into_iter()
            .filter(|candidate| self.clients.get(candidate.client.id.as_str()).is_none())
            .collect();
        let of =
            |stored: &'_ Arc<StoredClient>| (stored.client.id.clone(), stored.client.credentials.federation.clone());
        let entries: Vec<_> = visible.iter().map(of).collect();
        let index = FederationIndex::new(entries.iter().map(|(id, federation)| (id, &**federation)));
        let found = match index.find(credential) {
            Ok(found) => found,
            Err(NoSingleClient::None(_)) if entries.is_empty() => return Err(NoFederated::Client(none)),
            Err(none) => return Err(NoFederated::Client(none)),
        };
        let client = visible.iter().find(|candidate| candidate.client.id == *found.client);
        let client = client.map(|client| FoundClient::Stored(Arc::clone(client)));
        Ok((client.ok_or(NoFederated::Unavailable)?, found.once))
    }
}

/// The use of a token that counts once. Each is kept until its token expires, so that none may live long.
fn single_use(credential: &PlatformCredential, now: UnixTime) -> Result<SingleUse, RefusedAssertion> {
    let id = credential.claims.token_id.as_deref().ok_or_else(|| FailedCheck::missing("jti"))?;
    let ahead = credential.claims.expires_at.saturating_sub(now.seconds());
    if ahead > LONGEST_ONCE.as_secs() {
        let wanted = format!("exp at most {}s ahead, for a token that counts once", LONGEST_ONCE.as_secs());
        return Err(RefusedAssertion::new(AssertionCause::LivesTooLong, format!("exp {ahead}s ahead"), wanted));
    }
    Ok(SingleUse::by_platform(&credential.iss, id, credential.refused_from))
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
    if matches!(reason, TokenError::KeysUnavailable | TokenError::StoreUnavailable) {
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
