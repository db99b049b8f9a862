//! Limits how often tokens of one address are asked about at an introspection endpoint, after tokens that were not
//! active.
//!
//! Guessed tokens cost a request to another server each. Ten in a row have no effect; then the address may ask once in
//! each second until a token of it is active, and further requests with unknown tokens are refused. A token about which
//! an answer is known is never refused here. Each worker counts for itself, and the table has a fixed size.

use std::cell::OnceCell;
use std::net::IpAddr;
use std::time::Duration;

use crate::clock;
use crate::issuer::client_auth::back_off::{BackOff, ClientAtAddress};
use crate::network::counted_network;

/// Made when the first token is asked about.
#[derive(Debug, Default)]
pub(crate) struct InactiveTokens(OnceCell<BackOff>);

impl InactiveTokens {
    /// Whether a token of this address may be asked about now. The error is the time until one may be.
    pub(crate) fn admit(&self, address: IpAddr) -> Result<(), Duration> {
        let (back_off, pair) = self.of(address);
        back_off.admit(pair, clock::instant())
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
        (back_off, back_off.pair("", counted_network(address)))
    }
}
