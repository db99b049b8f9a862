//! The revocation endpoint: a client revokes a token of its own (RFC 7009).
//!
//! Authenticates like the token endpoint. An invalid token needs no revocation; the answer is the same, so that it
//! reveals nothing about the token. Only a valid token of another client is an error.

use std::rc::Rc;

use super::authorization_server::{AuthorizationServer, EndpointRequest, TokenRefusal};
use super::grant::GrantFault;
use crate::oauth::caller::IssuerName;
use crate::oauth::identity::Identity;
use crate::oauth::observer::Unobserved;
use crate::trust::revocation::RevocationEntry;
use crate::trust::revoker::{NotRevoked, Revoker};
use crate::trust::verify::{AllowedAudiences, AllowedIssuers, Expectations, Verified};

/// The result of a revocation request.
#[derive(Debug)]
pub(crate) enum Revoked {
    /// The revocation is on the disk and known to all workers.
    Token(Rc<Verified>),
    /// There was nothing to revoke.
    Nothing { client: Identity },
}

impl AuthorizationServer {
    /// Answers a revocation request. `token_type_hint` is ignored: there is only one type.
    pub(crate) async fn revoke(
        &self,
        revoker: &Revoker,
        request: EndpointRequest<'_>,
    ) -> Result<Revoked, TokenRefusal> {
        let (now, trust) = (request.now, request.trust);
        if !now.is_plausible() {
            return Err(TokenRefusal::Clock);
        }
        let (authenticated, parameters) = self.client(request).await?;
        let client = authenticated.client;
        let token = parameters.token.ok_or(GrantFault::InvalidRequest("token is missing"))?;
        let own = [IssuerName::own()];
        let expected = Expectations { issuers: AllowedIssuers::Only(&own), audiences: AllowedAudiences::Any };
        let verified = match trust.verify(token.expose(), expected, now, &mut Unobserved).await {
            Ok(verified) => verified,
            // It may be valid, so that it may have to be revoked.
            Err(refused) if refused.reason.is_outage() => {
                return Err(TokenRefusal::StoreUnavailable { client: Some(client.id.clone()) });
            }
            Err(_) => return Ok(Revoked::Nothing { client: client.id.clone() }),
        };
        if verified.caller.client.as_ref() != Some(&client.id) {
            return Err(GrantFault::OthersToken { client: client.id.clone() }.into());
        }
        let Some(entry) =
            verified.token().and_then(|token| RevocationEntry::token(&token.issuer.settings, &token.claims, now))
        else {
            return Ok(Revoked::Nothing { client: client.id.clone() });
        };
        let entry = RevocationEntry { revoked_by: Some(client.id.as_str().to_owned()), ..entry };
        revoker.revoke(entry).await?;
        Ok(Revoked::Token(Rc::new(verified)))
    }
}

impl From<NotRevoked> for TokenRefusal {
    fn from(not: NotRevoked) -> Self {
        Self::NotRevoked(not)
    }
}
