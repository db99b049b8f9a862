//! The introspection endpoint: a client that may ask learns whether one of our tokens is active (RFC 7662).
//!
//! Authenticates like the token endpoint. If a token is not valid now, the answer says only that it is not active, for
//! every reason. Tokens of other issuers are not active here.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::authorization_server::{AuthorizationServer, EndpointRequest, TokenRefusal};
use super::grant::GrantFault;
use crate::oauth::caller::IssuerName;
use crate::oauth::identity::Identity;
use crate::oauth::observer::Unobserved;
use crate::trust::verify::{AllowedAudiences, AllowedIssuers, Expectations, Trust, VerifiedToken};

/// The answer about a token.
#[derive(Debug)]
pub(crate) struct IntrospectedToken {
    pub(crate) body: Bytes,
    /// The client that asked.
    pub(crate) client: Identity,
    /// The `jti` of an active token.
    pub(crate) token_id: Option<String>,
}

/// The claims that the answer repeats as they are.
const REPEATED: [&str; 10] = ["iss", "sub", "aud", "client_id", "scope", "exp", "iat", "nbf", "jti", "cnf"];

impl AuthorizationServer {
    /// Answers an introspection request. `token_type_hint` is ignored: there is only one type.
    pub(crate) async fn introspect(
        &self,
        trust: &Trust,
        request: EndpointRequest<'_>,
    ) -> Result<IntrospectedToken, TokenRefusal> {
        let now = request.now;
        if !now.is_plausible() {
            return Err(TokenRefusal::Clock);
        }
        let (authenticated, parameters) = self.client(request).await?;
        let client = authenticated.client.id.clone();
        if !self.may_introspect(&client) {
            return Err(GrantFault::MayNotIntrospect { client }.into());
        }
        let token = parameters.token.ok_or(GrantFault::InvalidRequest("token is missing"))?;
        let own = [IssuerName::own()];
        let expected = Expectations { issuers: AllowedIssuers::Only(&own), audiences: AllowedAudiences::Any };
        let verified = match trust.verify(token.expose(), expected, now, &mut Unobserved).await {
            Err(refused) if refused.reason.is_outage() => {
                return Err(TokenRefusal::StoreUnavailable { client: Some(client) });
            }
            verified => verified.ok(),
        };
        // A token of a client that was removed is not active.
        let has_client = match &verified {
            Some(verified) => self
                .has_client_of(verified)
                .await
                .map_err(|_| TokenRefusal::StoreUnavailable { client: Some(client.clone()) })?,
            None => false,
        };
        let active = verified.filter(|_| has_client);
        let active = active.as_ref().and_then(|verified| verified.token());
        let token_id = active.and_then(|token| token.claims.token_id.clone());
        let body = active.map_or_else(|| json!({ "active": false }), answer);
        Ok(IntrospectedToken { body: body.to_string().into(), client, token_id })
    }
}

fn answer(token: &VerifiedToken) -> Value {
    let claims = &token.claims;
    let token_type = if claims.confirmation.key.is_some() { "DPoP" } else { "Bearer" };
    let mut answer = Map::new();
    answer.insert("active".to_owned(), json!(true));
    answer.insert("token_type".to_owned(), json!(token_type));
    let repeated = REPEATED.iter().filter_map(|name| claims.all.get_key_value(*name));
    answer.extend(repeated.map(|(name, value)| (name.clone(), value.clone())));
    Value::Object(answer)
}
