//! One of our own tokens is valid only as long as its client exists.

use crate::issuer::clients::ClientOfToken;
use crate::pipeline::routing::snapshot::Snapshot;
use crate::trust::failed_check::FailedCheck;
use crate::trust::verify::Verified;

/// Asks the database if the client is not held.
pub(crate) async fn check_client(verified: &Verified, snapshot: &Snapshot) -> Result<(), FailedCheck> {
    match client_of(verified, snapshot) {
        None | Some(ClientOfToken::Configured(_) | ClientOfToken::Stored(_)) => Ok(()),
        Some(ClientOfToken::Unknown) => Err(unknown(verified)),
        // Boxed to keep the common future small.
        Some(ClientOfToken::NotHeld) => Box::pin(look_up(verified, snapshot)).await,
    }
}

/// Asks nothing: a client that is not held may exist.
pub(crate) fn check_held_client(verified: &Verified, snapshot: &Snapshot) -> Result<(), FailedCheck> {
    match client_of(verified, snapshot) {
        None | Some(ClientOfToken::Configured(_) | ClientOfToken::Stored(_) | ClientOfToken::NotHeld) => Ok(()),
        Some(ClientOfToken::Unknown) => Err(unknown(verified)),
    }
}

/// `None` for a token of another issuer.
pub(crate) fn client_of<'s>(verified: &Verified, snapshot: &'s Snapshot) -> Option<ClientOfToken<'s>> {
    let own = || snapshot.oauth.as_ref().map_or(ClientOfToken::Unknown, |oauth| oauth.server.client_of(verified));
    verified.is_own().then(own)
}

async fn look_up(verified: &Verified, snapshot: &Snapshot) -> Result<(), FailedCheck> {
    let Some(oauth) = &snapshot.oauth else { return Err(unknown(verified)) };
    match oauth.server.look_up_client_of(verified).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(unknown(verified)),
        Err(unavailable) => {
            Err(FailedCheck::store_unavailable(unavailable.to_string(), "an answer about the client of the token"))
        }
    }
}

fn unknown(verified: &Verified) -> FailedCheck {
    FailedCheck::unknown_client(verified.caller.client.as_ref())
}
