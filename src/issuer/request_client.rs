//! The client of a request to the token endpoint or the revocation endpoint.
//!
//! Chooses the way to authenticate it: by its own credentials, or by an assertion of a platform, which is either a
//! credential beside the grant or the grant itself.

use super::authorization_server::{AuthorizationServer, DecidedGrant, EndpointRequest, RedeemedGrant, TokenRefusal};
use super::client_auth::assertion::{AssertionKind, PresentedAssertion};
use super::client_auth::authenticator::Authenticated;
use super::client_auth::claim::ClientFault;
use super::client_auth::{ComparedBy, ComparedByPlatform, PresentedCredentials};
use super::grant::GrantFault;
use super::request::Parameters;
use crate::clock::UnixTime;

impl AuthorizationServer {
    /// Authenticates the client of a token request. Also returns the parameters. The use of its credential is not recorded.
    pub(super) async fn client_of_grant(
        &self,
        request: EndpointRequest<'_>,
    ) -> Result<(Authenticated<'_>, Parameters), TokenRefusal> {
        let mut parameters = self.parameters(request)?;
        if !parameters.is_assertion_grant() {
            let authenticated = self.authenticated(request, &mut parameters).await?;
            parameters.check_grant_type()?;
            return Ok((authenticated, parameters));
        }
        if !self.authenticator.has_federation() {
            return Err(GrantFault::UnsupportedGrant.into());
        }
        let credentials = std::mem::take(&mut parameters.credentials);
        let assertion = PresentedAssertion::of_grant(request.headers, credentials).map_err(grant_fault)?;
        let authenticated = self.by_platform(assertion, request).await.map_err(of_assertion_grant)?;
        Ok((authenticated, parameters))
    }

    /// Records the use of the client's assertion, if it counts once. To be done last, so that a refused request does not
    /// use it up.
    pub(crate) async fn redeem<'c>(
        &self,
        decided: DecidedGrant<'c>,
        now: UnixTime,
    ) -> Result<RedeemedGrant<'c>, TokenRefusal> {
        match self.authenticator.redeem(&decided.authenticated, now).await {
            Ok(()) => Ok(RedeemedGrant(decided)),
            Err(refusal) if decided.by_assertion => Err(of_assertion_grant(refusal.into())),
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// Authenticates the client of a request that is no grant. Also returns the parameters.
    pub(super) async fn client(
        &self,
        request: EndpointRequest<'_>,
    ) -> Result<(Authenticated<'_>, Parameters), TokenRefusal> {
        let mut parameters = self.parameters(request)?;
        let authenticated = self.authenticated(request, &mut parameters).await?;
        self.authenticator.redeem(&authenticated, request.now).await?;
        Ok((authenticated, parameters))
    }

    fn parameters(&self, request: EndpointRequest<'_>) -> Result<Parameters, GrantFault> {
        let EndpointRequest { headers, query, body, .. } = request;
        Parameters::read(headers, query, body, self.settings.json_requests)
    }

    async fn authenticated(
        &self,
        request: EndpointRequest<'_>,
        parameters: &mut Parameters,
    ) -> Result<Authenticated<'_>, TokenRefusal> {
        let EndpointRequest { headers, certificate, from, now, trust, .. } = request;
        let credentials = std::mem::take(&mut parameters.credentials);
        let read = PresentedCredentials::read(headers, credentials, certificate, |iss| trust.has_external(iss));
        match read.map_err(|fault| self.authenticator.with_missing_certificate(fault))? {
            PresentedCredentials::Assertion(assertion)
                if assertion.kind == AssertionKind::Federated && self.authenticator.has_federation() =>
            {
                self.by_platform(*assertion, request).await
            }
            presented @ (PresentedCredentials::Assertion(_)
            | PresentedCredentials::Secret(_)
            | PresentedCredentials::Certificate(_)) => {
                let by = ComparedBy { audiences: &self.audiences, now };
                Ok(self.authenticator.authenticate(presented, from, by).await?)
            }
        }
    }

    async fn by_platform(
        &self,
        assertion: PresentedAssertion,
        EndpointRequest { from, now, trust, .. }: EndpointRequest<'_>,
    ) -> Result<Authenticated<'_>, TokenRefusal> {
        let by = ComparedByPlatform { trust, audience: self.credential_audience(), now };
        Ok(self.authenticator.authenticate_by_platform(assertion, from, by).await?)
    }
}

/// The refusal of an assertion that is the grant.
fn of_assertion_grant(refusal: TokenRefusal) -> TokenRefusal {
    match refusal {
        TokenRefusal::Fault(GrantFault::Client(fault)) => grant_fault(fault).into(),
        other @ (TokenRefusal::Fault(_)
        | TokenRefusal::Busy(_)
        | TokenRefusal::TooManyFailures { .. }
        | TokenRefusal::ReplayUnavailable
        | TokenRefusal::StoreUnavailable { .. }
        | TokenRefusal::KeysUnavailable { .. }
        | TokenRefusal::Broken
        | TokenRefusal::Clock
        | TokenRefusal::NotRevoked(_)) => other,
    }
}

/// The fault of an assertion that is the grant. A request that mixes ways is a fault of the request.
fn grant_fault(fault: ClientFault) -> GrantFault {
    match fault {
        ClientFault::InvalidRequest(text) => GrantFault::InvalidRequest(text),
        ClientFault::NoCredentials { .. }
        | ClientFault::Malformed { .. }
        | ClientFault::WrongCredentials { .. }
        | ClientFault::Certificate { .. }
        | ClientFault::Assertion { .. }
        | ClientFault::Elsewhere { .. } => GrantFault::Assertion(fault),
    }
}
