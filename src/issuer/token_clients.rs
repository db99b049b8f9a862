//! The clients to which our tokens were issued.

use super::authorization_server::AuthorizationServer;
use super::clients::ClientOfToken;
use super::stored_clients::ClientStoreUnavailable;
use crate::trust::verify::Verified;

impl AuthorizationServer {
    /// The client to which an own token was issued.
    pub(crate) fn client_of(&self, own: &Verified) -> ClientOfToken<'_> {
        self.authenticator.clients().of_token(own)
    }

    /// The client of a token that was authenticated, also while it is read again.
    pub(crate) fn authenticated_client_of(&self, own: &Verified) -> ClientOfToken<'_> {
        match self.client_of(own) {
            ClientOfToken::NotHeld => {
                let known = own.token().and_then(|token| token.stored_client.borrow().clone());
                known.map_or(ClientOfToken::NotHeld, ClientOfToken::Stored)
            }
            known @ (ClientOfToken::Configured(_) | ClientOfToken::Stored(_) | ClientOfToken::Unknown) => known,
        }
    }

    /// Asks the database for the client of a token. False if there is none.
    pub(crate) async fn look_up_client_of(&self, own: &Verified) -> Result<bool, ClientStoreUnavailable> {
        self.authenticator.clients().look_up_of_token(own).await
    }

    /// Whether the client to which an own token was issued exists.
    pub(super) async fn has_client_of(&self, own: &Verified) -> Result<bool, ClientStoreUnavailable> {
        match self.client_of(own) {
            ClientOfToken::Configured(_) | ClientOfToken::Stored(_) => Ok(true),
            ClientOfToken::Unknown => Ok(false),
            ClientOfToken::NotHeld => self.look_up_client_of(own).await,
        }
    }
}
