//! Limits how often tokens of one address are asked about at an introspection endpoint, after tokens that were not
//! active.
//!
//! Guessed tokens cost a request to another server each. Ten in a row have no effect; then the address may ask once in
//! each second until a token of it is active, or ten times if one has been active before, and further requests with
//! unknown tokens are refused. A token about which an answer is known, or that was active, is never refused here. Each
//! worker counts for itself, and the table has a fixed size.

use std::cell::OnceCell;
use std::net::IpAddr;
use std::time::Duration;

use crate::clock;
use crate::issuer::client_auth::back_off::{BackOff, ClientAtAddress};
use crate::network::counted_network;
use crate::trust::introspection::Introspection;
use crate::trust::introspection::places::Asker;

/// After which a question of the address has probably ended.
const PLACE_WAIT: Duration = Duration::from_secs(1);

/// Made when the first token is asked about.
#[derive(Debug, Default)]
pub(crate) struct InactiveTokens(OnceCell<BackOff>);

impl InactiveTokens {
    /// Whether this token of the address may be asked about now. One that was active is asked about again, whatever
    /// others do at the address. The error is the time until it may be.
    pub(crate) fn may_ask(
        &self,
        introspection: &Introspection,
        token: &str,
        address: IpAddr,
    ) -> Result<Asker, Duration> {
        let (back_off, pair) = self.of(address);
        let was_active = introspection.was_active(token);
        if !was_active {
            back_off.admit(pair, clock::instant())?;
        }
        let is_proven = was_active || back_off.has_succeeded(pair, clock::instant());
        let asker = Asker::new(counted_network(address), is_proven);
        if introspection.has_place(token, asker) { Ok(asker) } else { Err(PLACE_WAIT) }
    }

    /// A token of this address was asked about, and was active.
    pub(crate) fn found_active(&self, address: IpAddr) {
        let (back_off, pair) = self.of(address);
        back_off.succeeded(pair, clock::instant());
    }

    /// A token of this address was asked about, and was not active.
    pub(crate) fn found_inactive(&self, address: IpAddr) {
        let (back_off, pair) = self.of(address);
        back_off.failed(pair, clock::instant());
    }

    fn of(&self, address: IpAddr) -> (&BackOff, ClientAtAddress) {
        let back_off = self.0.get_or_init(|| BackOff::new(clock::instant()));
        // The successes of addresses do not share one place: they are kept by the id.
        let network = counted_network(address);
        (back_off, back_off.pair(&network.to_string(), network))
    }
}
