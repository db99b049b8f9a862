//! The client in the database to which the token of an open stream was issued.
//!
//! Remembers the facts by which the client was last judged. They are outdated once the client has changed, was removed or
//! is not held any more. Then the client is judged again, and nothing else of the request.

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;

use super::authenticate::own_client::{check_client, client_of};
use crate::issuer::clients::ClientOfToken;
use crate::oauth::discrepancy::Discrepancy;
use crate::pipeline::routing::access::{AddressList, Forbidden};
use crate::pipeline::routing::snapshot::Snapshot;
use crate::trust::token_client::TokenClient;
use crate::trust::verify::Verified;

#[derive(Debug)]
pub(super) struct StreamClient(RefCell<LastJudged>);

/// The facts by which the client of a stream was last judged.
#[derive(Debug)]
enum LastJudged {
    /// It is not in the database.
    NotStored,
    By(Arc<TokenClient>),
    /// It must be judged.
    Due,
}

/// Why the client of a stream may not keep it.
#[derive(Debug)]
pub(super) enum ClientVerdict {
    /// It is not in the database any more, or disabled.
    Unknown(Box<Discrepancy>),
    /// It may not call from the address any more.
    WrongAddress(Box<Discrepancy>),
    /// The database cannot be asked.
    Unavailable,
}

impl StreamClient {
    /// Of a stream that is let in from an address.
    pub(super) fn new(caller: Option<&Verified>, from: Option<IpAddr>, snapshot: &Snapshot) -> Self {
        let judged = match LastJudged::of(caller, snapshot) {
            // It was let in by other facts.
            LastJudged::By(client) if !client.may_call(from) => LastJudged::Due,
            judged => judged,
        };
        Self(RefCell::new(judged))
    }

    /// Takes the facts under a new configuration, by which the stream is judged next.
    pub(super) fn renew(&self, caller: Option<&Verified>, snapshot: &Snapshot) {
        self.0.replace(LastJudged::of(caller, snapshot));
    }

    /// The stream goes on whatever its client is.
    pub(super) fn settle(&self) {
        self.0.replace(LastJudged::NotStored);
    }

    /// `table` is the number of the clients that are in use.
    pub(super) fn is_due(&self, table: u64) -> bool {
        match &*self.0.borrow() {
            LastJudged::NotStored => false,
            LastJudged::By(client) => client.table != table || !client.is_current(),
            LastJudged::Due => true,
        }
    }

    /// Asks the database if the client is not held.
    pub(super) async fn judge(
        &self,
        caller: &Verified,
        from: Option<IpAddr>,
        snapshot: &Snapshot,
    ) -> Result<(), ClientVerdict> {
        check_client(caller, snapshot).await.map_err(|failed| {
            if failed.reason.is_outage() { ClientVerdict::Unavailable } else { ClientVerdict::Unknown(failed.values) }
        })?;
        let judged = LastJudged::of(Some(caller), snapshot);
        let is_refused = matches!(&judged, LastJudged::By(client) if !client.may_call(from));
        self.0.replace(judged);
        if is_refused {
            let refused = Forbidden::AddressNotAllowed { from, list: AddressList::AllowedByClient };
            return Err(ClientVerdict::WrongAddress(Box::new(refused.discrepancy())));
        }
        Ok(())
    }
}

impl LastJudged {
    fn of(caller: Option<&Verified>, snapshot: &Snapshot) -> Self {
        match caller.and_then(|caller| client_of(caller, snapshot)) {
            None | Some(ClientOfToken::Configured(_) | ClientOfToken::Unknown) => Self::NotStored,
            Some(ClientOfToken::Stored(client)) => Self::By(client),
            Some(ClientOfToken::NotHeld) => Self::Due,
        }
    }
}
